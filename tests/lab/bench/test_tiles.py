from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from terradelta.errors import DataError
from terradelta.lab.bench.baselines import AllChanged, ChangeVector
from terradelta.lab.bench.design import Setup
from terradelta.lab.bench.tiles import SCENES, bench_pairs, make_synthetic, tiled
from terradelta.lab.data import open_pairs
from terradelta.lab.evaluation import evaluate
from terradelta.lab.synthetic.image_bytes import encode
from terradelta.predict.classical import load_method
from terradelta.raster.pair import open_pair


def write_labelled(root: Path, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    for part, bands in (("A", 3), ("B", 3), ("label", 1)):
        folder = root / "test" / part
        folder.mkdir(parents=True)
        image = rng.integers(0, 256, (bands, height, width)).astype(np.uint8)
        (folder / "x.png").write_bytes(encode(np.where(image > 127, 255, 0).astype(np.uint8), "PNG"))


def test_tiles_are_the_parts_of_the_image_and_do_not_overlap(tmp_path: Path):
    write_labelled(tmp_path, 70, 100)
    source = open_pairs(tmp_path, "test")
    whole, tiles = source.read(0), tiled(source, 32)
    assert len(tiles) == 2 * 3
    seen = np.zeros((70, 100), int)
    for k, files in enumerate(tiles.files):
        window = files.window
        assert window is not None
        part = tiles.read(k)
        rows, cols = window.slices
        assert np.array_equal(part.before, whole.before[:, rows, cols])
        assert np.array_equal(part.after, whole.after[:, rows, cols])
        assert np.array_equal(part.label, whole.label[rows, cols])
        seen[rows, cols] += 1
    assert seen[:64, :96].min() == seen.max() == 1
    assert len({files.name for files in tiles.files}) == 6


def test_tiles_of_tiles_and_of_small_images(tmp_path: Path):
    write_labelled(tmp_path, 40, 20)
    source = open_pairs(tmp_path, "test")
    assert [t.window.height for t in tiled(source, 32).files if t.window] == [32]
    twice = tiled(tiled(source, 20), 10)
    assert len(twice) == 8
    assert np.array_equal(twice.read(5).before, source.read(0).before[:, 20:30, 10:20])


def test_a_sample_is_the_same_each_time_and_has_another_hash(squares: Path):
    source = open_pairs(squares, "test")
    every, some, again = tiled(source, 16), tiled(source, 16, 5), tiled(source, 16, 5)
    assert (len(every), len(some)) == (32, 5)
    assert some.files == again.files
    assert set(some.files) < set(every.files)
    assert some.checksum() == again.checksum() != every.checksum()
    assert tiled(source, 16, 99).files == every.files


def test_a_changed_pixel_changes_the_hash(tmp_path: Path):
    write_labelled(tmp_path, 40, 40)
    before = tiled(open_pairs(tmp_path, "test"), 16).checksum()
    (tmp_path / "test" / "A" / "x.png").write_bytes(encode(np.zeros((3, 40, 40), np.uint8), "PNG"))
    assert tiled(open_pairs(tmp_path, "test"), 16).checksum() != before


def test_train_is_taken_whole(squares: Path, tmp_path: Path):
    protocol = Setup(str(squares), crop_px=32)
    assert bench_pairs(protocol, tmp_path, "train").size(0) == (64, 64)
    assert len(bench_pairs(protocol, tmp_path, "val")) == 8
    with pytest.raises(DataError, match="no labelled pairs that are known"):
        bench_pairs(Setup(str(tmp_path)), tmp_path, "train")


@pytest.mark.slow
def test_the_synthetic_set_holds_change_in_every_split(tmp_path: Path):
    make_synthetic(tmp_path / "data")
    for split, count in SCENES.items():
        pairs = open_pairs(tmp_path / "data", split)
        assert len(pairs) == count
        assert 0.05 < np.mean([pairs.read(k).label.mean() for k in range(4)]) < 0.2
    (tmp_path / "data" / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="draws other scenes than the one that began"):
        make_synthetic(tmp_path / "data")


def test_all_changed_is_the_best_constant(squares: Path):
    pairs = open_pairs(squares, "test")
    share = np.mean([pairs.read(k).label.mean() for k in range(len(pairs))])
    found = evaluate(AllChanged(3), pairs, threshold=0.5)
    assert found.total.recall == 1
    assert found.total.f1 == pytest.approx(2 * share / (1 + share))


def test_cva_is_that_of_map(tmp_path: Path):
    """The same pair through files, passes and samples of `map --method cva`."""
    rng = np.random.default_rng(1)
    before = rng.normal(100, 20, (3, 40, 50)).clip(0, 255).astype(np.uint8)
    after = (0.8 * before + 10 + rng.normal(0, 3, before.shape)).clip(0, 255)
    after[:, 10:20, 15:30] = rng.normal(200, 5, (3, 10, 15))
    after = after.astype(np.uint8)
    import rasterio

    profile = {"driver": "GTiff", "count": 3, "height": 40, "width": 50, "dtype": "uint8", "crs": "EPSG:32614"}
    for name, image in (("a", before), ("b", after)):
        with rasterio.open(tmp_path / f"{name}.tif", "w", transform=Affine(1, 0, 6e5, 0, -1, 3e6), **profile) as file:
            file.write(image)
    with open_pair(tmp_path / "a.tif", tmp_path / "b.tif") as pair:
        expected = load_method("cva").fit(pair).predict(before[None], after[None])
    found = ChangeVector(3, tuned=False).predict(before[None], after[None])
    assert np.allclose(found, expected, atol=2e-3)
    assert found[0, 10:20, 15:30].mean() > 0.9


def test_tuned_cva_rises_with_the_magnitude_alike_in_all_pairs():
    rng = np.random.default_rng(2)
    before = rng.normal(size=(1, 2, 16, 16)).astype(np.float32)
    after = before + rng.normal(size=before.shape).astype(np.float32)
    found = ChangeVector(2, tuned=True).predict(before, after)[0]
    flat = [x[0] for x in (before, after)]
    scaled = [(x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True) for x in flat]
    magnitude = np.sqrt(((scaled[1] - scaled[0]) ** 2).sum(0))
    assert np.allclose(found, magnitude / (1 + magnitude), atol=1e-4)


def test_a_pair_of_one_colour_is_unchanged():
    flat = np.full((1, 3, 8, 8), 7, np.uint8)
    for tuned in (False, True):
        found = ChangeVector(3, tuned=tuned).predict(flat, flat)
        assert np.isfinite(found).all()
        assert (found < 0.5).all()
