"""Reading of pairs: windows, sizes, codings of labels, bands in a folder, lists that are joined."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from terradelta.errors import DataError, ShapeError
from terradelta.geo.grid import Tile
from terradelta.lab.data import LabelledPair, PairFiles, PairList, images, open_pairs
from terradelta.lab.data.images import Image, band_files, read_header, read_image
from terradelta.lab.data.labels import LabelCoding, decode_label, resolve_palette

LABEL = np.zeros((20, 24), np.uint8)
LABEL[3:9, 4:11] = 255


@pytest.fixture
def pair(tmp_path: Path, write_image, noise) -> PairFiles:
    """One pair of 20 x 24 pixels in PNG files."""
    before, after = (write_image(tmp_path / f"{k}.png", noise(k)) for k in (0, 1))
    return PairFiles("p", before, after, write_image(tmp_path / "label.png", LABEL))


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory, write_image, noise) -> PairList:
    """One pair of 20 x 24 pixels in tiled GeoTIFFs, for all examples of a property."""
    root = tmp_path_factory.mktemp("shared")
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    before, after = (write_image(root / f"{k}.tif", noise(k), **options) for k in (0, 1))
    label = write_image(root / "label.tif", LABEL, **options)
    return PairList(root, "train", (PairFiles("p", before, after, label),))


def parts(pair: LabelledPair) -> tuple[np.ndarray, ...]:
    return pair.before, pair.after, pair.label[None]


@given(st.tuples(st.integers(0, 19), st.integers(0, 23)), st.tuples(st.integers(1, 20), st.integers(1, 24)))
def test_a_window_is_a_part_of_the_whole(shared_pair: PairList, corner, size) -> None:
    window = Tile(*corner, min(size[0], 20 - corner[0]), min(size[1], 24 - corner[1]))
    whole, part = shared_pair.read(0), shared_pair.read_window(0, window)
    for have, want in zip(parts(part), parts(whole), strict=True):
        np.testing.assert_array_equal(have, want[:, *window.slices])


@pytest.mark.parametrize("window", [(-1, 0, 4, 4), (0, -1, 4, 4), (17, 0, 4, 4), (0, 21, 4, 4)])
def test_a_window_must_lie_inside(pair: PairFiles, window: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"p: rows .* reach beyond its 20 x 24 pixels; give a window inside it"):
        PairList(pair.before.parent, "train", (pair,)).read_window(0, Tile(*window))


def test_a_pair_can_be_a_part_of_its_images(pair: PairFiles) -> None:
    root = pair.before.parent
    whole = PairList(root, "train", (pair,))
    part = PairList(root, "train", (PairFiles("p", pair.before, pair.after, pair.label, window=Tile(2, 3, 10, 12)),))
    assert part.size(0) == (10, 12)
    for have, want in zip(parts(part.read(0)), parts(whole.read(0)), strict=True):
        np.testing.assert_array_equal(have, want[:, 2:12, 3:15])
    inner = part.read_window(0, Tile(1, 1, 4, 4))
    np.testing.assert_array_equal(inner.before, whole.read(0).before[:, 3:7, 4:8])
    assert part.checksum() != whole.checksum()
    with pytest.raises(ShapeError, match="reach beyond its 10 x 12 pixels"):
        part.read_window(0, Tile(0, 0, 11, 12))


def test_the_size_comes_from_the_headers(pair: PairFiles, write_image, noise) -> None:
    pairs = PairList(pair.before.parent, "train", (pair,))
    assert pairs.size(0) == (20, 24)
    cut = pair.after.read_bytes()[:200]
    pair.after.write_bytes(cut)
    assert pairs.size(0) == (20, 24), "a truncated file still has its header"
    pair.after.unlink()
    with pytest.raises(DataError, match=r"1.png cannot be read .*; replace the file or leave the pair out"):
        pairs.size(0)
    write_image(pair.after, noise(1, height=21))
    with pytest.raises(DataError, match=r"p: before is 3 bands of 20 x 24, after 3 bands of 21 x 24, .*one size"):
        pairs.size(0)


@pytest.mark.parametrize("what", ["pipe", "loop"])
def test_what_is_no_file_is_not_opened(pair: PairFiles, tmp_path: Path, what: str) -> None:
    pair.after.unlink()
    if what == "pipe":
        os.mkfifo(pair.after)
    else:
        pair.after.symlink_to(pair.after.name)
    pairs = PairList(tmp_path, "train", (pair,))
    with pytest.raises(DataError, match=r"1\.png is no file; put one there or leave the pair out"):
        pairs.checksum()
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        pairs.read(0)


def test_an_image_that_memory_cannot_hold_is_not_decoded(pair: PairFiles, write_image, monkeypatch) -> None:
    monkeypatch.setattr(images, "total_memory", lambda: 8 * 20 * 24 * 3 - 1)
    with pytest.raises(DataError, match=r"0\.png is 20 x 24 pixels: .* cut the pair into smaller ones"):
        read_image(pair.before)
    assert read_image(pair.before, Tile(0, 0, 19, 24)).values.shape == (3, 19, 24)


def test_lists_are_joined_and_sent(pair: PairFiles) -> None:
    pairs = PairList(pair.before.parent, "train", (pair,), name="mine")
    other = PairList("elsewhere", "val", (PairFiles("q", pair.after, pair.before, pair.label),))
    both = pairs.joined(other)
    assert [files.name for files in both.files] == ["p", "q"]
    assert (both.root, both.split, both.name, len(both)) == (pairs.root, "train", "mine", 2)
    assert len(pairs) == 1
    np.testing.assert_array_equal(both.read(1).before, both.read(0).after)
    again = pickle.loads(pickle.dumps(both))
    assert again.checksum() == both.checksum()
    assert other.name == "elsewhere"


def test_an_image_may_be_a_folder_of_bands(tmp_path: Path, write_image, noise) -> None:
    names = ["B01", "B02", "B8A", "B08", "B12", "B10"]
    for k, name in enumerate(names):
        write_image(tmp_path / f"{name}.tif", noise(k, bands=1))
    assert [path.stem for path in band_files(tmp_path)] == ["B01", "B02", "B08", "B8A", "B10", "B12"]
    assert str(read_header(tmp_path)) == "6 bands of 20 x 24"
    whole = read_image(tmp_path).values
    np.testing.assert_array_equal(whole[3], noise(2, bands=1)[0])
    np.testing.assert_array_equal(read_image(tmp_path, Tile(2, 3, 4, 5)).values, whole[:, 2:6, 3:8])
    write_image(tmp_path / "B09.tif", noise(9, bands=1, height=10, width=12))
    for call in (read_header, read_image):
        with pytest.raises(DataError, match=r"B01.tif is 20 x 24, but .*B09.tif 10 x 12; the bands of one image must"):
            call(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"holds no image .*; put one file for each band there"):
        read_header(tmp_path)


def decode(values: list[list[int]], coding: LabelCoding) -> list[list[int]]:
    image = Image(np.array(values, np.uint8)[None])
    return decode_label(image, Path("l.png"), coding).astype(int).tolist()


def test_codings_by_hand() -> None:
    assert decode([[0, 255], [255, 0]], LabelCoding.BINARY) == [[0, 1], [1, 0]]
    assert decode([[0, 1]], LabelCoding.BINARY) == [[0, 1]]
    assert decode([[0, 127, 128, 255, 3]], LabelCoding.LOSSY) == [[0, 0, 1, 1, 0]]
    assert decode([[1, 2, 1]], LabelCoding.ONE_TWO) == [[0, 1, 0]]
    assert decode([[0, 1, 7]], LabelCoding.NONZERO) == [[0, 1, 1]]
    with pytest.raises(DataError, match=r"l.png: label values \[0, 2\]; allowed are 1 \(unchanged\) and 2 \(changed\)"):
        decode([[0, 2]], LabelCoding.ONE_TWO)
    with pytest.raises(DataError, match=r"l.png: label values \[1, 2\]; allowed are 0 and 255, or 0 and 1"):
        decode([[1, 2]], LabelCoding.BINARY)


def test_alpha_is_no_change() -> None:
    values = np.zeros((4, 2, 2), np.uint8)
    values[3] = 255
    values[1, 0, 1] = 9
    found = decode_label(Image(values), Path("l.png"), LabelCoding.NONZERO)
    assert found.tolist() == [[False, True], [False, False]]


def test_a_palette_of_black_and_white_is_resolved() -> None:
    indices = np.array([[[0, 1], [1, 0]]], np.uint8)
    white_first = Image(indices, {0: (255, 255, 255, 255), 1: (0, 0, 0, 255)})
    assert decode_label(white_first, Path("l.png"), LabelCoding.BINARY).tolist() == [[True, False], [False, True]]
    coloured = Image(indices, {0: (0, 0, 0, 255), 1: (128, 0, 0, 255)})
    np.testing.assert_array_equal(resolve_palette(coloured), indices)
    assert decode_label(coloured, Path("l.png"), LabelCoding.BINARY).tolist() == [[False, True], [True, False]]


def test_a_palette_survives_the_file(tmp_path: Path, write_image) -> None:
    values = np.zeros((4, 4), np.uint8)
    values[0] = 1
    path = write_image(tmp_path / "l.png", values, colormap={0: (255, 255, 255, 255), 1: (0, 0, 0, 255)})
    found = decode_label(read_image(path), path, LabelCoding.BINARY)
    assert not found[0].any()
    assert found[1:].all()


def test_open_pairs_takes_the_layout_of_levir(tmp_path: Path, write_image, noise) -> None:
    for part, values in (("A", noise(0)), ("B", noise(1)), ("label", LABEL)):
        write_image(tmp_path / "val" / part / "x.png", values)
    pairs = open_pairs(str(tmp_path), "val")
    assert (len(pairs), pairs.split, pairs.name) == (1, "val", tmp_path.name)
    assert pairs.size(0) == (20, 24)
