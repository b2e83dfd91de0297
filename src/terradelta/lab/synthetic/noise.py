"""Seeded random fields.

Only additions and multiplications touch large arrays, so that the bytes do not depend on the machine.
"""

import zlib
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Field", "fractal_noise", "smooth_noise", "smoothstep", "stream"]

Field = NDArray[np.float32]

_SPLINE_STD = 0.55  # of the quadratic B-spline over white noise, in two dimensions


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator of one layer: streams of other names are independent of it.

    Args:
        seed: of the scene, 0 or more.
        name: of the layer.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))


def _upsample_rows(values: Field, size: int, cell: float) -> Field:
    """Quadratic B-spline along axis 0: ``(h, w) -> (size, w)``, one lattice row each ``cell`` rows."""
    position = np.arange(size) / cell
    first = position.astype(np.intp)
    f = (position - first).astype(np.float32)[:, None]
    out = values[first] * (0.5 * (1 - f) ** 2)
    out += values[first + 1] * (0.5 + f - f * f)
    out += values[first + 2] * (0.5 * f * f)
    return cast(Field, out)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Field:
    """Smooth random field of mean 0 and standard deviation 1.

    Args:
        rng: source of randomness.
        shape: (height, width).
        cell_px: distance of the lattice's nodes in pixels, at least 1.
    """
    lattice = tuple(int(side / cell_px) + 4 for side in shape)
    values = rng.standard_normal(lattice, dtype=np.float32) / np.float32(_SPLINE_STD)
    rows = _upsample_rows(values, shape[0], cell_px)
    return np.ascontiguousarray(_upsample_rows(np.ascontiguousarray(rows.T), shape[1], cell_px).T)


def fractal_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells_px: Sequence[float], gain: float = 0.6
) -> Field:
    """Sum of `smooth_noise` at several scales, of standard deviation 1.

    Args:
        rng: source of randomness.
        shape: (height, width).
        cells_px: lattice distances, from the strongest scale to the weakest.
        gain: amplitude of each scale as a share of the one before.
    """
    total = smooth_noise(rng, shape, cells_px[0])
    power, amplitude = 1.0, 1.0
    for cell in cells_px[1:]:
        amplitude *= gain
        power += amplitude**2
        total += np.float32(amplitude) * smooth_noise(rng, shape, cell)
    total /= np.float32(power**0.5)
    return total


def smoothstep(values: Field, low: float, high: float) -> Field:
    """0 below ``low``, 1 above ``high``, with a smooth slope between."""
    x = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return cast(Field, x * x * (3 - 2 * x))
