"""`measure_shift`: how well two dates lie on one another, from a sample of blocks, and the field that corrects it.

Each block gives one shift: the peak of the cross-correlation of both dates' gradient fields. A gradient enters as a
complex number of twice its angle, so that an edge matches its negative: dark fields with light borders in one season,
light fields with dark borders in another. Lengths are compressed, so that no single roof decides. The spectrum is
whitened half way, between plain correlation (blunt peaks) and phase correlation (much noise). Its high frequencies are
damped: squaring folds them back at the border of the spectrum, which pulled peaks by 0.07 pixel to whole pixels, and by
0.02 with damping. The peak is refined by an upsampled Fourier transform around it.

Sources: orientation correlation, Fitch et al. 2002 (BMVC, doi:10.5244/C.16.11); double angles, Bigun and Granlund 1987
(ICCV); upsampled peak, Guizar-Sicairos et al. 2008 (doi:10.1364/OL.33.000156). The limit of half a pixel: with more,
what was not registered is a large part of what looks changed; Townshend et al. 1992 (doi:10.1109/36.175340), Dai and
Khorram 1998 (doi:10.1109/36.718860).
"""

import functools
import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from terradelta.geo.gradients import gaussian_gradients
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.metres import ground_sampling_m
from terradelta.geo.shift import ShiftField, fit_field, robust_spread
from terradelta.raster.pair import Pair

__all__ = ["LIMIT_PX", "BlockShift", "Registration", "block_shift", "measure_shift"]

LIMIT_PX = 0.5
"""A median shift beyond it is a warning."""

Array = NDArray[np.float64]

_SIDES = (256, 128, 64)
_BLOCKS_ALONG = 12
_ENOUGH_BLOCKS = 4
_ENOUGH_SHARE = 0.1
_VALID_SHARE = 0.6
_SIGMA_PX = 1.0
_EDGE_PX = 4
_WHITENING = 0.5
_DAMPING_PX = 1.0
_PEAK_RADIUS_PX = 4
_FINE_STEPS = 8
_LEAST_HEIGHT = 7.0
_LEAST_LEAD = 0.15


@dataclass(frozen=True)
class BlockShift:
    """The shift of one block, and how sure it is."""

    row: float
    """Row of the block's centre in the common grid, pixels."""
    col: float
    """Column of the block's centre."""
    down_px: float
    """How many pixels lower the second date shows what the first one shows."""
    right_px: float
    """How many pixels further right."""
    height: float
    """Height of the peak in standard deviations of the correlation; chance alone hardly gives more than 5."""
    lead: float
    """How much the peak stands above the next one, as a share of its height: 0 to 1."""

    @property
    def confident(self) -> bool:
        """Whether the shift is to be believed: a peak of 7 standard deviations that leads by 15 %."""
        return self.height >= _LEAST_HEIGHT and self.lead >= _LEAST_LEAD


@dataclass(frozen=True, eq=False)
class Registration:
    """How two dates lie on one another."""

    grid: Grid
    """The common grid."""
    side_px: int
    """Side of a block; 0 where the grid is too small for one."""
    blocks: tuple[BlockShift, ...]
    """All blocks that hold enough data."""
    used: tuple[int, ...] = ()
    """Numbers of the blocks that `field` rests on: confident, and in keeping with the others."""
    field: ShiftField | None = None
    """The shift everywhere; None where too few blocks match."""

    @property
    def confident_share(self) -> float:
        """Share of the blocks whose shift is to be believed, 0 to 1."""
        return sum(block.confident for block in self.blocks) / len(self.blocks) if self.blocks else 0.0

    @property
    def median_px(self) -> float | None:
        """Median length of the field at the used blocks; None where the shift is not known."""
        return None if self.field is None else float(np.median(np.hypot(*self._fitted().T)))

    @property
    def largest_px(self) -> float | None:
        """Largest length of the field at the used blocks."""
        return None if self.field is None else float(np.hypot(*self._fitted().T).max())

    @property
    def direction_px(self) -> tuple[float, float] | None:
        """Median shift down and to the right, pixels."""
        if self.field is None:
            return None
        down, right = np.median(self._fitted(), axis=0).tolist()
        return down, right

    @property
    def scatter_px(self) -> float | None:
        """Robust standard deviation, along one axis, of the used blocks' own shifts around the field."""
        if self.field is None:
            return None
        own = np.array([(self.blocks[i].down_px, self.blocks[i].right_px) for i in self.used])
        return robust_spread(own - self._fitted())

    def lines(self, corrected: bool = False) -> list[str]:
        """Sentences for the preflight report; a warning last, if there is one.

        Args:
            corrected: whether the second date was moved by a field already, so that this is what remains.
        """
        if self.field is None:
            return [self._unknown()]
        side, median = ground_sampling_m(self.grid), self.median_px or 0.0
        down, right = self.direction_px or (0.0, 0.0)
        metres = "" if side is None else f" ({median * side:.2g} m)"
        confident = sum(block.confident for block in self.blocks)
        what = "After coregistration the second date lies" if corrected else "The second date lies"
        lines = [
            f"{what} {median:.2f} pixels{metres} from the first in the median ({_way(down, 'down', 'up')}, "
            f"{_way(right, 'right', 'left')}), {self.largest_px:.2f} at most; single blocks scatter by "
            f"{self.scatter_px:.2f}; {confident} of {len(self.blocks)} blocks match ({self.confident_share:.0%})."
        ]
        if median > LIMIT_PX:
            cure = "more than a smooth shift parts the images" if corrected else "--coregister corrects it"
            lines.append(
                f"Warning: the dates lie {median:.1f} pixels{metres} apart; more than {LIMIT_PX:g} look like change "
                f"along edges; {cure}."
            )
        return lines

    def _unknown(self) -> str:
        if not self.side_px:
            return f"The shift between the dates is not known: the common grid is smaller than {_SIDES[-1]} pixels."
        found = sum(block.confident for block in self.blocks)
        return (
            f"The shift between the dates is not known: {found} of {len(self.blocks)} blocks of {self.side_px} pixels "
            f"match, {self._needed()} are needed. Look at both images whether they lie on one another."
        )

    def _needed(self) -> int:
        return max(_ENOUGH_BLOCKS, math.ceil(_ENOUGH_SHARE * len(self.blocks)))

    def _fitted(self) -> Array:
        """``(N, 2)``: the field at the used blocks."""
        assert self.field is not None
        places = np.array([(self.blocks[i].row, self.blocks[i].col) for i in self.used])
        return np.column_stack(self.field.at(*places.T))


def measure_shift(pair: Pair) -> Registration:
    """Measure the shift of the second date in at most 12 x 12 blocks of the pair as it is read now.

    Blocks have 256 pixels a side in large scenes, 64 in the smallest; a shift is found up to a quarter of that. Time
    and memory do not grow with the scene.

    Raises:
        RasterError: if a file cannot be read.
    """
    side = next((side for side in _SIDES if min(pair.grid.shape) >= (2.5 * side if side > _SIDES[-1] else side)), 0)
    if not side:
        return Registration(pair.grid, 0, ())
    blocks = []
    for row, col in product(*(_starts(length, side) for length in pair.grid.shape)):
        window = pair.read(Tile(row, col, side, side))
        if window.valid.mean() >= _VALID_SHARE:
            down, right, height, lead = block_shift(window.before, window.after, window.valid)
            blocks.append(BlockShift(row + side / 2, col + side / 2, down, right, height, lead))
    found = Registration(pair.grid, side, tuple(blocks))
    confident = [i for i, block in enumerate(blocks) if block.confident]
    if len(confident) < found._needed():
        return found
    places = np.array([(blocks[i].row, blocks[i].col) for i in confident])
    shifts = np.array([(blocks[i].down_px, blocks[i].right_px) for i in confident])
    field, kept = fit_field(pair.grid.shape, places, shifts)
    if kept.sum() < found._needed():  # the shifts contradict one another
        return found
    return Registration(pair.grid, side, tuple(blocks), tuple(np.array(confident)[kept].tolist()), field)


def block_shift(
    before: NDArray[Any], after: NDArray[Any], valid: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """The shift of one square block.

    Args:
        before: ``(C, N, N)``, any values.
        after: ``(C, N, N)``; the number of bands may differ.
        valid: ``(N, N)``: where both dates have data.

    Returns:
        How many pixels lower and further right ``after`` shows what ``before`` shows, the peak's height in standard
        deviations of the correlation, and its lead over the next peak; see `BlockShift`. All 0 without any contrast.
    """
    spectrum = np.conj(fft.fft2(_edges(before, valid))) * fft.fft2(_edges(after, valid))
    amplitude = np.abs(spectrum)
    if not amplitude.any():
        return 0.0, 0.0, 0.0, 0.0
    spectrum *= _damping(valid.shape[0]) / (amplitude + 1e-9 * amplitude.max()) ** _WHITENING
    reach = valid.shape[0] // 4
    surface = np.roll(fft.ifft2(spectrum).real, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    row, col = (int(i) for i in np.unravel_index(surface.argmax(), surface.shape))
    across = np.ogrid[: 2 * reach + 1, : 2 * reach + 1]
    far = surface[(across[0] - row) ** 2 + (across[1] - col) ** 2 > _PEAK_RADIUS_PX**2]
    peak = float(surface[row, col])
    down, right = _refine(spectrum, row - reach, col - reach)
    return down, right, peak / float(far.std()), 1 - float(far.max()) / peak


@functools.cache
def _damping(side: int) -> NDArray[np.float32]:
    squared = (2 * np.pi * fft.fftfreq(side)) ** 2
    return np.asarray(np.exp(-0.5 * _DAMPING_PX**2 * (squared[:, None] + squared)), np.float32)


def _starts(length: int, side: int) -> list[int]:
    """First pixels of blocks that overlap by half at most, and cover the axis evenly.

    Where they lie apart they begin at multiples of their side: files are stored in such squares, and fewer are decoded.
    """
    count = min(_BLOCKS_ALONG, max(1, round((length - side) / (side / 2)) + 1))
    starts = np.linspace(0, length - side, count)
    if count > 1 and starts[1] >= 2 * side:
        starts = starts // side * side
    return [int(start) for start in np.unique(starts.round())]


def _edges(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.complex64]:
    """``(C, N, N)`` to ``(N, N)``: compressed gradients with double angles, without mean, faded out at the border."""
    grey = _grey(values, valid)
    down, right = gaussian_gradients(grey, _SIGMA_PX)
    length = np.sqrt(down * down + right * right)
    inside = valid if valid.all() else ndimage.binary_erosion(valid, iterations=_EDGE_PX, border_value=1)
    thin = np.s_[::2, ::2]  # enough for a median
    typical = float(np.median(length[thin][inside[thin]])) if inside[thin].any() else 0.0
    if not typical > 0:
        typical = float(length.mean()) or 1.0
    weight = length * (length + np.float32(typical))
    np.divide(1, weight, out=weight, where=length > 0)
    weight *= inside
    edges = np.empty(grey.shape, np.complex64)
    edges.real = (right * right - down * down) * weight  # the square of right + i down, which doubles its angle
    edges.imag = 2 * right * down * weight
    if inside.any():
        edges -= edges.sum() / np.complex64(inside.sum()) * inside
    return edges * _fading(grey.shape[0])


@functools.cache
def _fading(side: int) -> NDArray[np.float32]:
    window = np.hanning(side)
    return np.outer(window, window).astype(np.float32)


def _grey(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean of the bands, each in its own standard deviations; 0 where not valid."""
    grey = np.zeros(valid.shape, np.float32)
    known = ... if valid.all() else valid
    for band in values:
        with np.errstate(over="ignore", invalid="ignore"):
            inside = band[known].astype(np.float64)
            inside -= inside.mean() if inside.size else 0.0
            spread = np.sqrt(np.mean(inside * inside)) if inside.size else 0.0
            if 0 < spread < np.inf:
                inside /= spread
                grey[known] += inside
    return grey


def _refine(spectrum: NDArray[np.complex64], row: int, col: int) -> tuple[float, float]:
    """The peak near a whole pixel: on a grid of eighths of a pixel, then by parabolas."""
    steps = np.arange(-_FINE_STEPS - 1, _FINE_STEPS + 2) / _FINE_STEPS
    waves = 2j * np.pi * fft.fftfreq(spectrum.shape[0])
    down, right = np.exp(np.outer(row + steps, waves)), np.exp(np.outer(waves, col + steps))
    fine = (down @ spectrum @ right).real
    inner = fine[1:-1, 1:-1]
    i, j = (int(k) + 1 for k in np.unravel_index(inner.argmax(), inner.shape))
    return (
        row + float(steps[i]) + _vertex(fine[i - 1 : i + 2, j]) / _FINE_STEPS,
        col + float(steps[j]) + _vertex(fine[i, j - 1 : j + 2]) / _FINE_STEPS,
    )


def _vertex(values: NDArray[np.floating]) -> float:
    """Where the parabola through values at -1, 0 and 1 has its top; 0 if it has none, at most 1 away."""
    low, middle, high = values.tolist()
    bend = low - 2 * middle + high
    return min(max((low - high) / (2 * bend), -1.0), 1.0) if bend < 0 else 0.0


def _way(amount: float, positive: str, negative: str) -> str:
    return f"{abs(amount):.2f} {positive if amount >= 0 else negative}"
