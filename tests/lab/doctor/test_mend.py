"""The mended copy of a data set."""

import csv
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from terradelta.errors import DataError, OutputExistsError
from terradelta.lab.data import open_pairs
from terradelta.lab.doctor import check_dataset, mend_dataset

from .doctor_scenes import SIDE, UTM, Builder, kinds, scene, square


def read_log(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "fixes.csv").open() as stream:
        return [(row["split"], row["name"], row["done"]) for row in csv.DictReader(stream)]


def test_a_mended_copy_has_no_error_left(data: Builder, tmp_path: Path) -> None:
    colour = np.zeros((3, SIDE, SIDE), np.uint8)
    colour[0, 5:20, 5:20] = 255
    data.pair("train", "colour", 7, label=colour)
    data.pair("train", "jpeg", 8, suffixes={"label": ".jpg"})
    data.pair("train", "one", 9, label=np.stack([square(9, 1)] * 3))
    data.pair("train", "palette", 10)
    palette = {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)}
    data.write_image(data.root / "train/label/palette.png", square(10, 1), colormap=palette)
    data.pair("train", "class", 11, label=square(11, 3))
    data.pair("train", "cut", 12)
    (data.root / "train/B/cut.png").write_bytes(b"")
    data.pair("train", "odd", 13, label=np.zeros((3, 4), np.uint8))
    data.pair("train", "copy", 14, before=scene(206), after=scene(207))
    data.pair("train", "gone", 15)
    (data.root / "train/label/gone.png").unlink()
    source = {path: path.read_bytes() for path in data.root.rglob("*.*")}
    changes = mend_dataset(data.check(), tmp_path / "mended")
    left_out = ("class", "copy", "cut", "gone", "odd")
    rewritten = ("colour", "jpeg", "one", "palette")
    assert {change.name for change in changes if change.left_out} == set(left_out)
    assert {change.name for change in changes if not change.left_out} == set(rewritten)
    expected = [("train", name, "left out" if name in left_out else "changed") for name in sorted(left_out + rewritten)]
    assert read_log(tmp_path / "mended") == expected
    again = check_dataset(tmp_path / "mended")
    assert kinds(again) == {}
    pairs = open_pairs(tmp_path / "mended", "train")
    by_name = {files.name: pairs.read(k) for k, files in enumerate(pairs.files)}
    assert set(by_name) == {"p0", "p1", "p2", *rewritten}
    np.testing.assert_array_equal(by_name["colour"].label, colour[0] > 0)
    np.testing.assert_array_equal(by_name["one"].label, square(9) > 0)
    np.testing.assert_array_equal(by_name["palette"].label, square(10) > 0)
    assert (by_name["jpeg"].label != (square(8) > 0)).mean() < 0.01
    assert (tmp_path / "mended/train/A/p0.png").read_bytes() == (data.root / "train/A/p0.png").read_bytes()
    assert {path: path.read_bytes() for path in data.root.rglob("*.*")} == source


def test_scenes_on_the_ground_are_mended_onto_one_grid(tmp_path: Path, write_image) -> None:
    place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
    write_image(tmp_path / "a.tif", scene(1), crs=UTM, transform=place)
    write_image(tmp_path / "b.tif", scene(2), crs=UTM, transform=place @ Affine.translation(8, 0))
    write_image(tmp_path / "l.tif", square(3), crs=UTM, transform=place)
    (tmp_path / "p.csv").write_text("before,after,label,name,split\na.tif,b.tif,l.tif,s,train\n")
    checkup = check_dataset(tmp_path / "p.csv")
    assert kinds(checkup) == {}
    mend_dataset(checkup, tmp_path / "mended")
    whole, copy = open_pairs(tmp_path / "p.csv", "train"), open_pairs(tmp_path / "mended", "train")
    for part in ("before", "after", "label"):
        np.testing.assert_array_equal(getattr(copy.read(0), part), getattr(whole.read(0), part))
    assert copy.grid(0) == whole.grid(0)


def test_mending_refuses_and_leaves_nothing(data: Builder, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputExistsError, match="there is there already; nothing was overwritten"):
        mend_dataset(data.check(), tmp_path / "there")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("terradelta.lab.doctor.mend._write_lists", fail)
    with pytest.raises(KeyboardInterrupt):
        mend_dataset(data.check(), tmp_path / "mended")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "there"}


def test_nothing_to_keep(tmp_path: Path, write_image) -> None:
    data = Builder(tmp_path / "data", write_image)
    data.pair("train", "a", 1, label=square(1, 3))
    with pytest.raises(DataError, match="no pair can be kept; mend the labels first"):
        mend_dataset(data.check(), tmp_path / "mended")
