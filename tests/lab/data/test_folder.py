"""The LEVIR reader on fabricated archives of a few pixels."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from terradelta.errors import DataError, LeftOutWarning
from terradelta.lab.data import open_pairs

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
DRIVERS = {".png": "PNG", ".jpg": "JPEG", ".tif": "GTiff"}


def _write(path: Path, values: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values if values.ndim == 3 else values[None]
    size = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", driver=DRIVERS[path.suffix], dtype=values.dtype, **size) as target:
        target.write(values)


def _image(seed: int, bands: int = 3, height: int = 20, width: int = 24) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (bands, height, width), np.uint8)


LABEL = np.zeros((20, 24), np.uint8)
LABEL[3:9, 4:11] = 255


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training pairs, ``b`` and ``a``."""
    for seed, name in enumerate(("b", "a")):
        _write(tmp_path / f"train/A/{name}.png", _image(2 * seed))
        _write(tmp_path / f"train/B/{name}.png", _image(2 * seed + 1))
        _write(tmp_path / f"train/label/{name}.png", LABEL)
    return tmp_path


def test_pairs_are_read_in_sorted_order(root: Path) -> None:
    pairs = open_pairs(str(root), "train")
    assert len(pairs) == 2
    assert [files.name for files in pairs.files] == ["a", "b"]
    pair = pairs.read(1)
    assert pair.name == "b"
    np.testing.assert_array_equal(pair.before, _image(0))
    np.testing.assert_array_equal(pair.after, _image(1))
    np.testing.assert_array_equal(pair.label, LABEL == 255)
    assert pair.label.dtype == bool


def test_a_list_chooses_the_pairs(root: Path) -> None:
    (root / "list").mkdir()
    (root / "list/train.txt").write_text("b.jpg\r\n\n b.jpg \n")
    assert [files.name for files in open_pairs(root, "train").files] == ["b"]
    (root / "list/train.txt").write_text("b\nc.png\n")
    with pytest.raises(
        DataError, match=r"no file for train/A/c, train/B/c, train/label/c; .*leave the name out of lis"
    ):
        open_pairs(root, "train")


def test_suffixes_may_differ_and_other_files_do_not_count(root: Path) -> None:
    _write(root / "train/A/c.tif", _image(8))
    _write(root / "train/B/c.jpg", _image(9))
    _write(root / "train/label/c.png", LABEL)
    (root / "train/A/notes.txt").write_text("x")
    pairs = open_pairs(root, "train")
    assert [files.name for files in pairs.files] == ["a", "b", "c"]
    assert pairs.read(2).after.shape == (3, 20, 24)


@pytest.mark.parametrize("changed", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_labels_of_0_and_1_or_0_and_255(root: Path, changed: int, dtype: type) -> None:
    (root / "train/label/a.png").unlink()
    _write(root / "train/label/a.tif", (LABEL > 0).astype(dtype) * dtype(changed))
    np.testing.assert_array_equal(open_pairs(root, "train").read(0).label, LABEL > 0)


def test_a_label_of_three_equal_bands(root: Path) -> None:
    _write(root / "train/label/a.png", np.stack([LABEL] * 3))
    np.testing.assert_array_equal(open_pairs(root, "train").read(0).label, LABEL > 0)
    _write(root / "train/label/a.png", np.stack([LABEL, LABEL, np.zeros_like(LABEL)]))
    with pytest.raises(DataError, match=r"a.png: a label with 3 differing bands; it must have one band, 0 = unchanged"):
        open_pairs(root, "train").read(0)


def test_a_label_saved_as_jpeg_is_refused(root: Path) -> None:
    (root / "train/label/a.png").unlink()
    _write(root / "train/label/a.jpg", LABEL)
    with pytest.raises(
        DataError, match=r"a.jpg: label values \[0, 1, .*\]; allowed are 0 and 255.*threshold it at 128"
    ):
        open_pairs(root, "train").read(0)


def test_a_label_of_fractions_is_refused(root: Path) -> None:
    (root / "train/label/a.png").unlink()
    _write(root / "train/label/a.tif", np.where(LABEL > 0, 0.5, 0).astype(np.float32))
    with pytest.raises(DataError, match=r"a.tif: label values \[0.0, 0.5\]; allowed are 0 and 255, or 0 and 1"):
        open_pairs(root, "train").read(0)


def test_missing_files_are_named(root: Path) -> None:
    (root / "train/label/a.png").unlink()
    with pytest.raises(
        DataError, match=r"no file for train/label/a; every pair needs an image of both dates and a label"
    ):
        open_pairs(root, "train")
    for path in root.glob("train/[Bl]*/*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"no file for train/B/a, train/label/a, train/B/b and 1 more"):
        open_pairs(root, "train")


def test_missing_folders_and_an_empty_one(root: Path) -> None:
    with pytest.raises(DataError, match="has no split 'val'; there are train"):
        open_pairs(root, "val")
    for part in ("A", "B", "label"):
        (root / "val" / part).mkdir(parents=True)
    with pytest.raises(DataError, match=r"val/A holds no image \(.png, .jpg, "):
        open_pairs(root, "val")


@pytest.mark.parametrize(("part", "size"), [("B", (3, 20, 25)), ("label", (1, 19, 24)), ("B", (1, 20, 24))])
def test_sizes_must_fit(root: Path, part: str, size: tuple[int, ...]) -> None:
    _write(root / "train" / part / "a.png", np.zeros(size, np.uint8))
    found = f"{size[0]} bands? of {size[1]} x {size[2]}"
    words = rf"a: before is 3 bands of 20 x 24, .*{found}.*the three must have one size.* resize .*/train/{part}/a.png;"
    with pytest.raises(DataError, match=words):
        open_pairs(root, "train").read(0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_truncated_image_is_refused(root: Path, suffix: str, share: float) -> None:
    (root / "train/A/a.png").unlink()
    path = root / f"train/A/a{suffix}"
    _write(path, _image(0, height=64, width=64))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=rf"a{suffix} cannot be read \(.*\); replace the file or leave the pair out"):
        open_pairs(root, "train").read(0)


def test_a_png_with_a_flipped_byte_is_refused(root: Path) -> None:
    path = root / "train/B/a.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"B/a.png cannot be read"):
        open_pairs(root, "train").read(0)


def test_checksum_follows_content_and_names_not_place(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = open_pairs(root, "train").checksum()
    moved = tmp_path_factory.mktemp("moved") / "set"
    root.rename(moved)
    assert open_pairs(moved, "train").checksum() == first
    pixel = LABEL.copy()
    pixel[0, 0] = 255
    _write(moved / "train/label/a.png", pixel)
    changed = open_pairs(moved, "train").checksum()
    for part in ("A", "B", "label"):
        (moved / f"train/{part}/a.png").rename(moved / f"train/{part}/c.png")
    assert len({first, changed, open_pairs(moved, "train").checksum()}) == 3


def test_the_real_archive(shared_data: Path) -> None:
    pairs = open_pairs(shared_data / "levir_cd_subset", "test")
    assert len(pairs) == 20
    pair = pairs.read(0)
    assert pair.before.shape == pair.after.shape == (3, 1024, 1024)
    assert pair.label.shape == (1024, 1024)
    assert 0.01 < pair.label.mean() < 0.5


def test_hidden_files_are_no_images(root: Path) -> None:
    """macOS puts them beside every file on other systems' disks."""
    for part in ("A", "B", "label"):
        (root / "train" / part / "._a.png").write_bytes(b"\0\x05\x16\x07Mac OS X")
    with pytest.warns(LeftOutWarning, match=r"1 hidden files were left out, such as \._a\.png"):
        pairs = open_pairs(root, "train")
    assert [files.name for files in pairs.files] == ["a", "b"]
