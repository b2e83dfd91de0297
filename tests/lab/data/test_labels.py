"""Labels that say where they do not know."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from terradelta.errors import DataError
from terradelta.lab.data import open_pairs
from terradelta.lab.data.images import Image
from terradelta.lab.data.labels import LabelCoding, decode_label, split_unknown
from terradelta.lab.data.pairs import LabelledPair

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
VALUES = np.array([[[0, 1, 255], [255, 1, 0]]], np.uint8)


def test_masked_is_0_1_and_255_for_unknown() -> None:
    label, known = split_unknown(Image(VALUES), LabelCoding.MASKED)
    np.testing.assert_array_equal(known, [[True, True, False], [False, True, True]])
    np.testing.assert_array_equal(
        decode_label(label, Path("l.png"), LabelCoding.MASKED), [[False, True, False], [False, True, False]]
    )


def test_without_an_unknown_pixel_there_is_no_mask() -> None:
    for coding, values in ((LabelCoding.MASKED, [0, 1]), (LabelCoding.BINARY, [0, 255]), (LabelCoding.ONE_TWO, [1, 2])):
        image = Image(np.array([[values]], np.uint8))
        assert split_unknown(image, coding) == (image, None)


def test_nodata_is_unknown_unless_it_is_0() -> None:
    label, known = split_unknown(Image(np.array([[[1, 2, 9]]], np.uint8), nodata=9), LabelCoding.ONE_TWO)
    np.testing.assert_array_equal(label.values, [[[1, 2, 1]]])
    np.testing.assert_array_equal(known, [[True, True, False]])
    assert split_unknown(Image(np.array([[[0, 1]]], np.uint8), nodata=0), LabelCoding.BINARY)[1] is None


def test_other_values_than_the_coding_are_refused() -> None:
    label, _ = split_unknown(Image(np.array([[[0, 7, 255]]], np.uint8)), LabelCoding.MASKED)
    with pytest.raises(DataError, match=r"label values \[0, 7, 255\]; allowed are 0 .* 255 \(not known\)"):
        decode_label(label, Path("l.png"), LabelCoding.MASKED)
    with pytest.raises(DataError, match="write masked into the column coding"):
        decode_label(Image(VALUES), Path("l.png"), LabelCoding.BINARY)


def _write(path: Path, values: np.ndarray, **options: object) -> None:
    size = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2]}
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    with rasterio.open(path, "w", driver=driver, dtype="uint8", **size, **options) as target:
        target.write(values)


@pytest.mark.parametrize("way", ["coding", "nodata"])
def test_a_table_and_a_tiff_say_which_labels_do_not_know(tmp_path: Path, way: str) -> None:
    for name in ("a", "b"):
        _write(tmp_path / f"{name}.png", np.full((3, 2, 3), 50, np.uint8))
    if way == "coding":
        _write(tmp_path / "l.png", VALUES)
        table = "before,after,label,coding\na.png,b.png,l.png,masked\n"
    else:
        _write(tmp_path / "l.tif", VALUES, nodata=255)
        table = "before,after,label\na.png,b.png,l.tif\n"
    (tmp_path / "pairs.csv").write_text(table)
    pair = open_pairs(tmp_path / "pairs.csv", "all").read(0)
    np.testing.assert_array_equal(pair.label, VALUES[0] == 1)
    np.testing.assert_array_equal(pair.known, VALUES[0] != 255)
    assert pair.valid is None
    np.testing.assert_array_equal(pair.counted, pair.known)


def test_a_coding_that_there_is_not_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("before,after,label,coding\na.png,b.png,l.png,maybe\n")
    with pytest.raises(DataError, match=r"line 2: coding is 'maybe'; it must be one of binary, .*masked"):
        open_pairs(tmp_path / "pairs.csv", "all")


def test_scores_count_where_images_are_valid_and_the_label_is_known() -> None:
    one, other = np.array([[True, True, False]]), np.array([[True, False, True]])
    pair = LabelledPair("p", np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), np.zeros((1, 3), bool))
    assert pair.counted is None
    fields = (pair.name, pair.before, pair.after, pair.label)
    np.testing.assert_array_equal(LabelledPair(*fields, one, other).counted, [[True, False, False]])
    np.testing.assert_array_equal(LabelledPair(*fields, valid=one).counted, one)
    np.testing.assert_array_equal(LabelledPair(*fields, known=other).counted, other)
