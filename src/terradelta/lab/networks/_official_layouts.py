"""How the authors' code names each weight of a network here, and what it does around the network.

Read in the official repositories: ``rcdaudt/fully_convolutional_change_detection``, ``likyoo/Siam-NestedUNet``,
``justchenhao/STANet``, ``lehaifeng/DASNet``, ``GeoZcx/A-deeply-supervised-image-fusion-network-...``,
``miao-0417/SFEARNet``; BIT's names in copies of ``justchenhao/BIT_CD``. Rules go from our names to theirs.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from terradelta.errors import ModelError
from terradelta.lab.networks._sfearnet_mit import FIRST, published_name
from terradelta.lab.networks.foreign import Foreign

__all__ = ["LAYOUTS", "RGB", "Layout", "Rule", "Scaling"]

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""Pattern of our name, and the authors' name."""
RGB = ("red", "green", "blue")
VGG_BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Numbers of the convolutions of each block among VGG16's layers."""


@dataclass(frozen=True)
class Scaling:
    """What the authors' code does to 8-bit images: ``(value / 255 - mean) / std``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: tuple[str, ...] = RGB
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the network that belong to it."""


@dataclass(frozen=True)
class Layout:
    """How the official checkpoint of a method is laid out, and what its code does around the network."""

    arguments: Callable[[Foreign], dict[str, Any]]
    """Arguments of our builder, from the shapes in the file."""
    rules: tuple[Rule, ...]
    mark: str
    """A weight that the file must have: what the method is known by."""
    source: str
    """Where the authors' file lies, and for what data it was trained."""
    licence: str
    """What the authors' repository states."""
    unused: Mapping[str, str] = field(default_factory=dict)
    """Patterns of names that are left out, and why."""
    scalings: Mapping[str, Scaling] = field(default_factory=dict)
    """By a name, if there are several; empty: the code holds none that a card could."""
    turned: tuple[str, ...] = ()
    """Our first convolution, if the authors' takes blue first; one for each kind of encoder."""
    threshold: str = "the class with the higher score: probability 0.5"
    prefixes: tuple[str, ...] = ()
    """Beginnings of names in the file that say nothing; the first that fits is taken off."""
    assumed: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that the file need not tell."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """What it does not tell; under an argument's name, where one is assumed that the file or the user may give."""


HALVES = Scaling((0.5,) * 3, (0.5,) * 3)
STORED = Scaling((0.0,) * 3, (1 / 255,) * 3)
"""0 to 255, as the files have it."""


def _per_date(first: Sequence[float], second: Sequence[float]) -> Scaling:
    """Means of each date, blue first, in units of 8-bit values, as DASNet's code has them."""
    shift = tuple(round(b - a, 4) for a, b in zip(first[::-1], second[::-1], strict=True))
    return Scaling(tuple(m / 255 for m in first[::-1]), (1 / 255,) * 3, arguments={"after_shift": shift})


# ---------------------------------------------------------------------------------------------- the FC networks


def _fc_decoder(found: re.Match[str]) -> str:
    level, unit, part, kind = found.groups()
    units = 2 if level == "1" else 3
    return f"{'conv' if part == '0' else 'bn'}{int(level) + 1}{units - int(unit)}d.{kind}"


FC_RULES: tuple[Rule, ...] = (
    (r"encoder\.levels\.(\d)\.(\d)\.0\.(.+)", lambda m: f"conv{int(m[1]) + 1}{int(m[2]) + 1}.{m[3]}"),
    (r"encoder\.levels\.(\d)\.(\d)\.1\.(.+)", lambda m: f"bn{int(m[1]) + 1}{int(m[2]) + 1}.{m[3]}"),
    (r"decoder\.ups\.(\d)\.(.+)", lambda m: f"upconv{int(m[1]) + 1}.{m[2]}"),
    (r"decoder\.blocks\.0\.0\.(.+)", r"conv12d.\1"),
    (r"decoder\.blocks\.0\.1\.(.+)", r"bn12d.\1"),
    (r"decoder\.blocks\.(\d)\.(\d)\.([01])\.(.+)", _fc_decoder),
    (r"decoder\.head\.(.+)", r"conv11d.\1"),
)


def _fc(streams: int) -> Layout:
    """``streams``: dates that the first convolution sees at once."""
    return Layout(
        arguments=lambda found: {"in_channels": found.tensors["conv11.weight"].shape[1] // streams},
        rules=FC_RULES,
        mark="conv11d.weight",
        source="no file was published; state dicts of github.com/rcdaudt/fully_convolutional_change_detection",
        licence="none stated: all rights are the authors'; weights carry the limits of the data they were fitted on",
        unknown={"scaling": "the mean and deviation: the official code scales every image by its own"},
    )


# ---------------------------------------------------------------------------------------------- SNUNet


def _snunet(found: Foreign) -> dict[str, Any]:
    """A whole module says which layer its maximum was; a state dict does not."""
    kernel = found.tensors["conv0_0.conv1.weight"]
    ecam = "ca.fc1.weight" in found.tensors
    options: dict[str, Any] = {"in_channels": kernel.shape[1], "width": kernel.shape[0], "ecam": ecam}
    kind = found.kinds.get("ca.max_pool")
    if kind is not None or not ecam:
        options["ecam_pool"] = "mean" if kind == "AdaptiveAvgPool2d" else "max"
    return options


SNUNET = Layout(
    arguments=_snunet,
    rules=(
        (r"encoder\.(\d)\.(.+)", r"conv\1_0.\2"),
        (r"blocks\.(\d_\d)\.(.+)", r"conv\1.\2"),
        (r"ups\.(\d)_(\d)\.(.+)", lambda m: f"Up{int(m[1]) + 1}_{int(m[2]) - 1}.up.{m[3]}"),
        (r"top\.intra\.(.+)", r"ca1.\1"),
        (r"top\.inter\.(.+)", r"ca.\1"),
        (r"top\.(?:head|fuse)\.(.+)", r"conv_final.\1"),
        (r"top\.heads\.(\d)\.(.+)", lambda m: f"final{int(m[1]) + 1}.{m[2]}"),
    ),
    mark="conv0_0.conv1.weight",
    source="github.com/likyoo/Siam-NestedUNet (Google Drive, Baidu), trained on CDD",
    licence="MIT for the code; the weights were fitted on CDD, whose terms bind",
    scalings={"stored": STORED},
    assumed={"ecam_pool": "mean"},
    unknown={
        "ecam_pool": "whether ECAM's second pool is a mean, as in the released weights, or a maximum, as in code since "
        "May 2021: a state dict has no word of it, and mean was taken; snunet:ecam_pool=max takes the other"
    },
)

# ---------------------------------------------------------------------------------------------- BIT


def _bit(found: Foreign) -> dict[str, Any]:
    pattern = r"transformer_decoder\.layers\.\d+\.0\.fn\.fn\.to_q\.weight"
    queries = [value for key, value in found.tensors.items() if re.fullmatch(pattern, key)]
    if not queries:
        raise ModelError("the file has no transformer_decoder; BIT's variants without one are no networks here")
    return {
        "in_channels": found.tensors["resnet.conv1.weight"].shape[1],
        "decoder_depth": len(queries),
        "decoder_head_width": queries[0].shape[0] // 8,
    }


def _bit_layer(own: str, theirs: str, kind: str) -> tuple[Rule, ...]:
    """Names inside a layer of the encoder or the decoder of tokens."""
    return (
        (rf"{own}\.norm1\.(.+)", rf"{theirs}.0.fn.norm.{kind}"),
        (rf"{own}\.attention\.out\.(.+)", rf"{theirs}.0.fn.fn.to_out.0.{kind}"),
        (rf"{own}\.norm2\.(.+)", rf"{theirs}.1.fn.norm.{kind}"),
        (rf"{own}\.mlp\.0\.(.+)", rf"{theirs}.1.fn.fn.net.0.{kind}"),
        (rf"{own}\.mlp\.2\.(.+)", rf"{theirs}.1.fn.fn.net.3.{kind}"),
    )


BIT = Layout(
    arguments=_bit,
    rules=(
        (r"encoder\.(.+)", r"resnet.\1"),
        (r"project\.(.+)", r"conv_pred.\1"),
        (r"tokenizer\.maps\.(.+)", r"conv_a.\1"),
        (r"positions", "pos_embedding"),
        (r"context\.attention\.query\.weight", "transformer.layers.0.0.fn.fn.to_qkv.weight#0"),
        (r"context\.attention\.key\.weight", "transformer.layers.0.0.fn.fn.to_qkv.weight#1"),
        (r"context\.attention\.value\.weight", "transformer.layers.0.0.fn.fn.to_qkv.weight#2"),
        *_bit_layer("context", "transformer.layers.0", r"\1"),
        (r"decoder\.(\d+)\.attention\.query\.(.+)", r"transformer_decoder.layers.\1.0.fn.fn.to_q.\2"),
        (r"decoder\.(\d+)\.attention\.key\.(.+)", r"transformer_decoder.layers.\1.0.fn.fn.to_k.\2"),
        (r"decoder\.(\d+)\.attention\.value\.(.+)", r"transformer_decoder.layers.\1.0.fn.fn.to_v.\2"),
        *_bit_layer(r"decoder\.(\d+)", r"transformer_decoder.layers.\1", r"\2"),
        (r"head\.(.+)", r"classifier.\1"),
    ),
    mark="transformer.layers.0.0.fn.fn.to_qkv.weight",
    source="github.com/justchenhao/BIT_CD, checkpoints/BIT_LEVIR/best_ckpt.pt, trained on LEVIR-CD",
    licence="non-commercial and research purposes only (the repository's README); fitted on LEVIR-CD, whose terms bind",
    unused={
        r"resnet\.layer4\..+": "ResNet-18's last stage, which the official network never uses",
        r"resnet\.fc\..+": "ImageNet's classifier",
    },
    scalings={"halves": HALVES},
)

# ---------------------------------------------------------------------------------------------- STANet


def _stanet(found: Foreign) -> dict[str, Any]:
    pyramid, basic = "Self_Att.conv_bn.0.weight" in found.tensors, "Self_Att.query_conv.weight" in found.tensors
    return {
        "in_channels": found.tensors["backbone.conv1.weight"].shape[1],
        "attention": "pam" if pyramid else "bam" if basic else "base",
    }


STANET = Layout(
    arguments=_stanet,
    rules=(
        (r"encoder\.(.+)", r"backbone.\1"),
        (r"extractor\.reduce\.(\d)\.0\.(.+)", lambda m: f"decoder.dr{int(m[1]) + 2}.conv1.{m[2]}"),
        (r"extractor\.reduce\.(\d)\.1\.(.+)", lambda m: f"decoder.dr{int(m[1]) + 2}.bn1.{m[2]}"),
        (r"extractor\.fuse\.0\.([01])\.(.+)", r"decoder.last_conv.\1.\2"),
        (r"extractor\.fuse\.2\.([01])\.(.+)", lambda m: f"decoder.last_conv.{int(m[1]) + 4}.{m[2]}"),
        (r"attention\.branches\.(\d)\.(query|key|value)\.(.+)", r"Self_Att.stages.\1.f_\2.\3"),
        (r"attention\.fuse\.(.+)", r"Self_Att.conv_bn.0.\1"),
        (r"attention\.(query|key|value)\.(.+)", r"Self_Att.\1_conv.\2"),
    ),
    mark="backbone.layer4.2.conv1.weight",
    source="github.com/justchenhao/STANet, pam_net_F.pth and pam_net_A.pth (Google Drive, Baidu), trained on LEVIR-CD",
    licence="BSD-2-Clause for the code; the weights were fitted on LEVIR-CD, whose terms bind",
    unused={r"Self_Att\.gamma": "a residual weight that the official network never uses"},
    scalings={"halves": HALVES},
    threshold="distance 1: probability 0.5",
    assumed={"pool": 1},
    unknown={"pool": "whether attention worked on pooled features (ds): the file has no word of it, and 1 was taken"},
)

# ---------------------------------------------------------------------------------------------- DASNet


def _dasnet(found: Foreign) -> dict[str, Any]:
    return {"backbone": "vgg16" if "conv1.0.weight" in found.tensors else "resnet50"}


def _dasnet_vgg(found: re.Match[str]) -> str:
    number = int(found[1])
    block = next(i for i, layers in enumerate(VGG_BLOCKS) if number in layers)
    return f"conv{block + 1}.{number - VGG_BLOCKS[block][0]}.{found[2]}"


DASNET = Layout(
    arguments=_dasnet,
    rules=(
        (r"encoder\.features\.(\d+)\.(.+)", _dasnet_vgg),
        (r"encoder\.(.+)", r"\1"),
        (r"head\.position\.0\.(.+)", r"conv5a.\1"),
        (r"head\.position\.1\.(query|key|value)\.(.+)", r"sa.\1_conv.\2"),
        (r"head\.position\.1\.(.+)", r"sa.\1"),
        (r"head\.position\.2\.(.+)", r"conv51.\1"),
        (r"head\.channel\.0\.(.+)", r"conv5c.\1"),
        (r"head\.channel\.1\.(.+)", r"sc.\1"),
        (r"head\.channel\.2\.(.+)", r"conv52.\1"),
        (r"head\.embed_position\.(.+)", r"conv6.\1"),
        (r"head\.embed_channel\.(.+)", r"conv7.\1"),
        (r"head\.embed_sum\.(.+)", r"conv8.\1"),
    ),
    prefixes=("CNN.head.", "CNN.pretrained.", "CNN."),
    mark="sa.gamma",
    source="github.com/lehaifeng/DASNet (Google Drive, Baidu), trained on CDD or on BCDD",
    licence="none stated: all rights are the authors'; the weights were fitted on CDD or BCDD, whose terms bind",
    unused={
        r"fc\..+": "ImageNet's classifier",
        r"(fc[67]_[1-4]|embedding_layer)\..+": "parts of DeepLab that the official network never uses",
    },
    scalings={
        "cdd": _per_date((87.72, 100.2, 90.43), (120.24, 127.93, 121.18)),
        "bcdd": _per_date((98.62, 113.27, 123.59), (117.38, 123.09, 123.20)),
    },
    turned=("encoder.conv1.weight", "encoder.features.0.weight"),
    threshold="the best of 0 to 1 on the evaluated images themselves; distance 1, probability 0.5, was taken",
    unknown={"threshold": "the threshold: the official code takes the one that is best on the images it is scored on"},
)

# ---------------------------------------------------------------------------------------------- IFN


def _ifn(found: Foreign) -> dict[str, Any]:
    tensors = found.tensors
    if "sa.conv1.weight" in tensors:
        raise ModelError(
            "the file has one spatial attention for all stages: it is of the code before March 2021, whose channel "
            "attention differs too; this package has the network since then"
        )
    for key, value in tensors.items():
        other = tensors.get(key.replace("t1_base.", "t2_base.")) if key.startswith("t1_base.") else None
        if other is not None and not torch.equal(value, other):
            raise ModelError(f"{key} differs between the dates: two encoders, where IFN here has one for both")
    return {}


def _ifn_conv(found: re.Match[str]) -> str:
    stage, unit, part, kind = found.groups()
    return f"o{_ifn_stage(stage)}_conv{int(unit) + 1}.{part}.{kind}"


def _ifn_stage(text: str) -> int:
    return 1 if text == "first" else int(text.split(".")[1]) + 2


_STAGE = r"(first|stages\.\d\.stage)"
IFN = Layout(
    arguments=_ifn,
    rules=(
        (r"encoder\.(.+)", r"t1_base.\1"),
        (rf"{_STAGE}\.convs\.(\d)\.(\d)\.(.+)", _ifn_conv),
        (rf"{_STAGE}\.spatial\.conv\.(.+)", lambda m: f"sa{_ifn_stage(m[1])}.conv1.{m[2]}"),
        (rf"{_STAGE}\.norm\.(.+)", lambda m: f"bn_sa{_ifn_stage(m[1])}.{m[2]}"),
        (rf"{_STAGE}\.head\.(.+)", lambda m: f"o{_ifn_stage(m[1])}_conv{3 if m[1] == 'first' else 4}.{m[2]}"),
        (r"stages\.(\d)\.up\.(.+)", lambda m: f"trans_conv{int(m[1]) + 1}.{m[2]}"),
        (r"stages\.(\d)\.channel\.(.+)", lambda m: f"ca{int(m[1]) + 2}.{m[2]}"),
    ),
    mark="o5_conv4.weight",
    source="no file was published; state dicts of the torch code of github.com/GeoZcx/A-deeply-supervised-image-fusion-"
    "network-for-change-detection-in-remote-sensing-images, since March 2021",
    licence="non-commercial and research purposes only (the repository's README)",
    unused={
        r"t2_base\..+": "the second date's encoder, which is the first one's",
        r"(ca1|bn_ca1|bn_ca2)\..+": "layers that the official network never uses",
    },
    unknown={"scaling": "the mean and deviation: the official torch code reads no images"},
)

# ---------------------------------------------------------------------------------------------- SFEARNet


def _pair(own: str, theirs: str) -> tuple[Rule, ...]:
    """A depthwise and a 1x1 convolution with what follows them: ours in two parts, theirs in one."""
    return ((rf"{own}\.([01])\.([01])\.(.+)", lambda m: _pair_name(m, theirs)),)


def _pair_name(found: re.Match[str], theirs: str) -> str:
    *_, half, part, kind = found.groups()
    return f"{_counted(found, theirs)}.{3 * int(half) + int(part)}.{kind}"


def _counted(found: re.Match[str], theirs: str) -> str:
    """``{0}`` and ``{1}`` are the first numbers in our name, counted from one."""
    return theirs.format(*(int(n) + 1 for n in found.groups() if n.isdigit()))


def _cbam(own: str, theirs: str) -> tuple[Rule, ...]:
    return (
        (rf"{own}\.channel\.(fc\d)\.(weight)", lambda m: f"{_counted(m, theirs)}.ca.{m[2]}.{m[3]}"),
        (rf"{own}\.spatial\.conv\.(weight)", lambda m: f"{_counted(m, theirs)}.sa.conv1.{m[2]}"),
    )


_FLOWS = {"from_coarse": "down_h", "from_fine": "down_l", "flow": "flow_make"}

SFEARNET = Layout(
    arguments=lambda found: {
        "in_channels": found.tensors["backbone.patch_embed1.proj.weight"].shape[1],
        "size": "b0" if found.tensors["backbone.patch_embed1.proj.weight"].shape[0] == 32 else "b1",
    },
    rules=(
        (r"encoder\.(.+)", lambda m: f"backbone.{published_name(m[1])}"),
        *_pair(r"merge\.(\d)\.pyramid\.rates\.(\d)", "py{0}.pe.branch{1}"),
        (r"merge\.(\d)\.pyramid\.mean\.0\.(.+)", lambda m: f"py{int(m[1]) + 1}.pe.branch5_conv.{m[2]}"),
        (r"merge\.(\d)\.pyramid\.mean\.1\.(.+)", lambda m: f"py{int(m[1]) + 1}.pe.branch5_bn.{m[2]}"),
        *_pair(r"merge\.(\d)\.pyramid\.join", "py{0}.pe.conv_cat"),
        *_pair(r"merge\.(\d)\.mix", "py{0}.conv"),
        *_cbam(r"merge\.(\d)\.attention", "py{0}.cbam"),
        *_pair(r"edges\.fine", "eg.ea.conv_channel1"),
        *_pair(r"edges\.deep", "eg.ea.conv_channel2"),
        *_pair(r"edges\.mix\.(\d)", "eg.ea.doubleconv.conv{0}"),
        (r"edges\.flow\.(\w+)\.weight", lambda m: f"eg.ea.sef.{_FLOWS[m[1]]}.weight"),
        (r"edges\.edges\.(.+)", r"eg.ea.conv1.\1"),
        (r"edges\.gate\.(.+)", r"eg.conv2_1.\1"),
        *_cbam(r"edges\.attentions\.(\d)", "eg.ca{0}"),
        (r"decoder\.project\.(\d)\.(.+)", lambda m: f"decode_head.linear_c{int(m[1]) + 1}.proj.{m[2]}"),
        (r"decoder\.flows\.(\d)\.(\w+)\.weight", lambda m: f"decode_head.sef{3 - int(m[1])}.{_FLOWS[m[2]]}.weight"),
        (r"decoder\.join\.0\.(.+)", r"decode_head.linear_fuse.conv.\1"),
        (r"decoder\.join\.1\.(.+)", r"decode_head.linear_fuse.bn.\1"),
        (r"decoder\.head\.(.+)", r"decode_head.linear_pred.\1"),
    ),
    mark="decode_head.linear_pred.weight",
    source="no file was published; whole modules that the training of github.com/miao-0417/SFEARNet saves",
    licence="none stated, and parts under the NVIDIA Source Code License (non-commercial)",
    scalings={"unit": Scaling((0.0,) * 3, (1.0,) * 3)},
    turned=(f"encoder.{FIRST}",),
)

LAYOUTS: dict[str, Layout] = {
    "bit": BIT,
    "dasnet": DASNET,
    "fc_ef": _fc(2),
    "fc_siam_conc": _fc(1),
    "fc_siam_diff": _fc(1),
    "ifn": IFN,
    "sfearnet": SFEARNET,
    "snunet": SNUNET,
    "stanet": STANET,
}
"""Network -> its official layout."""
