"""Predictors that take several tiles at once: the product is the one of tile by tile, to the byte."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from terradelta.errors import ModelError
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.cascade import CARD_ENTRY

from .conftest import BoxPredictor, Writer

OPTIONS = MapOptions(tile=64, overlap=16, min_area_m2=0)
ROWS, COLS = 6, 9
MEASURED = {"rows": [{"recall": 0.9, "threshold": 0.125}], "factor": 4, "changes": 9, "data": "made up", "split": "val"}


class Grouped(BoxPredictor):
    def __init__(self, at_once: int) -> None:
        super().__init__()
        self.at_once = at_once
        self.prepared: list[tuple[int, ...]] = []

    def prepare(self, height: int, width: int, count: int) -> int:
        self.prepared.append((height, width, count))
        return self.at_once


@pytest.fixture
def pair(write_tiff: Writer, pair_values) -> list[Path]:
    before, after = pair_values
    before[:, :90, :90] = 0  # two tiles without data in the first row
    return [write_tiff(f"{name}.tif", v, nodata=0) for name, v in zip("ab", (before, after), strict=True)]


def digests(folder: Path) -> list[str]:
    names = ("probability.tif", "change.tif", "change.gpkg")
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.parametrize("at_once", [2, 4, 100])
def test_groups_of_tiles_give_the_same_map(tmp_path, pair, at_once):
    expected = map_change(*pair, tmp_path / "one", BoxPredictor(), OPTIONS)
    predictor = Grouped(at_once)
    ticks: list[tuple[int, int]] = []
    made = map_change(*pair, tmp_path / "many", predictor, OPTIONS, progress=lambda *each: ticks.append(each))
    assert digests(made.folder) == digests(expected.folder)
    assert predictor.prepared == [(64, 64, ROWS * COLS)]
    assert max(call[0] for call in predictor.calls) == min(at_once, COLS - (at_once >= COLS))
    assert sum(call[0] for call in predictor.calls) == ROWS * COLS - 1
    assert ticks == [(i, ROWS * COLS) for i in range(1, ROWS * COLS + 1)]


def test_tiles_that_are_screened_out_are_not_in_the_groups(tmp_path, pair, monkeypatch):
    monkeypatch.setattr("terradelta.mapping.plan.BLOCK_PX", 4)
    options = MapOptions(tile=64, overlap=16, min_area_m2=0, cascade=0.9)
    made, sizes = [], []
    for at_once in (1, 4):
        predictor = Grouped(at_once)
        predictor.card = predictor.card.replace(training={CARD_ENTRY: MEASURED})
        made.append(map_change(*pair, tmp_path / f"{at_once}", predictor, options))
        sizes.append(sum(call[0] for call in predictor.calls if call[2] == 64))
    assert digests(made[0].folder) == digests(made[1].folder)
    assert made[0].receipt.cascade == made[1].receipt.cascade
    assert 0 < sizes[0] == sizes[1] == ROWS * COLS - 1 - made[0].receipt.cascade["skipped"]


def test_the_tile_with_values_that_are_no_numbers_is_named(tmp_path, pair):
    class Broken(Grouped):
        def logits(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
            found = super().logits(before, after)
            if len(found) == 4:
                found[2, 0, 5, 5] = np.nan
            return found

    with pytest.raises(ModelError, match="no numbers at rows 0 to 63, columns 288 to 351"):
        map_change(*pair, tmp_path / "out", Broken(4), OPTIONS)
