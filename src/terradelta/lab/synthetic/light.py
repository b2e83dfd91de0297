"""Shadows, weather and sensor: from reflectance to the picture's bytes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from terradelta.lab.synthetic.drawing import Sun
from terradelta.lab.synthetic.image_bytes import jpeg_round_trip
from terradelta.lab.synthetic.noise import Field, fractal_noise, smooth_noise, smoothstep, stream
from terradelta.lab.synthetic.scene_config import SceneConfig

__all__ = ["Tone", "add_weather", "cast_shadows", "make_tone", "misregister", "sense"]

_SKY = (0.86, 0.98, 1.22)  # colour of the light in shadows, relative to flat ground
_CLOUD = (0.95, 0.95, 0.96)
_HAZE = (0.62, 0.66, 0.70)


def cast_shadows(image: Field, height: Field, sun: Sun, gsd_m: float) -> None:
    """Darken what objects keep the sun from, in place.

    Args:
        image: ``(3, H, W)`` reflectance.
        height: ``(H, W)`` metres above ground.
        sun: light of the date.
        gsd_m: metres per pixel.
    """
    away = math.cos(sun.azimuth), -math.sin(sun.azimuth)  # (row, col): rows grow to the south
    drop = gsd_m * math.tan(sun.elevation)
    cover = np.zeros_like(height)
    for step in range(1, math.ceil(float(height.max()) / drop) + 1):
        dr, dc = round(step * away[0]), round(step * away[1])
        to, source = _overlap(height.shape[0], dr), _overlap(height.shape[0], -dr)
        to_c, source_c = _overlap(height.shape[1], dc), _overlap(height.shape[1], -dc)
        lowered = height[source, source_c] - np.float32(step * drop)
        np.maximum(cover[to, to_c], lowered, out=cover[to, to_c])
    shade = np.clip((cover - height - np.float32(0.25)) / np.float32(0.8), 0, 1)
    for channel in range(3):
        image[channel] *= 1 - shade * np.float32(1 - sun.ambient * _SKY[channel])


def _overlap(size: int, shift: int) -> slice:
    """The part of an axis that something moved by ``shift`` falls on; empty if it moves out."""
    return slice(min(max(shift, 0), size), max(min(size + shift, size), 0))


def add_weather(image: Field, config: SceneConfig, seed: int, date: int) -> None:
    """Thin clouds with their shadows, then haze, in place on a ``(3, H, W)`` image."""
    rng = stream(seed, f"weather{date}")
    shape = image.shape[1:]
    opacity, shift = float(rng.uniform(0.25, 0.75)), rng.integers(60, 200, 2)
    amount = float(rng.uniform(0, config.haze))
    if config.cloud_cover > 0:
        field = fractal_noise(rng, shape, [c / config.gsd_m for c in (120, 50, 20, 8)], 0.5)
        edge = float(np.quantile(field[::4, ::4], 1 - config.cloud_cover))
        cloud = np.float32(opacity) * smoothstep(field, edge - 0.1, edge + 0.9)
        shadow = 1 - np.float32(0.5) * np.roll(cloud, tuple(int(x) for x in shift), (0, 1))
        for channel in range(3):
            image[channel] *= shadow
            image[channel] += cloud * (np.float32(_CLOUD[channel]) - image[channel])
    if amount > 0:
        for channel in range(3):
            image[channel] += np.float32(0.3 * amount) * (np.float32(_HAZE[channel]) - image[channel])


def misregister(image: Field, config: SceneConfig, seed: int) -> Field:
    """Move the picture by a sub-pixel shift and a smooth local warp; ``(3, H, W)`` in and out."""
    if config.misregistration_px == 0:
        return image
    rng = stream(seed, "misregistration")
    shape = image.shape[1:]
    grid = []
    for axis, coordinate in enumerate(np.ogrid[: shape[0], : shape[1]]):
        shift, local = rng.normal(0, config.misregistration_px), 0.33 * config.misregistration_px
        field = smooth_noise(rng, shape, max(48, shape[axis] / 5))
        grid.append(coordinate + np.float32(shift) + np.float32(local) * field)
    where = np.stack(grid)
    return np.stack([map_coordinates(band, where, order=1, mode="nearest") for band in image])


@dataclass(frozen=True)
class Tone:
    """How a camera turns reflectance into values."""

    gain: tuple[float, float, float]
    """Brightness of each channel."""
    gamma: float
    """Above 0.5 brightens the middle tones, below darkens them; 0.5 is neutral."""
    contrast: float
    """0 is neutral, 1 a full S-curve."""
    saturation: float
    """1 is neutral."""
    blur_px: float
    """Standard deviation of the point spread."""
    sharpening: float
    """Share of the fine detail that is added again."""


def make_tone(config: SceneConfig, seed: int, date: int) -> Tone:
    """The tone of one date; earlier pictures tend to be brighter and yellower, as in archives."""
    rng = stream(seed, f"tone{date}")
    k = config.illumination
    lean = 0.15 if date == 0 else -0.25
    gain = 0.98 * math.exp(k * (lean + 0.2 * float(np.clip(rng.standard_normal(), -2, 2))))
    cast = 1 + k * np.array((0.02, 0.02, -0.05 if date == 0 else 0.0)) + k * 0.05 * rng.standard_normal(3).clip(-2, 2)
    return Tone(
        gain=tuple(round(float(gain * c), 4) for c in cast),  # type: ignore[arg-type]
        gamma=0.5 + k * float(rng.uniform(-0.1, 0.1)),
        contrast=0.5 + k * float(rng.uniform(-0.5, 0.8)),
        saturation=1 + k * float(rng.uniform(-0.6, 0.4)),
        blur_px=0.45 + config.blur_px * float(rng.uniform(0, 2)),
        sharpening=1.2 - min(3 * config.blur_px, 1.2) * float(rng.uniform(0, 1)),
    )


def sense(image: Field, tone: Tone, config: SceneConfig, seed: int, date: int) -> NDArray[np.uint8]:
    """Blur, tone curve, noise, quantisation and compression: ``(3, H, W)`` reflectance to uint8 of 1 to 255."""
    rng = stream(seed, f"noise{date}")
    grey = image.mean(axis=0)
    out = np.empty(image.shape, np.uint8)
    for channel in range(3):
        x = grey + np.float32(tone.saturation) * (image[channel] - grey)
        x = gaussian_filter(x, tone.blur_px, truncate=3.0)
        x += np.float32(tone.sharpening) * (x - gaussian_filter(x, 1.0, truncate=2.0))
        x = np.clip(x * np.float32(tone.gain[channel]), 0, 1)
        x /= np.float32(1 / tone.gamma - 2) * (1 - x) + 1
        x += np.float32(tone.contrast) * (x * x * (3 - 2 * x) - x)
        if config.noise > 0:
            x += np.float32(config.noise) * rng.standard_normal(x.shape, dtype=np.float32)
        out[channel] = np.clip(x * 255 + np.float32(0.5), 1, 255)
    if config.compression > 0:
        return np.maximum(jpeg_round_trip(out, round(100 - 50 * config.compression)), 1)
    return out
