"""What differs between two dates and is no change (light, haze, blur, noise, JPEG, a shift), and pasted change."""

from dataclasses import dataclass, replace

import kornia.augmentation as K
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from terradelta.lab.synthetic.image_bytes import jpeg_round_trip
from terradelta.lab.training.config import Augmentation

__all__ = ["Augmenter", "Crop", "pasted", "twin"]

SOFT_PX = 1.5
"""Standard deviation of the edge of a pasted change, pixels."""


@dataclass(frozen=True)
class Crop:
    """One training crop; values in units of the recipe's scale."""

    index: int
    before: NDArray[np.float32]
    """``(C, crop, crop)``."""
    after: NDArray[np.float32]
    label: NDArray[np.float32]
    """``(crop, crop)``, 0 or 1."""
    known: NDArray[np.float32] | None = None
    """``(crop, crop)``, 1 where the label is known, else 0; None: known everywhere."""


def twin(crop: Crop, rng: np.random.Generator) -> Crop:
    """An unchanged pair: one of the two dates, twice."""
    kept = crop.before if rng.integers(2) else crop.after
    return replace(crop, before=kept, after=kept.copy(), label=np.zeros_like(crop.label), known=None)


def pasted(crop: Crop, other: Crop, rng: np.random.Generator) -> Crop:
    """One date of a crop with the changed pixels of another crop over it, soft at their edges.

    What is pasted is the other crop's date that is drawn, moved to the mean and the deviation of the date below it, so
    that its light gives nothing away. A pixel counts as changed from the middle of the edge on,
    and its label is then known.
    """
    if not other.label.any():
        return crop
    alpha = ndimage.gaussian_filter(ndimage.binary_dilation(other.label > 0).astype(np.float32), SOFT_PX)
    patch = other.after if rng.integers(2) else other.before
    dates = [crop.before, crop.after]
    at = int(rng.integers(2))
    below = dates[at]
    means, stds = ([f(x, axis=(1, 2), keepdims=True) for x in (below, patch)] for f in (np.mean, np.std))
    gain = np.clip(stds[0] / np.maximum(stds[1], 1e-3), 0.5, 2)
    fitted = np.clip((patch - means[1]) * gain + means[0], 0, 1)
    dates[at] = (below + alpha * (fitted - below)).astype(np.float32)
    label = np.maximum(crop.label, other.label)
    known = None if crop.known is None else np.maximum(crop.known, other.label)
    return replace(crop, before=dates[0], after=dates[1], label=label, known=known)


class Augmenter:
    """Random changes to a batch of crops from one seed."""

    def __init__(self, config: Augmentation) -> None:
        self.config = config
        # kornia computes what it then does not use, so what never happens is not there.
        self.geometry = self.colour = self.blur = self.noise = None
        if config.p_rotation:
            rotation = K.RandomRotation(config.rotation_deg, p=config.p_rotation)
            self.geometry = K.AugmentationSequential(rotation, data_keys=["input", "input", "mask"])
        strengths = (config.brightness, config.contrast, config.saturation, config.hue)
        if config.p_colour:
            self.colour = K.ColorJiggle(*strengths, p=config.p_colour)
        if config.p_blur:
            self.blur = K.RandomGaussianBlur((5, 5), config.blur_px, p=config.p_blur)
        if config.p_noise:
            self.noise = K.RandomGaussianNoise(0.0, config.noise, p=config.p_noise)

    def __call__(self, before: Tensor, after: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, C, H, W)`` in [0, 1] twice and ``(B, k, H, W)`` in {0, 1}; the same sizes come back."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.geometry is not None:
                before, after, label = self.geometry(before, after, label)
            after = self._shift(after)
            if self.blur is not None and self.config.blur_dates == "both":
                before, after = self.blur(torch.cat([before, after], 1)).chunk(2, 1)
            before, after = (self._photometric(x) for x in (before, after))
        return before, after, label

    def _photometric(self, x: Tensor) -> Tensor:
        if x.shape[1] == 3:
            x = x if self.colour is None else self.colour(x)
        elif self.config.p_colour:
            moves = torch.rand(x.shape[0], 1, 1, 1) < self.config.p_colour
            x = x * (1 + moves * (2 * torch.rand(x.shape[0], x.shape[1], 1, 1) - 1) * self.config.brightness)
        x = torch.stack([self._lit(image) for image in x])
        x = x if self.blur is None or self.config.blur_dates == "both" else self.blur(x)
        noisy: Tensor = x if self.noise is None else self.noise(x)
        if not self.config.cuts_off:
            return torch.stack([self._compressed(image) for image in noisy]) if self.config.p_jpeg else noisy
        return torch.stack([self._compressed(image) for image in noisy.clamp(0, 1)])

    def _lit(self, image: Tensor) -> Tensor:
        """Colour cast and haze of one date ``(C, H, W)``; haze as bright as its mean takes contrast alone."""
        config = self.config
        if config.p_cast and torch.rand(()) < config.p_cast:
            image = image * (1 + (2 * torch.rand(len(image), 1, 1) - 1) * config.cast)
        if config.p_haze and torch.rand(()) < config.p_haze:
            dark, bright = image.mean((1, 2), keepdim=True), image.amax((1, 2), keepdim=True)
            share, light = torch.rand(()) * config.haze, dark + torch.rand(()) * (bright - dark)
            image = image + share * (light - image)
        return image

    def _compressed(self, image: Tensor) -> Tensor:
        """One date in [0, 1] as it comes back from a JPEG file, if it has one band or three."""
        if not self.config.p_jpeg or len(image) not in (1, 3) or torch.rand(()) >= self.config.p_jpeg:
            return image
        low, high = self.config.jpeg
        values = (image * 255).round().to(torch.uint8).numpy()
        return torch.from_numpy(jpeg_round_trip(values, int(torch.randint(low, high + 1, ())))).float() / 255

    def _shift(self, x: Tensor) -> Tensor:
        shifted = []
        for image in x:
            moves = self.config.shift_px and torch.rand(()) < self.config.p_shift
            shifted.append(_moved(image, self.config.shift_px) if moves else image)
        return torch.stack(shifted)


def _moved(image: Tensor, reach: int) -> Tensor:
    """Move ``(C, H, W)`` by up to ``reach`` whole pixels along each axis; the border is repeated."""
    d_row, d_col = (int(v) for v in torch.randint(0, 2 * reach + 1, (2,)))
    padded = torch.nn.functional.pad(image[None], (reach,) * 4, mode="replicate")[0]
    return padded[:, d_row : d_row + image.shape[1], d_col : d_col + image.shape[2]]
