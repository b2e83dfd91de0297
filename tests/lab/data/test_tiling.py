"""Cutting into tiles: nothing lost, nothing twice, nothing half, everything where it was."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from terradelta.errors import DataError, InputError, OutputError, OutputExistsError
from terradelta.lab.data import open_pairs, tiling
from terradelta.lab.data.tiling import Tiling, tile_dataset, tile_windows

UTM = "EPSG:32614"
PLACE = Affine(0.5, 0, 600000, 0, -0.5, 3400000)


@pytest.fixture
def data(tmp_path: Path, write_image, noise) -> Path:
    """Two pairs of 40 x 52 pixels to train on, one of 33 x 20 for validation."""
    for split, names, size in (("train", ("b", "a"), (40, 52)), ("val", ("c",), (33, 20))):
        for k, name in enumerate(names):
            label = (noise(k + 50, 1, *size)[0] > 200).astype(np.uint8) * 255
            for part, values in (("A", noise(k, 3, *size)), ("B", noise(k + 9, 3, *size)), ("label", label)):
                write_image(tmp_path / "data" / split / part / f"{name}.png", values)
    return tmp_path / "data"


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and bytes of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@given(st.tuples(st.integers(1, 70), st.integers(1, 70)), st.integers(1, 40), st.integers(0, 39), st.booleans())
def test_windows_cover_without_more_overlap_than_asked(shape, size, overlap, edges) -> None:
    options = Tiling(size, min(overlap, size - 1), edges)
    count = np.zeros(shape, int)
    for window in tile_windows(shape, options):
        part = count[window.slices]
        assert part.shape == (window.height, window.width) == tuple(min(size, side) for side in shape)
        part += 1
    if edges:
        assert count.min() == 1 or options.overlap
        assert count.min() >= 1
    elif not options.overlap:
        assert count.max() <= 1
        assert count.sum() == np.prod([side // size * size for side in shape])


def test_sixteen_tiles_of_levirs_images() -> None:
    windows = tile_windows((1024, 1024), Tiling())
    assert [(w.row, w.col) for w in windows[:5]] == [(0, 0), (0, 256), (0, 512), (0, 768), (256, 0)]
    assert len(windows) == 16
    assert len(tile_windows((1024, 1024), Tiling(overlap=128))) == 49


@pytest.mark.parametrize(("options", "message"), [((0,), "the side of a tile is 0"), ((8, 8), "it can be 0 to 7")])
def test_impossible_tilings(options: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tiling(*options)


def test_names_that_a_reader_of_the_manifest_would_act_upon_are_refused(data: Path, tmp_path: Path) -> None:
    for part in ("A", "B", "label"):
        (old, *_) = sorted((data / "train" / part).iterdir())
        old.rename(old.with_stem("a\x1b[31m"))
    with pytest.raises(DataError, match=r"train: the name of a\\x1b\[31m holds control characters"):
        tile_dataset(data, tmp_path / "tiles")
    assert list(tmp_path.glob(".tiles*")) == []


def test_tiles_put_together_are_the_pairs(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    steps: list[tuple[int, int]] = []
    counts = tile_dataset(data, out, Tiling(16), progress=lambda *step: steps.append(step))
    assert counts.tiles == {"train": 2 * 2 * 3, "val": 2 * 1}
    assert (counts.without_data, counts.too_small) == (0, 0)
    assert counts.left_over == pytest.approx(1 - (2 * 32 * 48 + 32 * 16) / (2 * 40 * 52 + 33 * 20))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    with (out / "list/manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for split in ("train", "val"):
        whole, tiles = open_pairs(data, split), open_pairs(out, split)
        of = {files.name: k for k, files in enumerate(whole.files)}
        assert [r["name"] for r in rows if r["split"] == split] == [files.name for files in tiles.files]
        for k, row in enumerate(r for r in rows if r["split"] == split):
            at, side = (int(row["row"]), int(row["col"])), (int(row["height"]), int(row["width"]))
            part = slice(at[0], at[0] + side[0]), slice(at[1], at[1] + side[1])
            pair, tile = whole.read(of[row["source"]]), tiles.read(k)
            np.testing.assert_array_equal(tile.before, pair.before[:, *part])
            np.testing.assert_array_equal(tile.after, pair.after[:, *part])
            np.testing.assert_array_equal(tile.label, pair.label[part])
            assert float(row["changed"]) == pytest.approx(tile.label.mean(), abs=1e-6)
    assert not list(tmp_path.glob(".*"))


@given(st.tuples(st.integers(1, 50), st.integers(1, 50)), st.integers(1, 20), st.integers(0, 19), st.booleans())
def test_covered_pixels_are_counted_once(shape, size, overlap, edges) -> None:
    windows = tile_windows(shape, Tiling(size, min(overlap, size - 1), edges))
    mask = np.zeros(shape, bool)
    for window in windows:
        mask[window.slices] = True
    assert tiling._covered([["", w.row, w.col, w.height, w.width, 0.0] for w in windows]) == mask.sum()


def test_edges_leave_nothing_out(data: Path, tmp_path: Path) -> None:
    counts = tile_dataset(data, tmp_path / "tiles", Tiling(32, edges=True))
    assert counts.left_over == 0
    assert counts.tiles == {"train": 2 * 4, "val": 2}
    names = [files.name for files in open_pairs(tmp_path / "tiles", "val").files]
    assert names == ["c_00000_00000", "c_00001_00000"]
    assert open_pairs(tmp_path / "tiles", "val").size(0) == (32, 20)


def test_pairs_below_a_tile_are_counted(data: Path, tmp_path: Path) -> None:
    counts = tile_dataset(data, tmp_path / "tiles", Tiling(36))
    assert counts.tiles == {"train": 2, "val": 0}
    assert counts.too_small == 1
    with pytest.raises(DataError, match=r"no tile of 64 pixels fits into its pairs, .*give a smaller size, or keep"):
        tile_dataset(data, tmp_path / "none", Tiling(64))
    assert not (tmp_path / "none").exists()


def test_a_second_call_writes_nothing(data: Path, tmp_path: Path) -> None:
    first = tile_dataset(data, tmp_path / "tiles", Tiling(16))
    before = contents(tmp_path / "tiles")
    assert tile_dataset(data, tmp_path / "tiles", Tiling(16)) == first
    assert contents(tmp_path / "tiles") == before


@pytest.mark.parametrize("options", [Tiling(20), Tiling(16, 4), Tiling(16, edges=True)])
def test_other_options_are_refused(data: Path, tmp_path: Path, options: Tiling) -> None:
    tile_dataset(data, tmp_path / "tiles", Tiling(16))
    before = contents(tmp_path / "tiles")
    with pytest.raises(OutputExistsError, match=r"were cut otherwise or from other images \(tiling, see dataset.json"):
        tile_dataset(data, tmp_path / "tiles", options)
    assert contents(tmp_path / "tiles") == before


def test_other_images_and_other_folders_are_refused(data: Path, tmp_path: Path) -> None:
    tile_dataset(data, tmp_path / "tiles", Tiling(16))
    for part in ("A", "B", "label"):
        (data / f"val/{part}/c.png").rename(data / f"val/{part}/d.png")
    with pytest.raises(OutputExistsError, match="cut otherwise or from other images"):
        tile_dataset(data, tmp_path / "tiles", Tiling(16))
    (tmp_path / "other").mkdir()
    with pytest.raises(OutputExistsError, match="other is there already and holds no tiles; give another name"):
        tile_dataset(data, tmp_path / "other", Tiling(16))


def test_it_goes_on_after_an_error_and_after_a_torn_journal(data: Path, tmp_path: Path, monkeypatch) -> None:
    tile_dataset(data, tmp_path / "unbroken", Tiling(16))
    calls = []
    original = tiling.write_label

    def fail(path: Path, *rest: object) -> None:
        calls.append(path.name)
        if len(calls) == 9:
            raise OutputError("disk full")
        original(path, *rest)

    monkeypatch.setattr(tiling, "write_label", fail)
    with pytest.raises(OutputError, match="disk full"):
        tile_dataset(data, tmp_path / "tiles", Tiling(16))
    assert not (tmp_path / "tiles").exists()
    work = tmp_path / ".tiles.part"
    journal = work / "tiles.jsonl"
    journal.write_text(2 * journal.read_text() + '{"split": "train", "sour')  # two runs at once, and one cut off
    before = contents(work / "train")
    tile_dataset(data, tmp_path / "tiles", Tiling(16))
    after = contents(tmp_path / "tiles/train")
    assert before.items() <= after.items(), "files that were there were written again"
    found, unbroken = (contents(tmp_path / name) for name in ("tiles", "unbroken"))
    assert found.keys() == unbroken.keys()
    assert all(found[name][1] == unbroken[name][1] for name in found if name != "tiles.jsonl")
    with pytest.raises(OutputExistsError, match=r"\.tiles2\.part holds tiles that were cut otherwise .*remove it"):
        (tmp_path / ".tiles2.part").mkdir()
        (tmp_path / ".tiles2.part/dataset.json").write_text("{}")
        tile_dataset(data, tmp_path / "tiles2", Tiling(16))


def test_it_goes_on_after_being_killed(data: Path, tmp_path: Path) -> None:
    """SIGKILL when some files are there: the next run ends with the files of an unbroken one."""
    tile_dataset(data, tmp_path / "unbroken", Tiling(4))
    code = (
        "import sys\nfrom pathlib import Path\nfrom terradelta.lab.data.tiling import Tiling, tile_dataset\n"
        "tile_dataset(sys.argv[1], Path(sys.argv[2]), Tiling(4))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, data, tmp_path / "tiles"], env={**os.environ})
    work = tmp_path / ".tiles.part"
    limit = time.monotonic() + 600
    while len(list(work.rglob("*.png"))) < 50 and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert work.exists()
    assert not (tmp_path / "tiles").exists()
    before = {name: file for name, file in contents(work).items() if name.endswith(".png") and "/." not in name}
    assert len(before) >= 50
    tile_dataset(data, tmp_path / "tiles", Tiling(4))
    after = contents(tmp_path / "tiles")
    assert before.items() <= after.items()
    unbroken = contents(tmp_path / "unbroken")
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in unbroken.items()}


def test_georeference_bits_and_bands_are_kept(tmp_path: Path, write_image) -> None:
    rng = np.random.default_rng(0)
    for part in ("before", "after"):
        values = rng.integers(0, 4000, (5, 48, 64)).astype(np.uint16)
        write_image(tmp_path / f"{part}.tif", values, crs=UTM, transform=PLACE)
    label = (rng.random((48, 64)) > 0.9).astype(np.uint8)
    write_image(tmp_path / "label.tif", label, crs=UTM, transform=PLACE)
    (tmp_path / "p.csv").write_text("before,after,label,name,window\nbefore.tif,after.tif,label.tif,s,16 0 32 64\n")
    counts = tile_dataset(tmp_path / "p.csv", tmp_path / "tiles", Tiling(16))
    assert counts.tiles == {"all": 8}
    for part in ("A", "B", "label"):
        with rasterio.open(tmp_path / f"tiles/all/{part}/s_00016_00032.tif") as tile:
            assert tile.crs == UTM
            assert tile.transform.almost_equals(PLACE @ Affine.translation(32, 32))
            assert tile.dtypes[0] == ("uint8" if part == "label" else "uint16")
    pairs, whole = open_pairs(tmp_path / "tiles", "all"), open_pairs(tmp_path / "p.csv", "all").read(0)
    found = next(pairs.read(k) for k, files in enumerate(pairs.files) if files.name == "s_00016_00032")
    np.testing.assert_array_equal(found.before, whole.before[:, 16:32, 32:48])
    np.testing.assert_array_equal(found.label, whole.label[16:32, 32:48])


def test_tiles_without_data_are_left_out(tmp_path: Path, write_image, noise) -> None:
    image = np.maximum(noise(0, 3, 32, 32), 1)
    image[:, 20:, 20:] = 0
    write_image(tmp_path / "a.tif", image, crs=UTM, transform=PLACE, nodata=0)
    write_image(tmp_path / "b.tif", np.maximum(noise(1, 3, 32, 32), 1), crs=UTM, transform=PLACE)
    write_image(tmp_path / "l.tif", np.zeros((32, 32), np.uint8), crs=UTM, transform=PLACE)
    (tmp_path / "p.csv").write_text("before,after,label\na.tif,b.tif,l.tif\n")
    counts = tile_dataset(tmp_path / "p.csv", tmp_path / "tiles", Tiling(16))
    assert counts.tiles == {"all": 3}
    assert counts.without_data == 1


def test_large_pairs_are_read_by_rows_of_tiles(data: Path, tmp_path: Path, monkeypatch) -> None:
    tile_dataset(data, tmp_path / "whole", Tiling(16, 4, edges=True))
    monkeypatch.setattr(tiling, "_WHOLE_PX", 100)
    tile_dataset(data, tmp_path / "strips", Tiling(16, 4, edges=True))
    whole, strips = ({n: d for n, (_, d) in contents(tmp_path / n).items()} for n in ("whole", "strips"))
    assert whole == strips


def test_the_description_names_source_and_options(data: Path, tmp_path: Path) -> None:
    tile_dataset(data, tmp_path / "tiles", Tiling(16))
    said = json.loads((tmp_path / "tiles/dataset.json").read_text())
    assert said["source"] == "data"
    assert said["tiling"] == {"size": 16, "overlap": 0, "edges": False}


def test_a_place_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"dataset.json cannot be written .*; give a place that can be"):
        tile_dataset(data, tmp_path / "file/tiles", Tiling(16))
