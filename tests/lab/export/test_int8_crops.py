import hashlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from terradelta.card import ModelCard
from terradelta.errors import BandError, DataError
from terradelta.lab.export.int8_crops import read_calibration

CARD = ModelCard("w", "none", ("red", "green", "blue"), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), stride=16)
RNG = np.random.default_rng(2)


def _labelled(root: Path, split: str, sides: dict[str, int]) -> Path:
    for kind in ("A", "B", "label"):
        (root / split / kind).mkdir(parents=True)
    for name, side in sides.items():
        for kind in ("A", "B"):
            iio.imwrite(root / split / kind / f"{name}.png", RNG.integers(0, 256, (side, side, 3), np.uint8))
        iio.imwrite(root / split / "label" / f"{name}.png", np.zeros((side, side), np.uint8))
    return root


def _contains(image: np.ndarray, crop: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(image, crop.shape)
    return bool((windows == crop).all((-3, -2, -1)).any())


def test_crops_of_labelled_pairs_are_parts_of_both_dates_at_one_place(tmp_path: Path) -> None:
    root = _labelled(tmp_path / "data", "train", {"a": 40, "b": 35, "c": 64})
    _labelled(tmp_path / "data", "val", {"z": 40})
    found = read_calibration(str(root), CARD, 5, 32)
    assert (found.name, found.pairs) == ("data train", 3)
    assert [before.shape for before, _ in found.crops] == [(3, 32, 32)] * 5
    dates = {k: [iio.imread(root / "train" / k / f"{n}.png") for n in "abc"] for k in "AB"}
    for (before, after), number in zip(found.crops, (0, 0, 1, 2, 2), strict=True):
        both = np.concatenate([dates["A"][number], dates["B"][number]], axis=2).transpose(2, 0, 1).astype(np.float32)
        assert _contains(both, np.concatenate([before, after]))
    text = b"".join(values.tobytes() for dates_ in found.crops for values in dates_)
    assert found.sha256 == hashlib.sha256(text).hexdigest()


def test_crops_depend_on_the_seed_alone(tmp_path: Path) -> None:
    root = str(_labelled(tmp_path, "train", {"a": 64}))
    first, again, other = (read_calibration(root, CARD, 3, 16, seed) for seed in (0, 0, 1))
    assert first.sha256 == again.sha256 != other.sha256


def test_smaller_pairs_give_what_they_have_and_the_smallest_nothing(tmp_path: Path) -> None:
    root = str(_labelled(tmp_path, "train", {"a": 15, "b": 40}))
    found = read_calibration(root, CARD, 4, 256)
    assert found.pairs == 1
    assert [before.shape for before, _ in found.crops] == [(3, 32, 32)] * 2


def test_nothing_large_enough(tmp_path: Path) -> None:
    root = str(_labelled(tmp_path, "train", {"a": 15}))
    with pytest.raises(DataError, match=r"no pair holds data in 16 x 16 pixels, the least that model 'w' takes"):
        read_calibration(root, CARD, 4, 256)


def _scene(path: Path, values: np.ndarray, names: tuple[str, ...] = ("red", "green", "blue")) -> Path:
    place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 1, 1), "nodata": 0}
    shape = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as target:
        target.write(values)
        target.descriptions = names
    return path


def test_two_images_without_a_label_in_the_models_order_of_bands(tmp_path: Path) -> None:
    values = RNG.integers(1, 256, (3, 32, 32), np.uint8)
    before = _scene(tmp_path / "b.tif", values)
    after = _scene(tmp_path / "a.tif", values[::-1], ("blue", "green", "red"))
    found = read_calibration(f"{before},{after}", CARD, 2, 32)
    assert (found.name, found.pairs, len(found.crops)) == ("b.tif, a.tif", 1, 2)
    for each in found.crops:
        np.testing.assert_array_equal(each[0], values)
        np.testing.assert_array_equal(each[1], values)


def test_pixels_without_data_are_the_cards_mean_and_empty_places_are_passed_over(tmp_path: Path) -> None:
    values = np.zeros((3, 32, 96), np.uint8)
    values[:, :, 60:] = 200
    scenes = [_scene(tmp_path / name, values) for name in ("b.tif", "a.tif")]
    found = read_calibration(",".join(map(str, scenes)), CARD, 6, 32)
    filled = 0
    for before, after in found.crops:
        np.testing.assert_array_equal(before, after)
        empty = before[0] != 200
        assert empty.mean() <= 0.5
        filled += int(empty.sum())
        np.testing.assert_allclose(before[:, empty], np.array([[127.5], [102.0], [76.5]]).repeat(empty.sum(), 1))
    assert filled > 0
    for path in scenes:
        path.unlink()
    nothing = [_scene(tmp_path / name, np.full((3, 160, 1600), 0, np.uint8)) for name in ("b.tif", "a.tif")]
    for path in nothing:
        with rasterio.open(path, "r+") as target:  # so that the pair as a whole does hold data
            target.write(np.full((3, 1, 1), 9, np.uint8), window=((0, 1), (0, 1)))
    with pytest.raises(DataError, match="no pair holds data"):
        read_calibration(",".join(map(str, nothing)), CARD, 2, 32)


def test_a_table_of_pairs(tmp_path: Path) -> None:
    for number in range(3):
        for date in "ba":
            _scene(tmp_path / f"{date}{number}.tif", np.full((3, 16, 16), 10 * number + (date == "a") + 1, np.uint8))
    table = tmp_path / "pairs.csv"
    table.write_text("before,after\n" + "\n".join(f"b{i}.tif,a{i}.tif" for i in range(3)))
    found = read_calibration(str(table), CARD, 3, 16)
    assert (found.name, found.pairs) == ("pairs.csv", 3)
    assert [(before.max(), after.max()) for before, after in found.crops] == [(1, 2), (11, 12), (21, 22)]


def test_tables_that_cannot_be_used(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("before,after\nb.tif,a.tif\nb.tif,\n")
    with pytest.raises(DataError, match=r"pairs.csv, line 3: after is empty; every pair needs before and after"):
        read_calibration(str(table), CARD, 3, 16)
    table.write_text("before,after\n")
    with pytest.raises(DataError, match=r"pairs.csv holds no pair; write one a line under the header before,after"):
        read_calibration(str(table), CARD, 3, 16)
    table.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match=r"pairs.csv cannot be read as a table .*; give a CSV file in UTF-8"):
        read_calibration(str(table), CARD, 3, 16)


def test_places_and_bands_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_calibration(str(tmp_path / "nowhere"), CARD, 3, 16)
    scene = _scene(tmp_path / "b.tif", np.ones((1, 16, 16), np.uint8), ("nir",))
    with pytest.raises(BandError):
        read_calibration(f"{scene},{scene}", CARD, 3, 16)
