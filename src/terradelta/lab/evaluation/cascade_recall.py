"""What screening at low resolution keeps of labelled changes, and what it would leave out; see `predict.cascade`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from terradelta.errors import DataError
from terradelta.lab.data.pairs import PairSource
from terradelta.lab.evaluation.calibrate import refuse_test
from terradelta.predict.cascade import BLOCK_PX, FACTOR, LEVEL, lower_bound, screen
from terradelta.predict.predictor import Predictor

__all__ = ["cascade_scores", "measure_cascade"]

RECALLS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Shares of the changes for which thresholds are looked for."""

Scores = NDArray[np.float64]


def measure_cascade(
    predictor: Predictor,
    pairs: PairSource,
    *,
    factor: int = FACTOR,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The thresholds that keep shares of the labelled changes, as a record for the card.

    A change is a part of the label that hangs together by its edges. It is kept by a threshold if the low-resolution
    probability reaches it anywhere in the blocks of `BLOCK_PX` pixels that the change touches. A share stands in the
    record only if it holds with a confidence of `LEVEL`.

    Args:
        predictor: the model.
        pairs: labelled validation pairs.
        factor: pixels along each axis that become one.
        progress: called with (done, total) after every pair.

    Returns:
        ``rows``: the ``recall``, its ``threshold``, how many changes it ``missed`` here, and which share of blocks and
        of whole images it would have ``skipped``; and on what it was measured.

    Raises:
        InputError: if it is the test split.
        DataError: if a pair cannot be read, or no label holds change.
    """
    refuse_test(pairs.split, "choosing a threshold of screening")
    changes, blocks, images = cascade_scores(predictor, pairs, factor=factor, progress=progress)
    if not len(changes):
        raise DataError(f"no label of {pairs.name} ({pairs.split}) holds change; use data with changes")
    ordered, rows = np.sort(changes), []
    for recall in RECALLS:
        missed = _most_missed(len(ordered), recall)
        if missed is not None:
            threshold = float(ordered[missed])
            rows.append(
                {
                    "recall": recall,
                    "threshold": threshold,
                    "missed": int((changes < threshold).sum()),
                    "skipped_blocks": float((blocks < threshold).mean()),
                    "skipped_images": float((images < threshold).mean()),
                }
            )
    return {
        "data": pairs.name,
        "split": pairs.split,
        "pairs": len(pairs),
        "changes": len(changes),
        "block_px": BLOCK_PX,
        "factor": factor,
        "level": LEVEL,
        "rows": rows,
    }


def cascade_scores(
    predictor: Predictor,
    pairs: PairSource,
    *,
    factor: int = FACTOR,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Scores, Scores, Scores]:
    """The largest low-resolution probability at each labelled change, in each block, and in each image.

    Raises:
        DataError: if a pair cannot be read.
    """
    changes: list[float] = []
    blocks: list[float] = []
    images: list[float] = []
    for index in range(len(pairs)):
        pair = pairs.read(index)
        found = _block_peaks(screen(predictor, pair.before, pair.after, factor), BLOCK_PX // factor)
        blocks += found.ravel().tolist()
        images.append(float(found.max()))
        labels, _ = ndimage.label(pair.label)
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            rows, cols = np.nonzero(labels[place] == number)
            touched = found[(rows + place[0].start) // BLOCK_PX, (cols + place[1].start) // BLOCK_PX]
            changes.append(float(touched.max()))
        if progress is not None:
            progress(index + 1, len(pairs))
    return np.array(changes), np.array(blocks), np.array(images)


def _block_peaks(probability: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The largest value in each block of ``side`` pixels; blocks at the end may be smaller."""
    padded = np.pad(probability, [(0, -length % side) for length in probability.shape])
    shape = (padded.shape[0] // side, side, padded.shape[1] // side, side)
    return np.asarray(padded.reshape(shape).max(axis=(1, 3)))


def _most_missed(changes: int, recall: float) -> int | None:
    """How many of so many changes may be missed for a recall to hold with confidence; None: not even none."""
    missed = None
    for number in range(changes):
        if lower_bound(changes - number, changes) < recall:
            break
        missed = number
    return missed
