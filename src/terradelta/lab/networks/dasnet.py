"""DASNet: dual attentive fully convolutional Siamese network, trained by metric learning.

Paper: Chen, Yuan, Peng, Chen, Huang, Zhu, Liu, Li, DASNet: Dual Attentive Fully Convolutional Siamese Networks for
Change Detection in High-Resolution Satellite Images, IEEE JSTARS 14, 2021, doi:10.1109/JSTARS.2020.3037893. Where the
paper is silent we follow the authors' released code:

- ResNet-50 keeps 1/8 in its last two stages; the first block of each has half the stage's dilation. The released code
  carries ImageNet's classifier along: 50,270,378 parameters, of which 48,221,378 are used and built here.
- Without ImageNet weights the last normalisation of each block of ResNet-50 starts at zero, see
  `terradelta.lab.networks.layers.resnet.ResNet`. With the released code's ones it learnt nothing in 200 steps.
- With VGG16 the head has a quarter of the channels and no normalisation. Its pools are 3x3 with a border of one and
  round up, so that 256 pixels become 129, 65 and 33; written here as a border of one and two, which gives the same
  maps.
- Attention has no 1/sqrt(d), and its weight γ starts at zero: at first attention is left out.
- The output is a logit, ``4 (d - 1)`` with the distance d of the third embedding, which is at most 2: zero in the
  middle. The released code takes the threshold that is best on the evaluated images; here it is tuned on validation
  images.
- The released code subtracts a mean of each date, and a model card holds one for both. Weights from there have the rest
  in ``after_shift``.
- The distance is upsampled with aligned corners, and 1e-6 is added to each signed difference, as in the released
  evaluation.
- Attention spans the whole input: a pixel depends on its tile. So tiles have the side of the training crops.

The loss ``wdmc`` takes the distances of all three embeddings from the auxiliary outputs; see there for its weights.

Multiply-adds of a 256² pair: 102.7 G. The 50.67 G of the literature count one date.

Shapes: B batch, C channels, h x w feature map (1/8 of the input), N = h w.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from terradelta.errors import ModelError
from terradelta.lab.networks._registry import ChangeNetwork, register_model
from terradelta.lab.networks.layers.attention import AttentionLayer, Box, attend_tokens, attention_map
from terradelta.lab.networks.layers.conv import conv_bn_relu
from terradelta.lab.networks.layers.distance import distance_logits, upsampled_to
from terradelta.lab.networks.layers.resnet import Bottleneck, ResNet, Stage
from terradelta.lab.networks.layers.vgg import VGG16_WIDTHS, vgg_features

__all__ = ["ChannelSelfAttention", "DASNet", "DualAttention", "PositionAttention", "VGG16Encoder", "dasnet"]

PAPER = "Chen et al., DASNet, IEEE JSTARS 2021, doi:10.1109/JSTARS.2020.3037893"
Backbone = Literal["resnet50", "vgg16"]
RESNET50 = ((256, 1, (1, 1, 1)), (512, 2, (1,) * 4), (1024, 1, (1, 2, 2, 2, 2, 2)), (2048, 1, (2, 4, 4)))
"""Channels, stride and dilations of the stages."""
VGG16_DILATIONS = (1, 1, 1, 1, 2)
DROPOUT = 0.1


class PositionAttention(AttentionLayer):
    """PAM (Fu et al., DANet, CVPR 2019): each position gathers values by the likeness of its query to all keys."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        q_BND, k_BND, v_BNC = (y(x).flatten(2).transpose(1, 2) for y in (self.query, self.key, self.value))
        out_BNC = attend_tokens(q_BND, k_BND, v_BNC, scale=1.0)
        return x + self.gamma * out_BNC.transpose(1, 2).reshape(x.shape)

    def attention_maps(self, at: Box | None, x: Tensor) -> dict[str, Tensor]:
        """See `AttentionLayer`."""
        return {"": attention_map(self.query(x), self.key(x), at, scale=1.0)}


class ChannelSelfAttention(nn.Module):
    """CAM (Fu et al., DANet, CVPR 2019): each channel gathers the channels that are *least* like it."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, h, w)``."""
        x_BCN = x.flatten(2)
        energy_BCC = x_BCN @ x_BCN.transpose(1, 2)
        weights_BCC = (energy_BCC.amax(2, keepdim=True) - energy_BCC).softmax(2)
        return x + self.gamma * (weights_BCC @ x_BCN).reshape(x.shape)


class DualAttention(nn.Module):
    """Head: position and channel attention side by side; embeddings of each and of their sum.

    Args:
        in_channels: channels of the encoder's map.
        channels: channels of the head and of the embeddings.
        unit: 3x3 convolution of (in, out) channels with what follows it.
    """

    def __init__(self, in_channels: int, channels: int, unit: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.position = nn.Sequential(
            unit(in_channels, channels), PositionAttention(channels), unit(channels, channels)
        )
        self.channel = nn.Sequential(unit(in_channels, channels), ChannelSelfAttention(), unit(channels, channels))
        self.embed_position, self.embed_channel, self.embed_sum = (
            nn.Sequential(nn.Dropout2d(DROPOUT), nn.Conv2d(channels, channels, 1)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in, h, w)`` -> embeddings ``(B, C, h, w)`` of length one: of the sum, of position, of channel."""
        position, channel = self.position(x), self.channel(x)
        embeddings = [self.embed_sum(position + channel), self.embed_position(position), self.embed_channel(channel)]
        return [F.normalize(embedding, dim=1) for embedding in embeddings]


class CeilPool(nn.Module):
    """3x3 max-pooling of maps that are not negative, with a border of one, whose size is rounded up.

    Args:
        stride: 2, or 1 to keep the size.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w) -> (B, C, ceil((h + 1) / 2), ...)`` for stride 2."""
        return F.max_pool2d(F.pad(x, (1, self.stride, 1, self.stride)), 3, self.stride)


class VGG16Encoder(nn.Module):
    """VGG16 at 1/8: the last two pools are no steps, block 5 has dilation 2; keys as in torchvision's ``vgg16``."""

    def __init__(self, in_channels: int, width: float = 1.0) -> None:
        super().__init__()
        blocks = [[round(channels * width) for channels in block] for block in VGG16_WIDTHS]
        features = vgg_features(in_channels, blocks, lambda i: CeilPool(2 if i < 3 else 1), VGG16_DILATIONS)
        self.features = features[:-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, in, H, W)`` -> the last map, alone in a list."""
        return [self.features(x)]


class DASNet(ChangeNetwork):
    """DASNet: dilated encoder, dual attention, distances of three embeddings.

    Args:
        in_channels: bands of one date.
        backbone: ``resnet50`` or ``vgg16``.
        width: factor for all widths, for work on a CPU.
        after_shift: one number a band, subtracted from the second date after normalisation; such a network is no longer
            symmetric. None: nothing.

    Raises:
        ModelError: if an option is not allowed.
    """

    stride = 8
    symmetric = True
    whole_tile = True
    tile = 256
    overlap = 128

    def __init__(
        self,
        in_channels: int = 3,
        backbone: Backbone = "resnet50",
        width: float = 1.0,
        after_shift: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if backbone not in get_args(Backbone):
            raise ModelError(f"backbone is {backbone!r}; it must be one of {', '.join(get_args(Backbone))}")
        if not width >= 1 / 16:
            raise ModelError(f"width {width} must be at least 0.0625: attention divides the channels by 32")
        self.in_channels = in_channels
        shift = torch.tensor([0.0] * in_channels if after_shift is None else list(after_shift))
        if len(shift) != in_channels:
            raise ModelError(f"after_shift holds {len(shift)} numbers; it must hold {in_channels}, one a band")
        self.symmetric = after_shift is None
        self.register_buffer("after_shift", shift.view(-1, 1, 1), persistent=False)
        if backbone == "resnet50":
            stages = [Stage(round(channels * width), stride, dilations) for channels, stride, dilations in RESNET50]
            self.encoder: nn.Module = ResNet(in_channels, round(64 * width), stages, Bottleneck)
            deepest, unit = stages[-1].channels, _conv_norm_relu
        else:
            self.encoder = VGG16Encoder(in_channels, width)
            deepest, unit = round(VGG16_WIDTHS[-1][-1] * width), _conv_relu
        self.head = DualAttention(deepest, deepest // 4, unit)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        """``(B, C, H, W) x 2`` -> logits ``(B, 1, H, W)``; then at 1/8 those of the sum, of position, of channel.

        All are ``4 (d - 1)`` with the distance d of an embedding.
        """
        self.check_inputs(before, after, self.in_channels)
        shift = self.get_buffer("after_shift")
        dates = [self.head(self.encoder(date)[-1]) for date in (before, after if self.symmetric else after - shift)]
        small = [distance_logits(e1, e2) for e1, e2 in zip(*dates, strict=True)]
        return [upsampled_to(before, small[0]), *small]


def _conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return conv_bn_relu(in_channels, out_channels, 3)


def _conv_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.ReLU(inplace=True))


@register_model(paper=PAPER, year=2020, loss="wdmc")
def dasnet(
    in_channels: int = 3,
    *,
    backbone: Backbone = "resnet50",
    width: float = 1.0,
    after_shift: Sequence[float] | None = None,
) -> DASNet:
    """DASNet: dilated ResNet-50 (or VGG16), position and channel attention, metric learning."""
    return DASNet(in_channels, backbone, width, after_shift)
