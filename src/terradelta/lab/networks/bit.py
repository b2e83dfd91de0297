"""BIT: bitemporal image transformer.

Paper: Chen, Qi, Shi, Remote Sensing Image Change Detection With Transformers, IEEE TGRS 60, 2022 (early access 2021),
doi:10.1109/TGRS.2021.3095166. The default is the variant whose weights the authors released
(decoder of 8 layers with heads of 8 channels). Deviations and choices, where code and paper differ:

- The released code keeps ResNet-18's unused last stage and classifier: 11,943,754 parameters, of which 3,037,026 are
  used. Only these are built here, so weight decay and checkpoints have no dead weights.
- It asks for dilation 2 in stage 3, whose stride is 1, but its basic block sets dilation back to 1. So do we.
- It loads ImageNet weights and then overwrites all of them with N(0, 0.02) noise. Here the encoder starts from He et
  al.'s initialisation, and its keys are torchvision's, so that ImageNet weights can be loaded and stay.
- Attention is scaled by the tokens' width, 32^-1/2, and not, as usual, by the width of a head.
- The decoder normalises pixels and tokens with one layer norm, and tokens stay the same in all its layers.
- Learned positions tell the dates' tokens apart, so the order of dates matters, although the features are subtracted.
- The last bias of the decoder is the same for both dates and cancels in the difference: its gradient is zero.
- Tokens pool over the whole input: a pixel depends on its tile. So tiles have the side of the training crops.

Multiply-adds of a 256² pair: 8.70 G. The literature's 3.55 M and 4.35 G fit no released variant (4.38 G is half of
the 8.75 G that a counter without attention gives).

Shapes: B batch, C = 32 channels, L = 4 tokens a date, N = h w pixels of the feature map, h = H/4, w = W/4, K heads,
D channels of a head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks.layers.attention import AttentionLayer, Box
from terradelta.lab.networks.layers.resnet import ResNet, Stage

__all__ = ["BIT", "Attention", "Tokenizer", "bit"]

PAPER = "Chen et al., Remote Sensing Image Change Detection With Transformers, TGRS 2022, doi:10.1109/TGRS.2021.3095166"
CHANNELS = 32
TOKENS = 4
HEADS = 8
ENCODER_HEAD_WIDTH = 64
STAGES = (Stage(64, 1, (1, 1)), Stage(128, 2, (1, 1)), Stage(256, 1, (1, 1)))
"""ResNet-18 up to stage 3, which keeps stage 2's size."""


class Tokenizer(AttentionLayer):
    """Semantic tokens: means of the pixels' features under L learned attention maps."""

    by_place = False

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(CHANNELS, TOKENS, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, L, C)``."""
        weights: Tensor = self.maps(x).flatten(2).softmax(-1)  # (B, L, N)
        return weights @ x.flatten(2).transpose(1, 2)

    def attention_maps(self, at: Box | None, x: Tensor) -> dict[str, Tensor]:
        """See `AttentionLayer`: where each token looks; ``at`` plays no part."""
        maps = self.maps(x)[0]
        return _by_token(maps.flatten(1).softmax(1).view_as(maps) * maps[0].numel())


class Attention(AttentionLayer):
    """Multi-head attention of queries to tokens.

    Args:
        head_width: channels D of each of the heads.
    """

    by_place = False

    def __init__(self, head_width: int) -> None:
        super().__init__()
        inner = HEADS * head_width
        self.query = nn.Linear(CHANNELS, inner, bias=False)
        self.key = nn.Linear(CHANNELS, inner, bias=False)
        self.value = nn.Linear(CHANNELS, inner, bias=False)
        self.out = nn.Linear(inner, CHANNELS)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """``(B, N, C), (B, T, C) -> (B, N, C)``."""
        q, k, v = self._heads(self.query(x)), self._heads(self.key(tokens)), self._heads(self.value(tokens))
        weights = (q @ k.transpose(2, 3) * CHANNELS**-0.5).softmax(-1)  # (B, K, N, T); scale: see above
        heads = (weights @ v).transpose(1, 2)  # (B, N, K, D)
        out: Tensor = self.out(heads.flatten(2))
        return out

    def attention_maps(self, at: Box | None, x: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """See `AttentionLayer`: how much each pixel looks at each token, mean of the heads; ``at`` plays no part."""
        q, k = self._heads(self.query(x)), self._heads(self.key(tokens))
        weights = (q @ k.transpose(2, 3) * CHANNELS**-0.5).softmax(-1)[0].mean(0)  # (N, T)
        return _by_token(weights.T * tokens.shape[1])

    @staticmethod
    def _heads(x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)  # (B, N, K D) -> (B, K, N, D)


def _by_token(maps: Tensor) -> dict[str, Tensor]:
    return {f"token{i}": each for i, each in enumerate(maps, 1)}


class Layer(nn.Module):
    """Attention and MLP, each after a layer norm and added to its input; one norm for queries and tokens."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.attention = Attention(head_width)
        self.norm2 = nn.LayerNorm(CHANNELS)
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, 2 * CHANNELS), nn.GELU(), nn.Linear(2 * CHANNELS, CHANNELS))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """``(B, N, C), (B, T, C) -> (B, N, C)``."""
        x = x + self.attention(self.norm1(x), self.norm1(tokens))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class BIT(ChangeNetwork):
    """Bitemporal image transformer on ResNet-18.

    Args:
        in_channels: bands of one date.
        decoder_depth: layers of the decoder.
        decoder_head_width: channels of each of the decoder's heads.

    Raises:
        ModelError: if depth or width is below 1.
    """

    stride = 8
    whole_tile = True
    tile = 256
    overlap = 128

    def __init__(self, in_channels: int = 3, decoder_depth: int = 8, decoder_head_width: int = 8) -> None:
        super().__init__()
        if decoder_depth < 1 or decoder_head_width < 1:
            raise ModelError(
                f"decoder_depth {decoder_depth} and decoder_head_width {decoder_head_width} must be at least 1"
            )
        self.in_channels = in_channels
        self.encoder = ResNet(in_channels, 64, STAGES)
        self.project = nn.Conv2d(256, CHANNELS, 3, padding=1)
        self.tokenizer = Tokenizer()
        self.positions = nn.Parameter(torch.randn(1, 2 * TOKENS, CHANNELS))
        self.context = Layer(ENCODER_HEAD_WIDTH)
        self.decoder = nn.ModuleList(Layer(decoder_head_width) for _ in range(decoder_depth))
        self.head = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(CHANNELS, 2, 3, padding=1),
        )

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> one map of logits ``(B, 1, H, W)``."""
        self.check_inputs(before, after, self.in_channels)
        f1, f2 = self._features(before), self._features(after)
        tokens = torch.cat([self.tokenizer(f1), self.tokenizer(f2)], 1) + self.positions  # (B, 2L, C)
        tokens1, tokens2 = self.context(tokens, tokens).chunk(2, 1)
        difference = (self._decode(f1, tokens1) - self._decode(f2, tokens2)).abs()
        full = F.interpolate(difference, scale_factor=4.0, mode="bilinear", align_corners=False)
        classes = self.head(full)  # (B, 2, H, W): unchanged, changed
        return [classes[:, 1:] - classes[:, :1]]

    def _features(self, x: Tensor) -> Tensor:
        """``(B, in, H, W) -> (B, C, h, w)``."""
        out: Tensor = self.project(F.interpolate(self.encoder(x)[-1], scale_factor=2.0, mode="nearest"))
        return out

    def _decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        """``(B, C, h, w), (B, L, C) -> (B, C, h, w)``: each pixel looks at the tokens of its date."""
        x = features.flatten(2).transpose(1, 2)  # (B, N, C)
        for layer in self.decoder:
            x = layer(x, tokens)
        return x.transpose(1, 2).reshape(features.shape)


@register_model(paper=PAPER, year=2021, loss="cross_entropy")
def bit(in_channels: int = 3, *, decoder_depth: int = 8, decoder_head_width: int = 8) -> BIT:
    """BIT: ResNet-18, four semantic tokens a date, transformer over tokens and pixels."""
    return BIT(in_channels, decoder_depth, decoder_head_width)
