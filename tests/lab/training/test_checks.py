"""Damaged data stop a run before its first step; the message names the file and what to do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from terradelta.errors import DataError
from terradelta.lab.data import PairList, open_pairs
from terradelta.lab.training import checks
from terradelta.lab.training.checks import check_pairs
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.loop import fit

BANDS = ("red", "green", "blue")


@pytest.fixture
def noise(tmp_path: Path, write_pair: Callable[..., None]) -> Path:
    """Five training pairs and one for validation, of noise, so that their PNGs are long enough to be cut."""
    rng = np.random.default_rng(0)
    for split, names in (("train", "abcde"), ("val", "v")):
        for name in names:
            before, after = (rng.integers(0, 256, (3, 40, 40)).astype(np.uint8) for _ in range(2))
            write_pair(tmp_path, split, name, before, after, rng.integers(0, 2, (40, 40)).astype(np.uint8) * 255)
    return tmp_path


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def _grey(path: Path, values: np.ndarray) -> None:
    path.unlink()
    size = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="PNG", **size) as target:
        target.write(values, 1)


def test_good_pairs_pass(noise: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_pairs(open_pairs(noise, "train"), BANDS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 5) for k in range(1, 6)]


def test_a_truncated_png_is_found_by_decoding_only(noise: Path) -> None:
    _cut(noise / "train" / "B" / "c.png")
    pairs = open_pairs(noise, "train")
    check_pairs(pairs, BANDS, decode=False)
    with pytest.raises(
        DataError, match=r"1 of 5 train pairs cannot be used; nothing was trained:\n.*train/B/c.png"
    ) as e:
        check_pairs(pairs, BANDS)
    assert "replace the file or leave the pair out" in str(e.value)


@pytest.mark.parametrize("decode", [True, False])
def test_a_label_of_another_size(noise: Path, decode: bool) -> None:
    _grey(noise / "train" / "label" / "b.png", np.zeros((40, 39), np.uint8))
    with pytest.raises(
        DataError, match=r"b: before is 3 bands of 40 x 40, .* label 1 band of 40 x 39; .* resize .*b.png"
    ):
        check_pairs(open_pairs(noise, "train"), BANDS, decode=decode)


def test_a_label_with_other_values(noise: Path) -> None:
    _grey(noise / "train" / "label" / "b.png", np.arange(1600, dtype=np.uint8).reshape(40, 40))
    with pytest.raises(DataError, match=r"1 of 5 train pairs .*\n.*label/b.png"):
        check_pairs(open_pairs(noise, "train"), BANDS)


@pytest.mark.parametrize("decode", [True, False])
def test_other_bands_than_the_recipes(noise: Path, decode: bool) -> None:
    with pytest.raises(
        DataError, match=r"(?s)5 of 5 .*\na: 3 bands, but the recipe names 1 \(grey\); .*\n... and 2 more$"
    ):
        check_pairs(open_pairs(noise, "train"), ("grey",), decode=decode)


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    values = np.full((3, 8, 8), 0.5, np.float32)
    values[1, 2, 3] = np.nan
    for part, array in (
        ("A", np.full((3, 8, 8), 0.5, np.float32)),
        ("B", values),
        ("label", np.zeros((1, 8, 8), "u1")),
    ):
        (tmp_path / "train" / part).mkdir(parents=True)
        profile = {"driver": "GTiff", "height": 8, "width": 8, "count": len(array), "dtype": array.dtype}
        with rasterio.open(tmp_path / "train" / part / "x.tif", "w", **profile) as target:
            target.write(array)
    with pytest.raises(DataError, match="x: the image after holds values that are no numbers; fill them, or"):
        check_pairs(open_pairs(tmp_path, "train"), BANDS)


def test_large_pairs_are_read_in_strips(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = []
    original = PairList.read_window
    monkeypatch.setattr(checks, "STRIP_PX", 40 * 16)
    monkeypatch.setattr(
        PairList, "read_window", lambda self, k, w: windows.append((w.row, w.height)) or original(self, k, w)
    )
    check_pairs(open_pairs(noise, "val"), BANDS)
    assert windows == [(0, 16), (16, 16), (32, 8)]


@pytest.mark.parametrize("split", ["train", "val"])
def test_fit_stops_before_anything_is_written(noise: Path, split: str) -> None:
    name = {"train": "d", "val": "v"}[split]
    _cut(noise / split / "A" / f"{name}.png")
    train, val = (open_pairs(noise, x) for x in ("train", "val"))
    with pytest.raises(DataError, match=rf"{split}/A/{name}.png"):
        fit(Recipe("x"), train, val, noise / "run", device="cpu")
    assert not (noise / "run").exists()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_worker_processes_find_the_same(noise: Path) -> None:
    _cut(noise / "train" / "A" / "e.png")
    with pytest.raises(DataError, match=r"1 of 5 train pairs .*\n.*train/A/e.png"):
        check_pairs(open_pairs(noise, "train"), BANDS, workers=1)


def test_a_missing_label_has_no_folder_to_train_from(noise: Path) -> None:
    (noise / "train" / "label" / "b.png").unlink()
    with pytest.raises(DataError, match="no file for train/label/b"):
        open_pairs(noise, "train")
    assert replace(Recipe("x"), check_data=False).differences(Recipe("x").to_json()) == ["check_data"]


def _images(folder: Path, low: float, high: float, dtype: str) -> PairList:
    rng = np.random.default_rng(0)
    for part in ("A", "B"):
        (folder / "train" / part).mkdir(parents=True)
        with rasterio.open(
            folder / "train" / part / "a.tif", "w", driver="GTiff", height=20, width=20, count=3, dtype=dtype
        ) as file:
            file.write(rng.uniform(low, high, (3, 20, 20)).astype(dtype))
    (folder / "train" / "label").mkdir()
    with rasterio.open(
        folder / "train" / "label" / "a.tif", "w", driver="GTiff", height=20, width=20, count=1, dtype="uint8"
    ) as file:
        file.write(np.zeros((1, 20, 20), "uint8"))
    return open_pairs(folder, "train")


@pytest.mark.parametrize(
    ("low", "high", "dtype", "scale", "message"),
    [
        (900, 3800, "uint16", 255, r"values from 9\d\d to 3\d+, and 100% of them lie beyond 0 to 255.*Recipe.scale"),
        (-25, -12, "float32", 255, r"values from -2.* lie beyond 0 to 255.*for decibels add an offset"),
        (0, 1, "float32", 255, r"hold values from .*, but the recipe's scale is 255: the noise"),
    ],
)
def test_values_that_the_augmentation_would_cut_off(tmp_path, low, high, dtype, scale, message) -> None:
    pairs = _images(tmp_path, low, high, dtype)
    with pytest.raises(DataError, match=message):
        check_pairs(pairs, BANDS, scale=scale)
    assert check_pairs(pairs, BANDS) == ""  # where nothing is cut off
    assert check_pairs(pairs, BANDS, scale=scale, decode=False) == ""


def test_some_values_beyond_the_scale_are_a_warning(tmp_path) -> None:
    pairs = _images(tmp_path, 0, 4000, "uint16")
    assert check_pairs(pairs, BANDS, scale=4000) == ""
    warning = check_pairs(pairs, BANDS, scale=3600)
    assert "train images hold values from" in warning
    assert "% of them lie beyond 0 to 3600" in warning
