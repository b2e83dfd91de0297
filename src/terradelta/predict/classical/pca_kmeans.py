"""PCA-k-means: principal components of the difference image's blocks, in two clusters.

T. Celik, "Unsupervised change detection in satellite images using principal component analysis and k-means
clustering", IEEE Geoscience and Remote Sensing Letters 6(4), 2009.

Deviations from the paper: the difference image is the magnitude of the standardised bands' difference, which for one
band is the paper's |X2 - X1| up to gain and offset; the covariance is that of blocks around sampled pixels in place
of blocks side by side, which has the same expectation; h is odd, so that a block has a middle.

Shapes: h side of a block, D = h * h, S components kept, n blocks of a sample, (B, H, W) a batch of tiles.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.predict.classical.method import FittedMethod, Method
from terradelta.predict.classical.split import Split, fit_split, otsu
from terradelta.predict.classical.statistics import Dates

__all__ = ["FittedPcaKMeans", "PcaKMeans", "principal_components", "two_means"]


@dataclass(frozen=True)
class PcaKMeans(Method):
    """Two clusters of the blocks around each pixel of the difference image; the brighter one is change.

    Raises:
        InputError: if a parameter is out of its range.
    """

    block: int = 5
    """h: side of a block in pixels; odd."""
    explained: float = 0.9
    """Share of the variance that the kept components explain, above 0 and at most 1."""

    name: ClassVar[str] = "pca-kmeans"
    year: ClassVar[int] = 2009
    summary: ClassVar[str] = "principal components of the difference around each pixel, in two clusters"
    paper: ClassVar[str] = (
        "T. Celik, Unsupervised change detection in satellite images using principal component analysis and k-means "
        "clustering, IEEE GRSL 6(4), 2009, doi:10.1109/LGRS.2009.2025059"
    )

    def __post_init__(self) -> None:
        if self.block < 1 or self.block % 2 == 0:
            raise InputError(f"block is {self.block}; the side of a block must be an odd number of pixels, 1 or more")
        if not 0 < self.explained <= 1:
            raise InputError(f"explained is {self.explained}; it must be above 0 and at most 1")

    @property
    def halo_px(self) -> int:
        """Half a block."""
        return self.block // 2

    def feature_count(self, bands: int) -> int:
        """D = h * h."""
        return self.block**2

    def features(self, dates: Dates, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """The block of magnitudes around each pixel, row by row: ``(C, h, w) x 2 -> (h - 2 halo, w - 2 halo, D)``."""
        magnitude = dates.magnitude(before, after)
        return _blocks(magnitude, self.block)

    def learn(self, card: ModelCard, dates: Dates, sample: NDArray[np.float32]) -> "FittedPcaKMeans":
        """Find components and clusters in a sample ``(n, D)`` of blocks."""
        blocks = sample.astype(np.float64)
        mean, components, explained = principal_components(blocks, self.explained)
        level = blocks.mean(axis=1)
        cut, _ = otsu(level)
        alone = fit_split(blocks[:, blocks.shape[1] // 2], "em")
        projected = (blocks - mean) @ components  # v = Eᵀ (x - mean x)
        centres = two_means(projected, level > cut)
        record = {
            "sample_px": len(blocks),
            "components": components.shape[1],
            "explained_variance": explained,
            "centre_unchanged": centres[0].tolist(),
            "centre_changed": centres[1].tolist(),
        }
        numbers = (mean, components, centres, alone)
        return FittedPcaKMeans(card.replace(training={**card.training, **record}), dates, *numbers)


class FittedPcaKMeans(FittedMethod):
    """PCA-k-means with its components and centres.

    Args:
        card: see `FittedMethod`.
        dates: see `FittedMethod`.
        mean: ``(D,)`` mean block.
        components: ``(D, S)``.
        centres: ``(2, S)``: unchanged, changed.
        alone: where the magnitude of single pixels parts the classes; blocks overlap, so they always lie together.
    """

    def __init__(
        self,
        card: ModelCard,
        dates: Dates,
        mean: NDArray[np.float64],
        components: NDArray[np.float64],
        centres: NDArray[np.float64],
        alone: Split,
    ) -> None:
        super().__init__(card, dates)
        self._alone = alone
        self._components = components.astype(np.float32)
        self._centres = (centres + mean @ components).astype(np.float32)
        self._side = round(float(np.sqrt(len(mean))))

    def marked(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Pixels whose own magnitude belongs to the higher class: ``(B, C, H, W) x 2 -> (B, H, W)``."""
        return np.asarray(self._alone.log_odds(self.dates.magnitude(before, after)) >= 0)

    def log_odds(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """log(distance to unchanged) - log(distance to changed): ``(B, C, H, W) x 2 -> (B, 1, H, W)``.

        The probability is then d_unchanged / (d_unchanged + d_changed), and 0.5 is the border of the clusters.
        """
        halo = self._side // 2
        magnitude = np.pad(self.dates.magnitude(before, after), [(0, 0), (halo, halo), (halo, halo)], mode="symmetric")
        out = np.empty((len(before), 1, *before.shape[2:]), np.float32)
        for tile, result in zip(magnitude, out[:, 0], strict=True):
            for row, line in enumerate(result):  # one line of blocks at a time: D times the memory of the line
                block = _blocks(tile[row : row + self._side], self._side)[0]
                line[:] = self._log_ratio(block @ self._components)
        return out

    def _log_ratio(self, projected: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(n, S) -> (n,)``."""
        unchanged, changed = (
            np.log(np.maximum(np.linalg.norm(projected - centre, axis=1), np.float32(1e-6))) for centre in self._centres
        )
        return np.asarray(unchanged - changed, np.float32)


def _blocks(magnitude: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """``(h, w) -> (h - side + 1, w - side + 1, side * side)``."""
    windows = sliding_window_view(magnitude, (side, side))
    return windows.reshape(*windows.shape[:2], side * side)


def principal_components(
    blocks: NDArray[np.float64], explained: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The leading eigenvectors of the blocks' covariance, as in Celik 2009.

    Args:
        blocks: ``(n, D)``.
        explained: share of the variance that they shall explain.

    Returns:
        The mean block ``(D,)``, the eigenvectors ``(D, S)`` by falling eigenvalue, and the share that they explain.
    """
    mean = blocks.mean(axis=0)
    centred = blocks - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(blocks))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    total = values.sum()
    if total == 0:
        return mean, vectors[:, :1], 1.0
    shares = np.cumsum(values) / total
    kept = min(int(np.searchsorted(shares, explained - 1e-12)) + 1, len(values))
    return mean, vectors[:, :kept], float(shares[kept - 1])


def two_means(points: NDArray[np.float64], guess: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Centres of two clusters by k-means, from the means of a first guess.

    Args:
        points: ``(n, S)``.
        guess: ``(n,)``: True where change is likely. Where it is True nowhere, nothing is changed: the second centre
            is then one unit away from all points.

    Returns:
        ``(2, S)``: the centre that grew from the False points, and the other.
    """
    if not guess.any() or guess.all():
        centre = points.mean(axis=0)
        reach = float(np.linalg.norm(points - centre, axis=1).max())
        return np.stack([centre, centre + 2 * reach + 1.0])
    start = np.stack([points[~guess].mean(axis=0), points[guess].mean(axis=0)])
    centres, _ = kmeans(points, start, thresh=1e-7)
    return np.asarray(centres if len(centres) == 2 else start, np.float64)
