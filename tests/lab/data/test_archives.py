"""Every public archive, fabricated a few pixels wide in its real layout."""

import itertools
import json
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from terradelta.errors import DataError
from terradelta.lab.data import open_pairs
from terradelta.lab.data.archives import ARCHIVES, count_notes
from terradelta.lab.data.opening import ArchiveWarning, find_data
from terradelta.lab.data.scenes import OSCD_BANDS, OSCD_CITIES
from terradelta.lab.data.tiling import Tiling, tile_dataset
from terradelta.lab.doctor import check_dataset, mend_dataset
from terradelta.lab.doctor.label_values import LabelKind

Make = Callable[[Path], None]
LABEL = np.zeros((20, 24), np.uint8)
LABEL[3:9, 4:11] = 255


Image = Callable[..., NDArray[np.uint8]]
Write = Callable[..., Path]


@dataclass(frozen=True)
class Folders:
    """An archive of split folders: three pairs to train on, one for validation, two for tests."""

    names: tuple[str, str, str]
    template: str
    inside: str = ""
    side: tuple[int, int] = (20, 24)
    label_suffix: str | None = None

    def __call__(self, root: Path, write: Write, noise: Image) -> None:
        height, width = self.side
        for split, count in (("train", 3), ("val", 1), ("test", 2)):
            for k in range(1, count + 1):
                label = np.zeros(self.side, np.uint8)
                label[3:9, 4:11] = 255
                file = Path(self.template.format(split=split, k=k))
                before, after, labels = (root / self.inside / split / name for name in self.names)
                bands = 1 if height > 100 else 3
                write(before / file, noise(2 * k, bands, height, width))
                write(after / file, noise(2 * k + 1, bands, height, width))
                write(labels / file.with_suffix(self.label_suffix or file.suffix), label)


def make_gz(root: Path, write: Write, noise: Image) -> None:
    for n in range(1, 20):
        write(root / f"CD_Data_GZ/T1/P_GZ_test{n}_2010_1221_Level_18.tif", noise(n, 3, 16 + n, 20))
        write(root / f"CD_Data_GZ/T2/P_GZ_test{n}_2018_0103_Level_18.tif", noise(n + 100, 3, 16 + n, 20))
        label = np.zeros((3, 16 + n, 20), np.uint8)
        label[:, 2:5, :n] = 255
        write(root / f"CD_Data_GZ/labels_change/P_GZ_test{n}_2010_2018.png", label)


def make_whu(root: Path, write: Write, noise: Image) -> None:
    data = root / "Building change detection dataset_add/1. The two-period image data"
    for area, height in (("train", 80), ("test", 40)):
        for year in (2012, 2016):
            image = noise(year + height, height=height)
            write(data / f"{year}/whole_image/{area}/image/{year}_{area}.tif", image)
            write(data / f"{year}/whole_image/{area}/label/{year}_{area}.tif", image[:1])
        label = (noise(height, bands=1, height=height)[0] > 200).astype(np.uint8)
        write(data / f"change_label/{area}/change_label.tif", label)
    (root / "Building change detection dataset_add/2. The shape file of the images").mkdir()


def make_oscd(root: Path, write: Write, noise: Image) -> None:
    images = root / "Onera Satellite Change Detection dataset - Images"
    for area, cities in OSCD_CITIES.items():
        labels = root / f"Onera Satellite Change Detection dataset - {area.title()} Labels"
        for n, city in enumerate(cities):
            for date, (k, band) in itertools.product((1, 2), enumerate(OSCD_BANDS)):
                write(images / city / f"imgs_{date}_rect/{band}.tif", np.full((8, 9), 100 * date + k, np.uint16))
            change = np.zeros((8, 9), np.uint8)
            change[n % 8, :4] = 1
            write(labels / city / f"cm/{city}-cm.tif", change + 1)
            rgba = np.concatenate([np.stack([change * 255] * 3), np.full((1, 8, 9), 255, np.uint8)])
            write(labels / city / "cm/cm.png", rgba)
        (images / f"{area}.txt").write_text(",".join(cities))


MAKERS: dict[str, Callable[[Path, Write, Image], None]] = {
    "levir-cd": Folders(("A", "B", "label"), "{split}_{k}.png"),
    "cdd": Folders(("A", "B", "OUT"), "{k:05d}.jpg", "ChangeDetectionDataset/Real/subset"),
    "gz": make_gz,
    "dsifn": Folders(("t1", "t2", "mask"), "{k}.jpg", "DSIFN-Dataset", label_suffix=".png"),
    "sysu-cd": Folders(("time1", "time2", "label"), "{k:05d}.png", "SYSU-CD", side=(256, 256)),
    "whu-cd": make_whu,
    "clcd": Folders(("time1", "time2", "label"), "{k:05d}.png", side=(512, 512)),
    "s2looking": Folders(("Image1", "Image2", "label"), "{k}.png", "S2Looking"),
    "oscd": make_oscd,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of archives that were made already."""
    return tmp_path_factory.mktemp("archives")


@pytest.fixture
def make(made: Path, write_image: Write, noise: Image) -> dict[str, Make]:
    """Archive -> a function that makes it in a folder, with few pairs; later calls copy what the first has made."""

    def once(key: str, root: Path) -> None:
        if not (made / key).exists():
            (made / key).mkdir()
            MAKERS[key](made / key, write_image, noise)
        shutil.copytree(made / key, root, dirs_exist_ok=True)

    return {key: partial(once, key) for key in MAKERS}


def names(location: Path | str, split: str) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveWarning)
        return [files.name for files in open_pairs(location, split).files]


@pytest.mark.parametrize("key", ARCHIVES)
def test_an_archive_is_recognised_and_read(make: dict[str, Make], tmp_path: Path, key: str) -> None:
    make[key](tmp_path)
    archive, layout = find_data(tmp_path)
    assert archive is ARCHIVES[key]
    assert layout.name == archive.title
    assert set(layout.splits) >= {"train", "val", "test"} <= set(archive.pairs)
    for split in layout.splits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ArchiveWarning)
            pairs = open_pairs(f"{key}:{tmp_path}", split)
        assert pairs.name == archive.title
        for index in range(len(pairs)):
            pair = pairs.read(index)
            assert pair.before.shape == pair.after.shape
            assert pair.before.shape[1:] == pair.label.shape == pairs.size(index)
            assert 0 < pair.label.mean() < 1
        assert len(pairs.checksum()) == 64


@pytest.mark.parametrize("key", ARCHIVES)
def test_every_archive_says_where_it_is_from_and_who_may_use_it(key: str) -> None:
    archive = ARCHIVES[key]
    assert archive.key == key
    assert archive.source.startswith("http")
    assert re.search(r"(19|20)\d\d", archive.citation)
    assert archive.licence
    assert "{" in archive.layout


@pytest.mark.parametrize("key", ["levir-cd", "cdd", "dsifn", "sysu-cd", "clcd", "s2looking"])
def test_a_wrong_count_is_named_but_not_refused(make: dict[str, Make], tmp_path: Path, key: str) -> None:
    make[key](tmp_path)
    expected = ARCHIVES[key].pairs["test"]
    message = f"has {expected} pairs in test, but here are 2: {expected - 2} fewer.*cannot be compared"
    with pytest.warns(ArchiveWarning, match=message):
        assert len(open_pairs(tmp_path, "test")) == 2


def test_the_right_count_is_not_spoken_of(make: dict[str, Make], tmp_path: Path) -> None:
    for key in ("gz", "oscd", "whu-cd"):
        make[key](tmp_path / key)
        for split in ("train", "val", "test"):
            open_pairs(tmp_path / key, split)  # a warning would be an error


def test_gaps_of_the_numbering_are_named() -> None:
    cdd, levir = ARCHIVES["cdd"], ARCHIVES["levir-cd"]
    numbers = [f"{n:05d}" for n in range(3000) if n not in (7, 2000)]
    (note,) = count_notes(cdd, "test", numbers)
    assert "but here are 2998: 2 fewer; the numbering lacks 00007, 02000." in note
    (note,) = count_notes(levir, "val", [f"val_{n}" for n in range(1, 65) if n % 8])
    assert "8 fewer; the numbering lacks val_8, val_16, val_24, val_32, val_40 and 2 more." in note
    (note,) = count_notes(levir, "val", [f"x{n}" for n in range(64)] + ["other"])
    assert "but here are 65: 1 more. Scores" in note
    assert count_notes(levir, "val", [f"val_{n}" for n in range(64)]) == []
    assert count_notes(levir, "other", ["a"]) == []


def test_pairs_come_in_sorted_order_whatever_the_system_says(make, tmp_path, monkeypatch) -> None:
    make["dsifn"](tmp_path)
    first = names(tmp_path, "train")
    original = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(sorted(original(self))))
    assert names(tmp_path, "train") == first == sorted(first)


def test_levir_cd_is_not_any_folder_of_its_layout(make: dict[str, Make], tmp_path: Path) -> None:
    make["levir-cd"](tmp_path)
    for part in ("A", "B", "label"):
        (tmp_path / f"val/{part}/val_1.png").rename(tmp_path / f"val/{part}/mine.png")
    archive, _ = find_data(tmp_path)
    assert archive is None
    assert names(tmp_path, "train") == ["train_1", "train_2", "train_3"]


def test_archives_that_differ_only_in_size(make: dict[str, Make], tmp_path: Path) -> None:
    make["clcd"](tmp_path)
    with pytest.raises(DataError, match=r"does not hold SYSU-CD; it unpacks as .*/\{time1,time2,label\}"):
        open_pairs(f"sysu-cd:{tmp_path}", "train")


def test_cdd_prefers_the_real_images(make: dict[str, Make], tmp_path: Path, write_image, noise) -> None:
    make["cdd"](tmp_path)
    shifted = tmp_path / "ChangeDetectionDataset/Model/with_shift"
    for part, values in (("A", noise(0)), ("B", noise(1)), ("OUT", LABEL)):
        write_image(shifted / "train" / part / "shifted.bmp", values)
    assert names(tmp_path, "train") == ["00001", "00002", "00003"]
    assert names(f"cdd:{shifted}", "train") == ["shifted"]


def test_labels_of_cdd_are_cut_at_128(make: dict[str, Make], tmp_path: Path) -> None:
    make["cdd"](tmp_path)
    with pytest.warns(ArchiveWarning):
        pairs = open_pairs(tmp_path, "train")
    assert (pairs.read(0).label != (LABEL > 0)).mean() < 0.02  # JPEG has blurred the edge


def test_gz_is_split_by_number(make: dict[str, Make], tmp_path: Path) -> None:
    make["gz"](tmp_path)
    splits = [[int(name.removeprefix("P_GZ_test")) for name in names(tmp_path, s)] for s in ("train", "val", "test")]
    assert splits == [list(range(1, 10)), list(range(10, 16)), list(range(16, 20))]
    pairs = open_pairs(tmp_path, "val")
    assert pairs.size(0) == (26, 20)
    assert pairs.read(0).label.sum() == 3 * 10
    (tmp_path / "CD_Data_GZ/list").mkdir()
    (tmp_path / "CD_Data_GZ/list/val.txt").write_text("P_GZ_test3\nP_GZ_test2\n")
    assert names(tmp_path, "val") == ["P_GZ_test2", "P_GZ_test3"]
    (tmp_path / "CD_Data_GZ/list/val.txt").write_text("P_GZ_test33\n")
    with pytest.raises(DataError, match=r"val.txt names P_GZ_test33, which is none of P_GZ_test1, P_GZ_test2"):
        open_pairs(tmp_path, "val")


def test_gz_with_files_missing_or_twice(make: dict[str, Make], tmp_path: Path, write_image, noise) -> None:
    make["gz"](tmp_path)
    root = tmp_path / "CD_Data_GZ"
    (root / "labels_change/P_GZ_test2_2010_2018.png").unlink()
    with pytest.raises(DataError, match=r"no file for labels_change/P_GZ_test2; every pair needs an image of both"):
        open_pairs(tmp_path, "train")
    write_image(root / "T1/P_GZ_test4_2011_1.tif", noise(0))
    with pytest.raises(DataError, match=r"T1 holds two images of scene 4, P_GZ_test4_2010_1221_Level_18.tif and"):
        open_pairs(tmp_path, "train")
    (root / "T1/P_GZ_test4_2011_1.tif").rename(root / "T1/other.tif")
    with pytest.raises(DataError, match=r"other.tif: a name without the number of a scene; such as P_GZ_test1_2013"):
        open_pairs(tmp_path, "train")


def test_whu_cuts_its_validation_data_from_the_training_scene(make: dict[str, Make], tmp_path: Path) -> None:
    make["whu-cd"](tmp_path)
    train, val, test, whole = (open_pairs(tmp_path, split) for split in ("train", "val", "test", "trainval"))
    assert [p.size(0) for p in (train, val, test, whole)] == [(70, 24), (10, 24), (40, 24), (80, 24)]
    for part in ("before", "after", "label"):
        parts = [getattr(p.read(0), part) for p in (train, val)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=-2), getattr(whole.read(0), part))
    label = next(tmp_path.rglob("change_label/test/*.tif"))
    label.unlink()
    with pytest.raises(DataError, match=r"no file for .*change_label/test/\*.tif; every pair needs"):
        open_pairs(tmp_path, "test")
    image = next(tmp_path.rglob("2012/whole_image/train/image/*.tif"))
    image.with_name("copy.tif").write_bytes(image.read_bytes())
    with pytest.raises(DataError, match=r"train/image holds 2 images where WHU-CD has one; remove those"):
        open_pairs(tmp_path, "train")


def test_oscd_stacks_thirteen_bands(make: dict[str, Make], tmp_path: Path) -> None:
    make["oscd"](tmp_path)
    train, val, both = (open_pairs(tmp_path, split) for split in ("train", "val", "trainval"))
    assert [len(p) for p in (train, val, both)] == [11, 3, 14]
    assert [files.name for files in val.files] == ["hongkong", "beirut", "mumbai"]
    assert train.joined(val).files == both.files
    pair = train.read(2)
    assert pair.before.dtype == np.uint16
    assert pair.before[:, 0, 0].tolist() == list(range(100, 113))
    assert pair.after[:, 0, 0].tolist() == list(range(200, 213))
    assert np.argwhere(pair.label).tolist() == [[2, 0], [2, 1], [2, 2], [2, 3]]


def test_both_label_files_of_oscd_say_the_same(make: dict[str, Make], tmp_path: Path) -> None:
    make["oscd"](tmp_path)
    png = [open_pairs(tmp_path, "test").read(k).label for k in range(10)]
    for path in tmp_path.rglob("cm.png"):
        path.unlink()
    pairs = open_pairs(tmp_path, "test")
    assert {files.label.suffix for files in pairs.files} == {".tif"}
    for k in range(10):
        np.testing.assert_array_equal(pairs.read(k).label, png[k])


def test_oscd_without_lists_or_with_bands_missing(make: dict[str, Make], tmp_path: Path) -> None:
    make["oscd"](tmp_path)
    images = tmp_path / "Onera Satellite Change Detection dataset - Images"
    expected = names(tmp_path, "train")
    (images / "train.txt").unlink()
    assert names(tmp_path, "train") == expected
    (images / "paris/imgs_2_rect/B8A.tif").unlink()
    for path in tmp_path.rglob("pisa*.tif"):
        path.unlink()
    next(tmp_path.rglob("pisa/cm/cm.png")).unlink()
    with pytest.raises(DataError, match=r"no file for paris/imgs_2_rect/B8A, pisa/cm/cm.png; .*train.txt"):
        open_pairs(tmp_path, "train")


def test_a_missing_label_is_named(make: dict[str, Make], tmp_path: Path) -> None:
    make["sysu-cd"](tmp_path)
    (tmp_path / "SYSU-CD/val/label/00001.png").unlink()
    with pytest.raises(DataError, match=r"no file for val/label/00001; every pair needs an image of both dates"):
        open_pairs(tmp_path, "val")


def test_a_split_that_is_not_there(make: dict[str, Make], tmp_path: Path) -> None:
    make["s2looking"](tmp_path)
    with pytest.raises(DataError, match=r"S2Looking has no split 'dev'; there are train, val, test. Name one of them"):
        open_pairs(tmp_path, "dev")


def test_two_archives_in_one_folder_must_be_told_apart(make: dict[str, Make], tmp_path: Path) -> None:
    make["cdd"](tmp_path / "a")
    make["s2looking"](tmp_path / "b")
    with pytest.raises(DataError, match=r"holds CDD in .*/subset and S2Looking in .*; .* put the name in front: cdd:"):
        open_pairs(tmp_path, "train")
    assert names(f"S2Looking:{tmp_path}", "val") == ["1"]


def test_a_name_in_front_of_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone is no folder; give the one into which CDD was unpacked"):
        open_pairs(f"cdd:{tmp_path}/gone", "train")


@pytest.mark.parametrize("key", ARCHIVES)
def test_the_page_says_what_the_code_says(key: str) -> None:
    page = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    archive = ARCHIVES[key]
    assert f"### {archive.title} (`{key}`)" in page
    facts = (
        archive.size,
        archive.shows,
        archive.layout,
        archive.licence,
        archive.citation,
        archive.source,
        archive.note,
    )
    for fact in facts:
        assert fact in page
    for split, count in archive.pairs.items():
        assert f"{count:,} {split}" in page


@pytest.mark.parametrize("key", ["gz", "whu-cd", "oscd"])
def test_archives_of_scenes_can_be_checked_tiled_and_mended(make: dict[str, Make], tmp_path: Path, key: str) -> None:
    make[key](tmp_path / "data")
    checkup = check_dataset(f"{key}:{tmp_path}/data")
    assert set(checkup.sources) == {"train", "val", "test"}, "trainval holds the same pairs once more"
    unlike = [finding.message for finding in checkup.findings if finding.kind in ("unreadable file", "sizes differ")]
    assert not unlike
    assert {record.label for record in checkup.records} <= {LabelKind.CODED, LabelKind.FULL_RANGE, LabelKind.ONE}
    counts = tile_dataset(f"{key}:{tmp_path}/data", tmp_path / "tiles", Tiling(8))
    assert all(counts.tiles.values())
    for split in ("train", "val", "test"):
        pairs, tiles = open_pairs(tmp_path / "data", split), open_pairs(tmp_path / "tiles", split)
        first = [files.name for files in tiles.files].index(f"{pairs.files[0].name}_00000_00000")
        np.testing.assert_array_equal(tiles.read(first).before, pairs.read(0).before[:, :8, :8])
        np.testing.assert_array_equal(tiles.read(first).label, pairs.read(0).label[:8, :8])
    mend_dataset(checkup, tmp_path / "mended")
    for folder in ("tiles", "mended"):
        assert json.loads((tmp_path / folder / "dataset.json").read_text())["licence"] == ARCHIVES[key].licence
    copy = open_pairs(tmp_path / "mended", "test")
    by_name = {files.name: k for k, files in enumerate(pairs.files)}
    for k, files in enumerate(copy.files):
        whole = pairs.read(by_name[files.name])
        np.testing.assert_array_equal(copy.read(k).after, whole.after)
        np.testing.assert_array_equal(copy.read(k).label, whole.label)
