"""People's own data: folders under usual names, any three folders, tables of pairs, and what is none of these."""

from pathlib import Path

import numpy as np
import pytest

from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.data import open_pairs
from terradelta.lab.data.opening import find_data

LABEL = np.zeros((20, 24), np.uint8)
LABEL[3:9, 4:11] = 255


@pytest.fixture
def put(tmp_path: Path, write_image, noise):
    """``put("before/x.png", ...)``: a label where the path says so, noise elsewhere."""

    def write(*files: str) -> Path:
        for k, file in enumerate(files):
            is_label = any(word in file for word in ("label", "mask", "gt"))
            write_image(tmp_path / file, LABEL if is_label else noise(k))
        return tmp_path

    return write


def names(location: Path | str, split: str) -> list[str]:
    return [files.name for files in open_pairs(location, split).files]


@pytest.mark.parametrize(
    "folders", [("before", "after", "mask"), ("T1", "T2", "GT"), ("Pre", "Post", "labels"), ("img1", "img2", "label")]
)
def test_folders_of_usual_names_in_splits(put, folders: tuple[str, str, str]) -> None:
    before, after, label = folders
    root = put(*(f"{split}/{part}/x.png" for split in ("train", "val") for part in (before, after, label.lower())))
    if label != label.lower():
        for split in ("train", "val"):
            (root / split / label.lower()).rename(root / split / label)
    archive, layout = find_data(root)
    assert archive is None
    assert layout.splits == ("train", "val")
    assert names(root, "val") == ["x"]
    np.testing.assert_array_equal(open_pairs(root, "val").read(0).label, LABEL > 0)


def test_folders_without_splits_have_one(put) -> None:
    root = put("before/b.png", "after/b.png", "label/b.png", "before/a.png", "after/a.png", "label/a.png")
    assert names(root, "all") == ["a", "b"]
    with pytest.raises(DataError, match=r"no split 'train'; there are all. .*write the names to take into .*train.txt"):
        open_pairs(root, "train")
    (root / "list").mkdir()
    (root / "list/val.txt").write_text("b.png\n")
    (root / "list/train.txt").write_text("a\n")
    assert find_data(root)[1].splits == ("train", "val")
    assert (names(root, "train"), names(root, "val")) == (["a"], ["b"])


def test_any_three_folders_and_words_for_the_date(put) -> None:
    root = put("old/x_before.png", "new/x_after.png", "truth/label_x.png", "old/y_1.png", "new/y_2.png")
    location = f"{root}/old, {root}/new,{root}/truth"
    with pytest.raises(DataError, match=r"no file for truth/y; every pair needs"):
        open_pairs(location, "all")
    put("truth/y_mask.png")
    pairs = open_pairs(location, "all")
    assert [files.name for files in pairs.files] == ["x", "y"]
    assert pairs.root == root
    put("truth/mask_y.png")
    with pytest.raises(DataError, match=r"truth: mask_y.png and y_mask.png both belong to 'y'; rename one"):
        open_pairs(location, "all")
    with pytest.raises(DataError, match=r"newer is no folder; give BEFORE_DIR,AFTER_DIR,LABEL_DIR"):
        open_pairs(f"{root}/old,{root}/newer,{root}/truth", "all")


def test_numbers_are_no_dates_where_names_agree(put) -> None:
    root = put(*(f"{part}/tile_{k}.png" for part in ("before", "after", "label") for k in (1, 2)))
    assert names(root, "all") == ["tile_1", "tile_2"]


def test_two_images_of_one_name_are_ambiguous(put) -> None:
    root = put("train/A/x.png", "train/A/x.jpg", "train/B/x.png", "train/label/x.png")
    with pytest.raises(DataError, match=r"A holds both x.jpg and x.png; keep one image of a name"):
        open_pairs(root, "train")


def test_a_table_of_pairs(put) -> None:
    root = put("one/a.png", "two/a.png", "label/a.png", "one/b.png")
    table = root / "pairs.csv"
    table.write_text(
        "before, after ,label,split,name,window\n"
        "one/a.png,two/a.png,label/a.png,val,second,\n"
        "one/b.png,two/a.png,label/a.png,train,,2 3 10 12\n"
        f"{root}/one/b.png,two/a.png,label/a.png,train,whole,\n"
    )
    pairs = open_pairs(table, "train")
    assert [files.name for files in pairs.files] == ["b_2_3", "whole"]
    assert (pairs.name, pairs.root) == ("pairs", table)
    assert find_data(table)[1].splits == ("train", "val")
    assert pairs.size(0) == (10, 12)
    np.testing.assert_array_equal(pairs.read(0).label, LABEL[2:12, 3:15] > 0)
    np.testing.assert_array_equal(pairs.read_window(1, Tile(2, 3, 10, 12)).after, pairs.read(0).after)
    assert names(table, "val") == ["second"]
    with pytest.raises(DataError, match=r"no split 'test'; there are train, val. The column 'split' says which pair"):
        open_pairs(table, "test")


def test_a_table_without_splits_and_with_files_missing(put) -> None:
    root = put("a.png", "b.png", "label.png")
    table = root / "pairs.csv"
    table.write_text("before,after,label,name\na.png,b.png,label.png,\na.png,c.png,label.png,c\n")
    with pytest.raises(DataError, match=r"no file for .*/c.png; every pair needs .* leave the name out of pairs.csv"):
        open_pairs(table, "all")
    scan = find_data(table)[1].scan("all")
    assert [files.name for files in scan.files] == ["a"]
    assert [path.name for path in scan.unmatched] == ["a.png", "label.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no column before, after, label; the first line must name before,after,label and may name name, split"),
        ("before,label\na.png,l.png\n", r"no column after"),
        ("before,after,label\n", r"pairs.csv holds no pair; write one a line under the header"),
        ("before,after,label\na.png,,l.png\n", r"pairs.csv, line 2: after is empty; every pair needs"),
        ("before,after,label,window\na,b,c,1 2 3\n", r"line 2: window is '1 2 3'; write row col height width"),
        ("before,after,label,window\na,b,c,0 0 -1 4\n", r"line 2: window is '0 0 -1 4'"),
        ("before,after,label\na.png,b,c\nx/a.png,d,e\n", r"two pairs of split 'all' are called 'a'; tell them apart"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        open_pairs(table, "all")


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match=r"pairs.csv cannot be read as a table .*; give a CSV file in UTF-8"):
        open_pairs(table, "all")


def test_a_window_beyond_the_image(put) -> None:
    root = put("a.png", "b.png", "label.png")
    (root / "pairs.csv").write_text("before,after,label,window\na.png,b.png,label.png,15 0 10 4\n")
    pairs = open_pairs(root / "pairs.csv", "all")
    with pytest.raises(DataError, match=r"a_15_0: its window, rows 15 to 25, columns 0 to 4, reaches beyond .*20 x 24"):
        pairs.size(0)


def test_archives_that_are_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"or a CSV file of pairs. It holds train.zip: unpack it first"):
        open_pairs(tmp_path, "train")
    with pytest.raises(DataError, match=r"does not hold LEVIR-CD; .* It holds train.zip: unpack it first"):
        open_pairs(f"levir-cd:{tmp_path}", "train")


def test_places_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no labelled pairs that are known; give a folder with"):
        open_pairs(tmp_path, "train")
    with pytest.raises(DataError, match=r"gone does not exist; give a folder, a CSV file .*NAME:DIR with one of"):
        open_pairs(tmp_path / "gone", "train")
