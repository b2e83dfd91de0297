"""Verdicts on a real product become tiles whose images are those that were mapped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray

from terradelta.card import STRETCH, ModelCard
from terradelta.errors import DataError, InputError
from terradelta.geo.grid import Grid
from terradelta.lab.data.reviewed import reviewed_tiles
from terradelta.mapping.run import map_change
from terradelta.predict.predictor import Predictor
from terradelta.review.verdicts import VerdictRow

PLACE = Affine(2, 0, 500_000, 0, -2, 4_000_000)
CARD = ModelCard("p", "none", ("red", "green", "blue"), (0.5,) * 3, (0.25,) * 3, stretch=STRETCH, tile=512)
SPOTS = ((40, 40), (40, 300), (300, 40), (300, 330), (60, 70), (60, 330))
"""(row, col) of changes of 20 x 20 pixels."""


class Pixels(Predictor):
    """Changed where the bands differ by more than a standard deviation."""

    def __init__(self) -> None:
        super().__init__(CARD)

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        """By the mean difference of the bands."""
        return (10 * (np.abs(after - before).mean(1, keepdims=True) - 1)).astype(np.float32)


@pytest.fixture(params=["uint8", "uint16"])
def product(request: pytest.FixtureRequest, tmp_path: Path, write_image) -> Path:
    """A map of six bright squares; the second date starts 5 pixels further right and 8 lower."""
    kind = np.dtype(request.param)
    gain = 1 if kind == np.uint8 else 40
    rng = np.random.default_rng(0)
    before = rng.integers(60, 110, (3, 400, 420))
    after = before + rng.integers(0, 3, before.shape)
    for row, col in SPOTS:
        after[:, row : row + 20, col : col + 20] += 130
    write_image(tmp_path / "a.tif", (before * gain).astype(kind), crs="EPSG:32631", transform=PLACE)
    moved = PLACE @ Affine.translation(5, 8)
    write_image(tmp_path / "b.tif", (after * gain).astype(kind)[:, 8:, 5:], crs="EPSG:32631", transform=moved)
    made = map_change(tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "out", Pixels())
    assert made.receipt.result.polygons == 6
    return tmp_path / "out"


def _rows(product: Path, verdicts: Sequence[str], author: str = "Ada") -> list[VerdictRow]:
    """Verdicts on the polygons, one each."""
    meta, _, shapes, columns = pyogrio.raw.read(product / "change.gpkg")
    ids = columns[list(meta["fields"]).index("id")].tolist()
    return [
        VerdictRow(k, "judged", ids[k - 1], what, author, "2026-11-30T00:00:00Z", None, shapely.from_wkb(shapes[k - 1]))  # type: ignore[arg-type]
        for k, what in enumerate(verdicts, 1)
    ]


MIXED = ("accept", "reject", "accept", "accept", "reject", "accept")


def test_tiles_are_the_mapped_pixels_with_what_was_seen(product: Path, tmp_path: Path, write_review) -> None:
    rows = _rows(product, MIXED)
    write_review(product, rows)
    found = reviewed_tiles([product], CARD, tmp_path / "tiles")
    scene = _read(tmp_path / "a.tif")
    changed = 0
    for k, files in enumerate(found.pairs.files):
        pair, grid = found.pairs.read(k), found.pairs.grid(k)
        assert grid is not None
        row, col = Grid(grid.crs, PLACE, (400, 420)).offset_in(grid) or (0, 0)
        part = scene[:, -row : -row + 256, -col : -col + 256].astype(np.float64)
        assert pair.before.dtype == pair.after.dtype == np.uint8  # so nothing stretches them again
        if scene.dtype == np.uint8:
            np.testing.assert_array_equal(pair.before, part)
        else:  # stretched as the map was
            scaling = json.loads((product / "receipt.json").read_text())["scaling"]
            low, high = (np.array(scaling[name])[:, None, None] for name in ("low", "high"))
            np.testing.assert_allclose(pair.before, ((part - low) / (high - low)).clip(0, 1) * 255, atol=0.51)
        assert pair.label.shape == (256, 256)
        assert pair.known is not None
        assert 0 < pair.known.mean() < 1
        changed += int(pair.label.sum())
        assert files.name.startswith("01_out_")
    assert changed >= 4 * 360  # four accepted squares, but for their simplified corners; some lie in two tiles
    assert found.facts == {
        "verdicts": {"accepted": 4, "rejected": 2, "unsure": 0, "drawn": 0, "erased": 0},
        "authors": 1,
        "products": ["out"],
    }
    assert found.text == "6 verdicts of 1 author on out (4 accepted, 2 rejected)"
    assert len(found.groups) == len(found.pairs)


def _read(path: Path) -> NDArray[Any]:
    import rasterio

    with rasterio.open(path) as source:
        return np.asarray(source.read())


def test_tiles_stay_when_the_images_go_but_not_with_other_verdicts(product: Path, tmp_path: Path, write_review) -> None:
    write_review(product, _rows(product, MIXED))
    first = reviewed_tiles([product], CARD, tmp_path / "tiles")
    (tmp_path / "a.tif").rename(tmp_path / "c.tif")
    assert reviewed_tiles([product], CARD, tmp_path / "tiles").pairs.checksum() == first.pairs.checksum()
    with pytest.raises(DataError, match=r"the image of the first date is no longer at .*a\.tif; put it back"):
        reviewed_tiles([product], CARD, tmp_path / "other")
    (product / "review.gpkg").unlink()
    write_review(product, _rows(product, ("reject", *MIXED[1:])))
    with pytest.raises(InputError, match="are others than when this run began"):
        reviewed_tiles([product], CARD, tmp_path / "tiles")


def test_another_image_under_the_name_is_refused(product: Path, tmp_path: Path, write_review, write_image) -> None:
    write_review(product, _rows(product, MIXED))
    write_image(tmp_path / "b.tif", np.zeros((3, 400, 420), np.uint8), crs="EPSG:32631", transform=PLACE)
    with pytest.raises(DataError, match="is another file than the one that was mapped"):
        reviewed_tiles([product], CARD, tmp_path / "tiles")


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        (("accept", "reject"), "2 verdicts are too few to learn from; give at least 6"),
        (("reject",) * 6, "all 6 verdicts say that nothing changed"),
        (("accept",) * 6, "all 6 verdicts accept what the map shows already"),
        (("unsure",) * 6, "0 verdicts are too few"),
    ],
)
@pytest.mark.parametrize("product", ["uint8"], indirect=True)
def test_verdicts_that_teach_nothing(
    product: Path, tmp_path: Path, write_review, verdicts: tuple[str, ...], message: str
) -> None:
    write_review(product, _rows(product, verdicts))
    with pytest.raises(DataError, match=message):
        reviewed_tiles([product], CARD, tmp_path / "tiles")
    assert not (tmp_path / "tiles").exists()


@pytest.mark.parametrize("product", ["uint8"], indirect=True)
def test_several_products_are_told_apart(product: Path, tmp_path: Path, write_review) -> None:
    import shutil

    write_review(product, _rows(product, MIXED))
    shutil.copytree(product, tmp_path / "again")
    found = reviewed_tiles([product, tmp_path / "again"], CARD, tmp_path / "tiles")
    half = len(found.pairs) // 2
    assert not set(found.groups[:half]) & set(found.groups[half:])
    assert found.pairs.files[half].name.startswith("02_again_")
    assert found.facts["products"] == ["out", "again"]
