"""What every classical method does: read a pair, learn, ask whether it is noise, become a predictor for this pair."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import terradelta
from terradelta.card import NO_LIMIT, ModelCard, method_purpose
from terradelta.errors import ModelError, RasterError
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.windows import blocks
from terradelta.predict.classical.coherence import COHERENT, Coherence
from terradelta.predict.classical.statistics import Dates, Moments, PixelSample, pixel_keys
from terradelta.predict.predictor import Predictor
from terradelta.raster.pair import Pair, PairWindow

__all__ = ["FittedMethod", "Method"]

TILE = 512
SAMPLE_PX = 2**18
SAMPLE_VALUES = 2**25
"""Bound on pixels times features of a sample: 128 MiB of float32."""
SEED = 0
TESTED_TILES = 64
"""Tiles, evenly spread, on which it is asked whether what is marked lies together."""
BELOW_HALF = -0.01
"""Log odds that no pixel passes where there is no second class."""

Progress = Callable[[int, int], None]


class FittedMethod(Predictor):
    """A classical method with the numbers that it learned from one pair; it holds for this pair alone.

    Args:
        card: bands, scaling and learned numbers.
        dates: standards of both dates, in the units of `ModelCard.normalise`.
    """

    def __init__(self, card: ModelCard, dates: Dates) -> None:
        super().__init__(card)
        self.dates = dates

    @property
    def stands_out(self) -> bool:
        """Whether there is change that the method can tell from noise; True before it was asked."""
        return bool(self.card.training.get("stands_out", True))

    @abstractmethod
    def log_odds(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds of change of arrays normalised by the card: ``(B, C, H, W) x 2 -> (B, 1, H, W)``."""

    def marked(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Pixels that look changed by themselves, without their neighbours: ``(B, C, H, W) x 2 -> (B, H, W)``."""
        return np.asarray(self.log_odds(before, after)[:, 0] >= 0)

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """`log_odds`; where nothing stands out from noise, below even odds everywhere."""
        odds = self.log_odds(before, after)
        return odds if self.stands_out else np.minimum(odds, np.float32(BELOW_HALF))

    @property
    def fill(self) -> NDArray[np.float32]:
        """Each date's own means, whose standardised difference is 0: ``(2, C)`` raw sensor values."""
        raw = self.dates.mean * np.asarray(self.card.std) + np.asarray(self.card.mean)
        return np.asarray(raw, np.float32)


class Method(Predictor):
    """A predictor that is not fitted yet: a classical method and its parameters; `prepared` fits it to a pair.

    A subclass is a frozen dataclass whose fields are the parameters. It has no card before it is fitted.
    """

    fitted: ClassVar[bool] = False
    name: ClassVar[str]
    """Name on the command line."""
    summary: ClassVar[str]
    """What it does, in one sentence."""
    paper: ClassVar[str]
    """Citation."""
    year: ClassVar[int]
    """Year of the paper."""

    @property
    def wanted(self) -> None:
        """A method takes all bands."""
        return

    @property
    def scale(self) -> None:
        """A method standardises by itself."""
        return

    def remarks(self, grid: Grid, known: Callable[[], Mapping[str, ModelCard]] = dict) -> list[str]:
        """What it finds; it is fitted to whatever there is."""
        return [method_purpose(self.name)]

    def check_resolution(self, grid: Grid) -> None:
        """Nothing: it takes pixels of any size."""

    @property
    def identity(self) -> str:
        """Of the method before it is fitted."""
        return self.name

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """Refused: it is not fitted.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"the method {self.name} is not fitted to a pair yet; call prepared(method, pair)")

    @property
    def halo_px(self) -> int:
        """Pixels around a pixel that its result depends on."""
        return 0

    @property
    def splits(self) -> bool:
        """Whether it parts any pair in two classes, so that it must be asked whether there is a second one."""
        return True

    def fit(self, pair: Pair, progress: Progress | None = None) -> FittedMethod:
        """Learn from the valid pixels of a pair, in two passes over its tiles and a third over at most 64 of them.

        The first pass takes the exact mean and standard deviation of each band of each date, the second a uniform
        sample of at most 262,144 pixels. The third asks whether the pixels that the method marks lie together, as
        change does and noise does not (`Coherence`); if not, no pixel will reach even odds. The result does not depend
        on the tiles, but for the third pass in scenes of more than 64 of them.

        Args:
            pair: the open pair.
            progress: called with (tiles done, tiles in all).

        Raises:
            RasterError: if no pixel is valid on both dates, or there are too few for the method.
        """
        tiles = list(blocks(pair.grid.shape, TILE))  # unlike those of a `TilePlan`, every pixel counts once
        places = {round(k) for k in np.linspace(0, len(tiles) - 1, TESTED_TILES)} if self.splits else set()
        tested = [tiles[k] for k in sorted(places)]
        tick = _ticker(2 * len(tiles) + len(tested), progress)
        moments = Moments()
        for tile in tiles:
            window = pair.read(tile)
            moments.add(np.stack([_raw(window, date)[:, window.valid] for date in (0, 1)]))
            tick()
        if not moments.count:
            raise RasterError(
                f"no pixel of {' and '.join(pair.paths)} is valid on both dates; check the nodata values and masks, "
                "and the area of interest"
            )
        card = self._card(pair, moments)
        dates = _standards(card, moments)
        fitted = self.learn(card, dates, self._sample(pair, tiles, card, dates, tick))
        if not tested:
            return fitted
        coherence = _coherence(fitted, pair, tested, tick)
        asked = {"coherence": coherence, "stands_out": coherence >= COHERENT}
        fitted.card = fitted.card.replace(training={**fitted.card.training, **asked})
        return fitted

    @abstractmethod
    def feature_count(self, bands: int) -> int:
        """How many features a pixel of so many bands has."""

    @abstractmethod
    def features(self, dates: Dates, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the method learns from.

        Args:
            dates: standards of both dates.
            before: ``(C, h, w)`` normalised by the card; invalid pixels have their date's mean.
            after: the same of the second date.

        Returns:
            ``(h - 2 * halo_px, w - 2 * halo_px, F)``: the features of the pixels inside the halo; may be a view.
        """

    @abstractmethod
    def learn(self, card: ModelCard, dates: Dates, sample: NDArray[np.float32]) -> FittedMethod:
        """Fit to a sample ``(n, F)`` of features, n 1 or more.

        Raises:
            RasterError: if the sample does not determine the method's numbers.
        """

    def _card(self, pair: Pair, moments: Moments) -> ModelCard:
        """A card whose normalisation is the mean of both dates' means and variances."""
        std = np.sqrt((moments.std**2).mean(axis=0))
        return ModelCard(
            name=self.name,
            network=self.name,
            bands=pair.bands,
            mean=tuple(moments.mean.mean(axis=0).tolist()),
            std=tuple(np.where(std > 0, std, 1.0).tolist()),
            scale=1.0,
            network_args=asdict(self),  # type: ignore[call-overload]  # subclasses are dataclasses
            stride=1,
            receptive_field=2 * self.halo_px + 1,
            # Three eighths of an overlap are not used at either end: see mapping.scene.TRIM.
            overlap=3 * self.halo_px if self.halo_px else 0,
            tile=TILE,
            paper=self.paper,
            data="fitted to this pair alone, without labels",
            licence=NO_LIMIT,
            training={
                "valid_px": moments.count,
                "mean": moments.mean.tolist(),
                "std": moments.std.tolist(),
            },
            code_version=terradelta.__version__,
        )

    def _sample(
        self, pair: Pair, tiles: list[Tile], card: ModelCard, dates: Dates, tick: Callable[[], None]
    ) -> NDArray[np.float32]:
        features = self.feature_count(pair.count)
        sample = PixelSample(max(1, min(SAMPLE_PX, SAMPLE_VALUES // features)), features)
        for tile in tiles:
            wide = tile.grown(self.halo_px, pair.grid.shape)
            window = pair.read(wide)
            rows, cols = np.nonzero(window.valid[tile.within(wide)])
            keys = pixel_keys(rows + tile.row, cols + tile.col, pair.grid.width, SEED)
            chosen = sample.wanted(keys)
            if chosen.any():
                found = self.features(dates, *_normalised(window, wide, tile, self.halo_px, card, dates))
                sample.add(keys[chosen], found[rows[chosen], cols[chosen]])
            tick()
        return sample.values


def _coherence(fitted: FittedMethod, pair: Pair, tiles: list[Tile], tick: Callable[[], None]) -> float:
    found = Coherence()
    for tile in tiles:
        window = pair.read(tile)
        dates = _normalised(window, tile, tile, 0, fitted.card, fitted.dates)
        found.add(fitted.marked(*(date[None] for date in dates))[0], window.valid)
        tick()
    return round(found.value, 4)


def _ticker(total: int, progress: Progress | None) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tick


def _raw(window: PairWindow, date: int) -> NDArray[np.float32]:
    """One date as the predictor will get it."""
    values: NDArray[Any] = (window.before, window.after)[date]
    return values.astype(np.float32)


def _standards(card: ModelCard, moments: Moments) -> Dates:
    """The moments in the units of the card's normalisation; a constant band gets standard deviation 1."""
    std = moments.std / np.asarray(card.std)
    return Dates((moments.mean - np.asarray(card.mean)) / np.asarray(card.std), np.where(std > 0, std, 1.0))


def _normalised(
    window: PairWindow, wide: Tile, tile: Tile, halo: int, card: ModelCard, dates: Dates
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both dates ``(C, height + 2 halo, width + 2 halo)``: normalised, filled, reflected at the scene's border."""
    rows = (halo - (tile.row - wide.row), halo - (wide.stop_row - tile.stop_row))
    cols = (halo - (tile.col - wide.col), halo - (wide.stop_col - tile.stop_col))
    found = []
    for date in (0, 1):
        filled = np.where(window.valid, card.normalise(_raw(window, date)), dates.mean[date][:, None, None])
        found.append(np.pad(filled.astype(np.float32), [(0, 0), rows, cols], mode="symmetric"))
    return found[0], found[1]
