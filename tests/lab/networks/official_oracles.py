"""The published networks once more, on weights under the authors' names: naive, and apart from the package's code.

Each function computes scores from two dates ``(B, C, H, W)`` and makes the weights that it asks for as it goes, so that
one call writes down the whole official layout.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class Weights:
    """A state dict that grows with the names and shapes that are asked for."""

    def __init__(self, seed: int = 0) -> None:
        self.state: dict[str, Tensor] = {}
        self.random = torch.Generator().manual_seed(seed)

    def get(self, name: str, *shape: int, spread: float = 1.0, offset: float = 0.0) -> Tensor:
        if name not in self.state:
            self.state[name] = offset + spread * torch.randn(shape, generator=self.random)
        assert self.state[name].shape == shape, name
        return self.state[name]

    def bias(self, name: str, size: int, *, there: bool = True) -> Tensor | None:
        return self.get(f"{name}.bias", size, spread=0.1) if there else None

    def conv(self, x: Tensor, name: str, out: int, k: int = 1, *, bias: bool = True, groups: int = 1, **how) -> Tensor:
        shape = (out, x.shape[1] // groups, k, k)
        weight = self.get(f"{name}.weight", *shape, spread=1 / math.sqrt(math.prod(shape[1:])))
        return F.conv2d(x, weight, self.bias(name, out, there=bias), groups=groups, **{"padding": k // 2, **how})

    def up(self, x: Tensor, name: str, out: int, k: int, **how) -> Tensor:
        weight = self.get(f"{name}.weight", x.shape[1], out, k, k, spread=1 / math.sqrt(x.shape[1] * k))
        return F.conv_transpose2d(x, weight, self.bias(name, out), **how)

    def norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        c = x.shape[1]
        mean, variance = self.get(f"{name}.running_mean", c, spread=0.1), self.get(f"{name}.running_var", c, spread=0.1)
        variance.abs_().add_(0.5 if variance.min() < 0.5 else 0)
        self.state.setdefault(f"{name}.num_batches_tracked", torch.tensor(7))
        weight = self.get(f"{name}.weight", c, spread=0.1, offset=1)
        return F.batch_norm(x, mean, variance, weight, self.bias(name, c), eps=eps)

    def linear(self, x: Tensor, name: str, out: int, *, bias: bool = True) -> Tensor:
        weight = self.get(f"{name}.weight", out, x.shape[-1], spread=1 / math.sqrt(x.shape[-1]))
        return F.linear(x, weight, self.bias(name, out, there=bias))

    def layer_norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        c = x.shape[-1]
        return F.layer_norm(x, (c,), self.get(f"{name}.weight", c, spread=0.1, offset=1), self.bias(name, c), eps)


def _two(classes: Tensor) -> Tensor:
    return classes[:, 1:] - classes[:, :1]


def fc(w: Weights, before: Tensor, after: Tensor, kind: str) -> Tensor:
    widths, counts = (16, 32, 64, 128), (2, 2, 3, 3)

    def encode(x: Tensor) -> tuple[list[Tensor], Tensor]:
        skips = []
        for level, (width, count) in enumerate(zip(widths, counts, strict=True), 1):
            for unit in range(1, count + 1):
                x = F.relu(w.norm(w.conv(x, f"conv{level}{unit}", width, 3), f"bn{level}{unit}"))
            skips.append(x)
            x = F.max_pool2d(x, 2)
        return skips, x

    if kind == "ef":
        skips, x = encode(torch.cat([before, after], 1))
    else:
        firsts, _ = encode(before)
        seconds, x = encode(after)
        pairs = zip(firsts, seconds, strict=True)
        skips = [torch.cat(pair, 1) if kind == "conc" else (pair[0] - pair[1]).abs() for pair in pairs]
    for level in (4, 3, 2, 1):
        x = torch.cat(
            [w.up(x, f"upconv{level}", x.shape[1], 3, stride=2, padding=1, output_padding=1), skips[level - 1]], 1
        )
        for unit in range(counts[level - 1], 1 if level == 1 else 0, -1):
            out = widths[level - 2] if unit == 1 else widths[level - 1]
            x = F.relu(w.norm(w.up(x, f"conv{level}{unit}d", out, 3, padding=1), f"bn{level}{unit}d"))
    return _two(F.log_softmax(w.up(x, "conv11d", 2, 3, padding=1), 1))


def snunet(w: Weights, before: Tensor, after: Tensor, n: int, pool: str) -> Tensor:
    """``pool``: of ECAM; empty: without it."""

    def block(x: Tensor, name: str, out: int) -> Tensor:
        first = w.conv(x, f"{name}.conv1", out, 3)
        hidden = F.relu(w.norm(first, f"{name}.bn1"))
        return F.relu(w.norm(w.conv(hidden, f"{name}.conv2", out, 3), f"{name}.bn2") + first)

    def encode(x: Tensor, levels: int) -> list[Tensor]:
        maps = []
        for i in range(levels):
            maps.append(block(F.max_pool2d(maps[-1], 2) if maps else x, f"conv{i}_0", n * 2**i))
        return maps

    a, b = encode(before, 4), encode(after, 5)
    grid = {(i, 0): x for i, x in enumerate(b)}
    for j in range(1, 5):
        for i in range(5 - j):
            below = grid[i + 1, j - 1]
            up = w.up(below, f"Up{i + 1}_{j - 1}.up", below.shape[1], 2, stride=2)
            between = [grid[i, k] for k in range(1, j)]
            grid[i, j] = block(torch.cat([a[i], b[i], *between, up], 1), f"conv{i}_{j}", n * 2**i)
    top = [grid[0, j] for j in range(1, 5)]
    if not pool:
        scores = [w.conv(x, f"final{k}", 2) for k, x in enumerate(top, 1)]
        return _two(w.conv(torch.cat(scores, 1), "conv_final", 2))
    together = torch.cat(top, 1)
    ca1 = torch.sigmoid(_shared(w, sum(top[1:], top[0]), "ca1", 4, pool))
    return _two(
        w.conv(
            torch.sigmoid(_shared(w, together, "ca", 16, pool)) * (together + ca1.repeat(1, 4, 1, 1)), "conv_final", 2
        )
    )


def _shared(w: Weights, x: Tensor, name: str, ratio: int, pool: str = "max") -> Tensor:
    mean, peak = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
    total = torch.zeros(())
    for pooled in (mean, peak if pool == "max" else mean):
        hidden = F.relu(w.conv(pooled, f"{name}.fc1", x.shape[1] // ratio, bias=False))
        total = total + w.conv(hidden, f"{name}.fc2", x.shape[1], bias=False)
    return total


def resnet18(
    w: Weights, x: Tensor, name: str, dilations: tuple[tuple[int, ...], ...], strides: tuple[int, ...]
) -> list[Tensor]:
    x = F.relu(w.norm(w.conv(x, f"{name}.conv1", 64, 7, bias=False, stride=2), f"{name}.bn1"))
    x, levels = F.max_pool2d(x, 3, 2, 1), []
    for stage, (blocks, stride) in enumerate(zip(dilations, strides, strict=True)):
        for j, d in enumerate(blocks):
            key, out, step = f"{name}.layer{stage + 1}.{j}", 64 * 2**stage, stride if j == 0 else 1
            shortcut = x
            if step != 1 or x.shape[1] != out:
                shortcut = w.conv(x, f"{key}.downsample.0", out, bias=False, stride=step)
                shortcut = w.norm(shortcut, f"{key}.downsample.1")
            x = w.conv(x, f"{key}.conv1", out, 3, bias=False, stride=step, padding=d, dilation=d)
            x = F.relu(w.norm(x, f"{key}.bn1"))
            x = F.relu(w.norm(w.conv(x, f"{key}.conv2", out, 3, bias=False), f"{key}.bn2") + shortcut)
        levels.append(x)
    return levels


def bit(w: Weights, before: Tensor, after: Tensor, depth: int, width: int) -> Tensor:
    def features(x: Tensor) -> Tensor:
        x = resnet18(w, x, "resnet", ((1, 1), (1, 1), (1, 1)), (1, 2, 1))[-1]
        return w.conv(F.interpolate(x, scale_factor=2), "conv_pred", 32, 3)

    def attend(q: Tensor, k: Tensor, v: Tensor, name: str) -> Tensor:
        out = []
        for head in range(8):
            size = q.shape[2] // 8
            part = slice(head * size, (head + 1) * size)
            out.append((q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(32)).softmax(-1) @ v[..., part])
        return w.linear(torch.cat(out, 2), f"{name}.0.fn.fn.to_out.0", 32)

    def mlp(x: Tensor, name: str) -> Tensor:
        hidden = F.gelu(w.linear(w.layer_norm(x, f"{name}.1.fn.norm"), f"{name}.1.fn.fn.net.0", 64))
        return x + w.linear(hidden, f"{name}.1.fn.fn.net.3", 32)

    maps = [features(before), features(after)]
    tokens = []
    for x in maps:
        weights = w.conv(x, "conv_a", 4, bias=False).flatten(2).softmax(2)
        tokens.append(weights @ x.flatten(2).transpose(1, 2))
    both = torch.cat(tokens, 1) + w.get("pos_embedding", 1, 8, 32)
    name = "transformer.layers.0"
    qkv = w.linear(w.layer_norm(both, f"{name}.0.fn.norm"), f"{name}.0.fn.fn.to_qkv", 3 * 512, bias=False)
    both = mlp(both + attend(*qkv.chunk(3, 2), name), name)
    refined = []
    for x, own in zip(maps, (both[:, :4], both[:, 4:]), strict=True):
        pixels = x.flatten(2).transpose(1, 2)
        for i in range(depth):
            name = f"transformer_decoder.layers.{i}"
            queries, memory = (w.layer_norm(y, f"{name}.0.fn.norm") for y in (pixels, own))
            parts = [
                w.linear(y, f"{name}.0.fn.fn.to_{which}", 8 * width, bias=False)
                for which, y in (("q", queries), ("k", memory), ("v", memory))
            ]
            pixels = mlp(pixels + attend(*parts, name), name)
        refined.append(pixels.transpose(1, 2).reshape(x.shape))
    x = F.interpolate((refined[0] - refined[1]).abs(), scale_factor=4, mode="bilinear")
    x = F.relu(w.norm(w.conv(x, "classifier.0", 32, 3, bias=False), "classifier.1"))
    return _two(w.conv(x, "classifier.3", 2, 3))


def stanet(f: Weights, a: Weights, before: Tensor, after: Tensor, attention: str) -> Tensor:
    """Distance at full size; ``f`` and ``a`` are the authors' two files."""

    def features(x: Tensor) -> Tensor:
        levels = resnet18(f, x, "module.backbone", ((1, 1), (1, 1), (1, 1), (1, 2, 4)), (1, 2, 2, 2))
        maps = []
        for k, level in enumerate(levels, 2):
            y = F.relu(
                f.norm(f.conv(level, f"module.decoder.dr{k}.conv1", 96, bias=False), f"module.decoder.dr{k}.bn1")
            )
            maps.append(F.interpolate(y, size=levels[0].shape[2:], mode="bilinear", align_corners=True))
        x = torch.cat([maps[3], *maps[:3]], 1)
        last = "module.decoder.last_conv"
        x = F.relu(f.norm(f.conv(x, f"{last}.0", 256, 3, bias=False), f"{last}.1"))
        return F.relu(f.norm(f.conv(x, f"{last}.4", 64, bias=False), f"{last}.5"))

    one, two = features(before), features(after)
    if attention != "base":
        both = torch.cat([one, two], 3)
        both = _basic(a, both) if attention == "bam" else _pyramid(a, both)
        one, two = both[..., : one.shape[3]], both[..., one.shape[3] :]
    distance = F.pairwise_distance(one.movedim(1, -1), two.movedim(1, -1))[:, None]
    return F.interpolate(distance, size=before.shape[2:], mode="bilinear", align_corners=True)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flat tokens ``(B, C, N)``."""
    return v @ (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(2).transpose(1, 2)


def _basic(a: Weights, x: Tensor) -> Tensor:
    q, k, v = (a.conv(x, f"Self_Att.{n}_conv", c).flatten(2) for n, c in (("query", 8), ("key", 8), ("value", 64)))
    a.get("Self_Att.gamma", 1)
    return x + _attended(q, k, v).reshape(x.shape)


def _pyramid(a: Weights, x: Tensor) -> Tensor:
    branches, width = [], x.shape[3] // 2
    for i, parts in enumerate((1, 2, 4, 8)):
        name = f"Self_Att.stages.{i}"
        q, k = (a.norm(a.conv(x, f"{name}.f_{n}.0", 8), f"{name}.f_{n}.1") for n in ("query", "key"))
        v = a.conv(x, f"{name}.f_value", 64)
        out = torch.zeros_like(v)
        rows, cols = x.shape[2] // parts, width // parts
        for r in range(parts):
            for c in range(parts):
                where = [(slice(r * rows, (r + 1) * rows), slice(s + c * cols, s + (c + 1) * cols)) for s in (0, width)]
                tokens = [torch.cat([y[:, :, i, j].flatten(2) for i, j in where], 2) for y in (q, k, v)]
                for (i_, j_), half in zip(where, _attended(*tokens).chunk(2, 2), strict=True):
                    out[:, :, i_, j_] = half.reshape(*half.shape[:2], rows, cols)
        branches.append(out)
    return a.conv(torch.cat(branches, 1), "Self_Att.conv_bn.0", 64, bias=False)


def dasnet(w: Weights, before: Tensor, after: Tensor, backbone: str) -> Tensor:
    """Distance of the third embedding at full size."""
    extract = _resnet50 if backbone == "resnet50" else _deeplab_vgg
    one, two = (_danet(w, extract(w, x), backbone) for x in (before, after))
    distance = F.pairwise_distance(one.movedim(1, -1), two.movedim(1, -1))[:, None]
    return F.interpolate(distance, size=before.shape[2:], mode="bilinear", align_corners=True)


def _resnet50(w: Weights, x: Tensor) -> Tensor:
    name = "CNN.pretrained"
    x = F.max_pool2d(F.relu(w.norm(w.conv(x, f"{name}.conv1", 64, 7, bias=False, stride=2), f"{name}.bn1")), 3, 2, 1)
    for stage, (blocks, stride, first, rest) in enumerate(((3, 1, 1, 1), (4, 2, 1, 1), (6, 1, 1, 2), (3, 1, 2, 4))):
        inner = 64 * 2**stage
        for j in range(blocks):
            key, step, d, shortcut = f"{name}.layer{stage + 1}.{j}", stride if j == 0 else 1, rest if j else first, x
            if j == 0:
                shortcut = w.norm(
                    w.conv(x, f"{key}.downsample.0", 4 * inner, bias=False, stride=step), f"{key}.downsample.1"
                )
            x = F.relu(w.norm(w.conv(x, f"{key}.conv1", inner, bias=False), f"{key}.bn1"))
            x = w.conv(x, f"{key}.conv2", inner, 3, bias=False, stride=step, padding=d, dilation=d)
            x = F.relu(w.norm(x, f"{key}.bn2"))
            x = F.relu(w.norm(w.conv(x, f"{key}.conv3", 4 * inner, bias=False), f"{key}.bn3") + shortcut)
    w.get(f"{name}.fc.weight", 10, 2048)
    return x


def _deeplab_vgg(w: Weights, x: Tensor) -> Tensor:
    for block, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for i in range(count):
            d = 2 if block == 5 else 1
            x = F.relu(w.conv(x, f"CNN.conv{block}.{2 * i}", width, 3, padding=d, dilation=d))
        if block < 5:
            x = F.max_pool2d(x, 3, 2 if block < 4 else 1, 1, ceil_mode=True)
    for name in ("fc6_1.0", "fc7_4.0", "embedding_layer"):
        w.get(f"CNN.{name}.weight", 2, 2)
    return x


def _danet(w: Weights, x: Tensor, backbone: str) -> Tensor:
    head, c = ("CNN.head", 512) if backbone == "resnet50" else ("CNN", 128)

    def unit(x: Tensor, name: str) -> Tensor:
        x = w.conv(x, f"{head}.{name}.0", c, 3, bias=False)
        return F.relu(w.norm(x, f"{head}.{name}.1") if backbone == "resnet50" else x)

    position = unit(x, "conv5a")
    q, k, v = (
        w.conv(position, f"{head}.sa.{n}_conv", size).flatten(2)
        for n, size in (("query", c // 8), ("key", c // 8), ("value", c))
    )
    gathered = v @ (q.transpose(1, 2) @ k).softmax(2).transpose(1, 2)
    position = unit(w.get(f"{head}.sa.gamma", 1) * gathered.reshape(position.shape) + position, "conv51")
    channel = unit(x, "conv5c")
    flat = channel.flatten(2)
    likeness = flat @ flat.transpose(1, 2)
    mixed = (likeness.amax(2, keepdim=True) - likeness).softmax(2) @ flat
    channel = unit(w.get(f"{head}.sc.gamma", 1) * mixed.reshape(channel.shape) + channel, "conv52")
    for name, y in (("conv6", position), ("conv7", channel)):
        w.conv(y, f"{head}.{name}.1", c)
    return F.normalize(w.conv(position + channel, f"{head}.conv8.1", c), dim=1)


def ifn(w: Weights, before: Tensor, after: Tensor) -> Tensor:
    """Probability at full size."""

    def vgg(x: Tensor) -> list[Tensor]:
        levels = []
        for numbers, width in zip(
            ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), (64, 128, 256, 512, 512), strict=True
        ):
            x = F.max_pool2d(x, 2) if levels else x
            for number in numbers:
                x = F.relu(w.conv(x, f"t1_base.features.{number}", width, 3))
            levels.append(x)
        return levels[::-1]

    x, out = torch.zeros(()), torch.zeros(())
    widths = ((512, 512), (512, 256, 256), (256, 128, 128), (128, 64, 64), (64, 32, 16))
    for k, (f1, f2, sizes) in enumerate(zip(vgg(before), vgg(after), widths, strict=True), 1):
        if k == 1:
            x = torch.cat([f1, f2], 1)
        else:
            x = torch.cat([w.up(x, f"trans_conv{k - 1}", x.shape[1], 2, stride=2), f1, f2], 1)
            x = torch.sigmoid(_shared(w, x, f"ca{k}", 8)) * x
        for i, size in enumerate(sizes, 1):
            x = w.conv(x, f"o{k}_conv{i}.0", size, 3)
            slope = w.get(f"o{k}_conv{i}.1.weight", 1, spread=0.1, offset=0.25)
            x = w.norm(torch.where(x > 0, x, slope * x), f"o{k}_conv{i}.2")
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        x = w.norm(torch.sigmoid(w.conv(summary, f"sa{k}.conv1", 1, 7, bias=False)) * x, f"bn_sa{k}")
        out = torch.sigmoid(w.conv(x, f"o{k}_conv{len(sizes) + 1}", 1))
    for key in [key for key in w.state if key.startswith("t1_base.")]:
        w.state[key.replace("t1_", "t2_")] = w.state[key].clone()
    w.get("ca1.fc1.weight", 128, 1024, 1, 1)
    for key in ("bn_ca1", "bn_ca2"):
        w.get(f"{key}.weight", 3)
    return out


def sfearnet(w: Weights, before: Tensor, after: Tensor) -> Tensor:
    """Scores at full size, for images with blue first; size b0."""
    widths = (32, 64, 160, 256)
    levels = [
        _merged(w, f1, f2, f"py{k}") for k, (f1, f2) in enumerate(zip(_mit(w, before), _mit(w, after), strict=True), 1)
    ]
    fine = _twice(w, levels[0], "eg.ea.conv_channel1", 32, 3)
    deep = _twice(w, levels[3], "eg.ea.conv_channel2", 256, 3)
    x = torch.cat([_flowed(w, deep, fine, "eg.ea.sef"), fine], 1)
    x = _twice(w, _twice(w, x, "eg.ea.doubleconv.conv1", 576, 3), "eg.ea.doubleconv.conv2", 576, 3)
    edges = w.norm(w.conv(x, "eg.ea.conv1.0", 2), "eg.ea.conv1.1")
    gate = torch.sigmoid(w.norm(w.conv(edges, "eg.conv2_1.0", 1), "eg.conv2_1.1"))
    refined = []
    for k, level in enumerate(levels, 1):
        refined.append(_cbam(w, level * gate + level, f"eg.ca{k}"))
        gate = F.max_pool2d(gate, 2)
    maps = []
    for k, level in enumerate(refined, 1):
        flat = w.linear(level.flatten(2).transpose(1, 2), f"decode_head.linear_c{k}.proj", 256)
        y = flat.transpose(1, 2).reshape(len(level), 256, *level.shape[2:])
        maps.append(y if k == 1 else _flowed(w, y, refined[0], f"decode_head.sef{5 - k}"))
    assert [level.shape[1] for level in levels] == list(widths)
    x = w.conv(torch.cat(maps[::-1], 1), "decode_head.linear_fuse.conv", 256, bias=False)
    x = w.conv(F.relu(w.norm(x, "decode_head.linear_fuse.bn", 1e-3)), "decode_head.linear_pred", 2)
    return _two(F.interpolate(x, size=before.shape[2:], mode="bilinear", align_corners=True))


def _mit(w: Weights, x: Tensor) -> list[Tensor]:
    levels = []
    for k, (c, heads, reduction) in enumerate(zip((32, 64, 160, 256), (1, 2, 5, 8), (8, 4, 2, 1), strict=True), 1):
        x = w.conv(x, f"backbone.patch_embed{k}.proj", c, *(7,) if k == 1 else (3,), stride=4 if k == 1 else 2)
        batch, size = len(x), x.shape[2:]

        def image(tokens: Tensor, channels: int, batch: int = batch, size: torch.Size = size) -> Tensor:
            return tokens.transpose(1, 2).reshape(batch, channels, *size)

        t = w.layer_norm(x.flatten(2).transpose(1, 2), f"backbone.patch_embed{k}.norm")
        for j in range(2):
            name = f"backbone.block{k}.{j}"
            y = w.layer_norm(t, f"{name}.norm1", 1e-6)
            source = y
            if reduction > 1:
                small = w.conv(image(y, c), f"{name}.attn.sr", c, reduction, stride=reduction, padding=0)
                source = w.layer_norm(small.flatten(2).transpose(1, 2), f"{name}.attn.norm")
            q, (key, value) = w.linear(y, f"{name}.attn.q", c), w.linear(source, f"{name}.attn.kv", 2 * c).chunk(2, 2)
            parts = []
            for h in range(heads):
                part = slice(h * c // heads, (h + 1) * c // heads)
                likeness = q[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(c // heads)
                parts.append(likeness.softmax(2) @ value[..., part])
            t = t + w.linear(torch.cat(parts, 2), f"{name}.attn.proj", c)
            y = w.linear(w.layer_norm(t, f"{name}.norm2", 1e-6), f"{name}.mlp.fc1", 4 * c)
            y = w.conv(image(y, 4 * c), f"{name}.mlp.dwconv.dwconv", 4 * c, 3, groups=4 * c).flatten(2).transpose(1, 2)
            t = t + w.linear(F.gelu(y, approximate="tanh"), f"{name}.mlp.fc2", c)
        x = image(w.layer_norm(t, f"backbone.norm{k}", 1e-6), c)
        levels.append(x)
    return levels


def _twice(w: Weights, x: Tensor, name: str, out: int, k: int, *, bias: bool = True, d: int = 1) -> Tensor:
    c = x.shape[1]
    x = w.conv(x, f"{name}.0", c, k, groups=c, bias=bias, padding=d * (k // 2), dilation=d)
    x = F.relu(w.norm(x, f"{name}.1"))
    return F.relu(w.norm(w.conv(x, f"{name}.3", out, bias=bias), f"{name}.4"))


def _cbam(w: Weights, x: Tensor, name: str) -> Tensor:
    x = x * torch.sigmoid(_shared(w, x, f"{name}.ca", 16))
    summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * torch.sigmoid(w.conv(summary, f"{name}.sa.conv1", 1, 7, bias=False))


def _merged(w: Weights, f1: Tensor, f2: Tensor, name: str) -> Tensor:
    c, gap = f1.shape[1], (f1 - f2).abs()
    branches = [_twice(w, gap, f"{name}.pe.branch{i}", c, 3, bias=i == 1, d=d) for i, d in enumerate((1, 1, 4, 8), 1)]
    mean = F.relu(w.norm(w.conv(gap.mean((2, 3), keepdim=True), f"{name}.pe.branch5_conv", c), f"{name}.pe.branch5_bn"))
    joined = torch.cat([*branches, mean.expand_as(gap)], 1)
    pyramid = _twice(w, joined, f"{name}.pe.conv_cat", c, 1, bias=False)
    return pyramid + gap + _cbam(w, _twice(w, torch.cat([f1, f2], 1), f"{name}.conv", c, 1), f"{name}.cbam")


def _flowed(w: Weights, coarse: Tensor, fine: Tensor, name: str) -> Tensor:
    height, width = fine.shape[2:]
    low = w.conv(fine, f"{name}.down_l", fine.shape[1], bias=False)
    high = w.conv(coarse, f"{name}.down_h", fine.shape[1], bias=False)
    high = F.interpolate(high, size=(height, width), mode="bilinear", align_corners=False)
    flow = w.conv(torch.cat([high, low], 1), f"{name}.flow_make", 2, 3, bias=False)
    rows, cols = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    place = torch.stack([cols, rows], 2) + flow.permute(0, 2, 3, 1) / torch.tensor([width, height])
    return F.grid_sample(coarse, place, align_corners=False) + F.interpolate(
        coarse, size=(height, width), mode="bilinear", align_corners=False
    )
