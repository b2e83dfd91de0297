"""Curved street coordinates: ``s`` along the streets, ``t`` across them, both in metres."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from terradelta.lab.synthetic.noise import Field

__all__ = ["Frame", "make_frame"]

Values = NDArray[np.float64]
_LATTICE_PX = 8


@dataclass(frozen=True)
class Frame:
    """A rotated plane bent by two waves; positions are (row, col) in metres from the scene's centre."""

    angle: float
    """Direction of the streets in radians, from the column axis towards the row axis."""
    waves: tuple[tuple[float, float, float, float], ...]
    """Each wave: amplitude in metres, wave numbers along s and t in 1/m, phase."""

    def _bend(self, s: Values, t: Values) -> tuple[Values, Values]:
        ds, dt = np.zeros_like(s), np.zeros_like(t)
        for amplitude, ks, kt, phase in self.waves:
            ds += 0.5 * amplitude * np.sin(kt * t + 2.1 * phase)
            dt += amplitude * np.sin(ks * s + kt * t + phase)
        return ds, dt

    def to_ground(self, s: Values, t: Values) -> tuple[Values, Values]:
        """(s, t) to (row, col) in metres."""
        ds, dt = self._bend(s, t)
        c, d = math.cos(self.angle), math.sin(self.angle)
        u, v = s + ds, t + dt
        return u * d + v * c, u * c - v * d

    def direction(self, s: float, t: float) -> float:
        """Angle of the street at (s, t), in radians as `angle`."""
        row, col = self.to_ground(np.array([s - 1.0, s + 1.0]), np.array([t, t]))
        return math.atan2(row[1] - row[0], col[1] - col[0])

    def to_street(self, row: Values, col: Values) -> tuple[Values, Values]:
        """(row, col) in metres to (s, t), by fixed-point iteration."""
        c, d = math.cos(self.angle), math.sin(self.angle)
        u, v = row * d + col * c, row * c - col * d
        s, t = u, v
        for _ in range(24):
            ds, dt = self._bend(s, t)
            s, t = u - ds, v - dt
        return s, t

    def pixel_fields(self, shape: tuple[int, int], gsd_m: float) -> tuple[Field, Field]:
        """Street coordinates s and t of each pixel's centre.

        Args:
            shape: (height, width).
            gsd_m: metres per pixel.

        Returns:
            Two float32 arrays of that shape, in metres.
        """
        nodes = [side // _LATTICE_PX + 2 for side in shape]
        axes = [(np.arange(n) * _LATTICE_PX + 0.5 - side / 2) * gsd_m for n, side in zip(nodes, shape, strict=True)]
        row, col = np.meshgrid(*axes, indexing="ij")
        s, t = self.to_street(row, col)
        return _refine(s, shape), _refine(t, shape)


def _refine(nodes: Values, shape: tuple[int, int]) -> Field:
    """Linear interpolation of a lattice of one node each `_LATTICE_PX` pixels."""
    full = [(n - 1) * _LATTICE_PX + 1 for n in nodes.shape]
    fine = zoom(nodes.astype(np.float32), [f / n for f, n in zip(full, nodes.shape, strict=True)], order=1)
    return np.ascontiguousarray(fine[: shape[0], : shape[1]])


def make_frame(rng: np.random.Generator) -> Frame:
    """Random street direction and bends."""
    angle = float(rng.uniform(0, math.pi))
    waves = []
    for low, high in ((380.0, 620.0), (200.0, 320.0)):
        length = float(rng.uniform(low, high))
        turn = float(rng.uniform(-0.9, 0.9))
        k = 2 * math.pi / length
        amplitude = float(rng.uniform(0.0, 0.42)) / k
        waves.append((amplitude, k * math.cos(turn), k * math.sin(turn), float(rng.uniform(0, 2 * math.pi))))
    return Frame(angle, tuple(waves))
