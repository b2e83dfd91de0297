"""Screening at low resolution: which tiles cannot hold change, with a recall that was measured on labelled data.

The network looks at a tile at a quarter of the resolution first, for a sixteenth of the work. If its probability stays
below a threshold all over the tile, the tile is not predicted. The threshold is that of a share of labelled changes
which screening is to keep; `terradelta.lab.evaluation.cascade_recall` measures it, and the card carries it.

The bound is that of Clopper and Pearson 1934 (doi:10.1093/biomet/26.4.404). It takes changes for independent draws from
what is to be mapped. Changes of one image are not, and a scene unlike the labelled images may hold others.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from terradelta.card import ModelCard
from terradelta.errors import InputError, ModelError
from terradelta.predict.predictor import Predictor

__all__ = ["BLOCK_PX", "CARD_ENTRY", "FACTOR", "LEVEL", "Cascade", "choose_cascade", "lower_bound", "screen"]

FACTOR = 4
"""Pixels along each axis that become one."""
BLOCK_PX = 64
"""Side of the blocks in which a labelled change must be noticed; less than what tiles see beyond their used part."""
LEVEL = 0.95
"""Confidence of the recall."""
CARD_ENTRY = "cascade"
"""Entry of the card's ``training`` that holds what was measured."""


@dataclass(frozen=True)
class Cascade:
    """What is screened by, from a card."""

    asked: float
    """Share of the changes to keep that the user asked for, above 0 and below 1."""
    recall: float
    """The share that is kept with a confidence of `LEVEL`; not below ``asked``."""
    threshold: float
    """Low-resolution probability below which nothing changes."""
    factor: int
    """As `FACTOR`."""
    data: str
    """The data and the split it was measured on."""
    changes: int
    """How many labelled changes they hold."""

    def may_hold_change(self, predictor: Predictor, before: NDArray[Any], after: NDArray[Any]) -> bool:
        """Whether a tile must be predicted; both dates ``(C, H, W)``, as the predictor takes them."""
        return bool(screen(predictor, before, after, self.factor).max() >= self.threshold)

    def record(self) -> dict[str, Any]:
        """JSON-ready record."""
        return {**asdict(self), "level": LEVEL}

    def line(self) -> str:
        """A sentence for the report before the run."""
        return (
            f"Tiles are screened at 1/{self.factor} of the resolution, and left out where nothing seems to change: of "
            f"{self.changes:,} changes in {self.data}, this keeps {self.recall:.1%} or more (confidence {LEVEL:.0%}); "
            "how many it keeps on other ground is not known."
        )


def screen(
    predictor: Predictor, before: NDArray[Any], after: NDArray[Any], factor: int = FACTOR
) -> NDArray[np.float32]:
    """Probability of change at low resolution: ``(C, H, W) x 2 -> (ceil(H / factor), ceil(W / factor))``."""
    small = [_low_resolution(values, factor)[None] for values in (before, after)]
    return np.asarray(predictor.predict(small[0], small[1])[0], np.float32)


def choose_cascade(card: ModelCard, recall: float) -> Cascade:
    """The screening of a card that keeps a share of the changes.

    Raises:
        InputError: if ``recall`` is not between 0 and 1, or more than the measurement can promise.
        ModelError: if the card holds no measurement.
    """
    if not 0 < recall < 1:
        raise InputError(f"--cascade {recall:g}: the share of changes to keep must be above 0 and below 1, e.g. 0.99")
    measured = card.training.get(CARD_ENTRY)
    if not measured:
        raise ModelError(
            f"it was not measured what screening keeps with the model {card.name!r}, so --cascade could promise "
            "nothing; measure it: terradelta evaluate MODEL --data DIR --split val --cascade FILE.onnx, and map with "
            "that file"
        )
    try:
        rows = sorted((float(row["recall"]), float(row["threshold"])) for row in measured["rows"])
        fitting = [row for row in rows if row[0] >= recall]
        facts = {"factor": int(measured["factor"]), "changes": int(measured["changes"])}
        data = f"{measured['data']} ({measured['split']})"
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the card of {card.name!r} holds a damaged measurement of screening; measure anew") from error
    if not fitting:
        most = f"at most {rows[-1][0]:g}" if rows else "nothing"
        raise InputError(
            f"--cascade {recall:g}: with {facts['changes']:,} changes in {data}, {most} can be promised; ask for less, "
            "or measure on more data"
        )
    return Cascade(recall, *fitting[0], data=data, **facts)


def lower_bound(kept: int, of: int, level: float = LEVEL) -> float:
    """The share that is kept at least, with a confidence, when ``kept`` of ``of`` were (Clopper-Pearson, one-sided)."""
    return float(betaincinv(kept, of - kept + 1, 1 - level)) if kept else 0.0


def _low_resolution(values: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means of ``factor`` x ``factor`` pixels; at the lower and right end the last pixels count on."""
    bands, height, width = values.shape
    padded = np.pad(values, ((0, 0), (0, -height % factor), (0, -width % factor)), mode="edge")
    shape = (bands, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    return np.asarray(padded.reshape(shape).mean(axis=(2, 4), dtype=np.float32))
