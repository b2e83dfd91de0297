"""Many pairs in one run: each for itself, the model once, and on after a kill."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from terradelta.errors import InputError, OutputError, OutputExistsError
from terradelta.mapping.batch import map_pairs, parse_bands, read_pairs
from terradelta.mapping.run import MapOptions
from terradelta.predict.classical import load_method

from .conftest import BoxPredictor, PixelPredictor, Writer

SMALL = MapOptions(tile=64, overlap=16, min_area_m2=0)


@pytest.fixture
def images(write_tiff: Writer, pair_values) -> tuple[Path, Path]:
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    return before, after


def table(path: Path, *lines: str, head: str = "before,after,name") -> Path:
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def summary(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def run(path: Path, out: Path, predictor=None, options=SMALL, **more):
    return list(map_pairs(path, out, predictor or PixelPredictor(), options, **more))


def test_a_failed_pair_does_not_end_the_others(tmp_path, images):
    (tmp_path / "bad.tif").write_text("no image")
    path = table(tmp_path / "p.csv", "a.tif,b.tif,one", "a.tif,bad.tif,two", f"{images[1]},a.tif,three", "x.tif,a.tif,")
    outcomes = run(path, tmp_path / "out")
    assert [outcome.receipt is None for outcome in outcomes] == [False, True, False, True]
    lines = summary(tmp_path / "out")
    assert [(line["name"], line["status"]) for line in lines] == [
        *(("one", "ok"), ("two", "failed"), ("three", "ok"), ("0004", "failed"))
    ]
    receipt = json.loads((tmp_path / "out" / "one" / "receipt.json").read_text())
    assert float(lines[0]["changed_area_m2"]) == receipt["result"]["changed_area_m2"] > 0
    assert (tmp_path / "out" / lines[0]["report"]).is_file()
    assert "bad.tif cannot be opened" in lines[1]["message"]
    assert "x.tif does not exist" in lines[3]["message"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".pairs.json",
        "index.html",
        "one",
        "summary.csv",
        "three",
    ]
    page = (tmp_path / "out" / "index.html").read_text()
    assert re.findall(r'href="([^"]+)"', page) == ["one/report.html", "three/report.html"]
    thumbnails = re.findall(r'src="([^"]+)"', page)
    assert thumbnails == ["one/thumbnail.jpg", "three/thumbnail.jpg"]
    for name in thumbnails:
        with pytest.warns(NotGeoreferencedWarning), rasterio.open(tmp_path / "out" / name) as picture:
            red, _, blue = picture.read().astype(int)
        assert red.shape == (150, 210)
        assert (red - blue)[55:75, 105:135].min() > 50 > (red - blue)[100:].max()
        assert (red - blue)[4:7, 4:7].max() > 50
    assert page.count("changed: ") == 2
    assert "failed: " in page
    assert "2 pairs of 4 failed." in page


def test_a_line_may_have_its_own_options(tmp_path, images):
    (tmp_path / "area.wkt").write_text(
        "SRID=32614;POLYGON((600000 3399950, 600100 3399950, 600100 3400000, 600000 3399950))"
    )
    path = table(
        tmp_path / "p.csv",
        'a.tif,b.tif,area.wkt,"3,2,1",0.9,raw',
        "a.tif,b.tif,,,,",
        "a.tif,b.tif,nowhere.wkt,,,",
        "a.tif,b.tif,,,high,",
        "a.tif,b.tif,,,,what",
        head="before,after,aoi,bands,threshold,values",
    )
    first, second, *failed = run(path, tmp_path / "out", options=MapOptions(tile=64, overlap=16, threshold=0.25))
    assert first.receipt.options.threshold == 0.9
    assert first.receipt.options.aoi.startswith("EPSG:32614;POLYGON")
    assert first.receipt.pair.bands.before == (3, 2, 1)
    assert (second.receipt.options.threshold, second.receipt.options.aoi) == (0.25, None)
    words = ("is neither a file nor", "threshold is 'high'; give a number", "--values 'what' is not understood")
    assert all(word in outcome.message for word, outcome in zip(words, failed, strict=True))


def test_a_stopped_batch_goes_on(tmp_path, images):
    path = table(tmp_path / "p.csv", "a.tif,b.tif,one", "b.tif,a.tif,two", "a.tif,a.tif,three")
    stops = iter(range(100))

    def stop(done: int, total: int) -> None:
        if next(stops) == 90:  # of 63 tiles a pair: in the middle of the second
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "out", BoxPredictor(), progress=stop)
    assert not (tmp_path / "out" / "summary.csv").exists()
    predictor = BoxPredictor()
    outcomes = run(path, tmp_path / "out", predictor)
    assert [outcome.resumed for outcome in outcomes] == [True, False, False]
    assert outcomes[1].receipt.resumed_tile_rows > 0
    assert len(predictor.calls) < 2 * 63
    assert [line["status"] for line in summary(tmp_path / "out")] == ["ok"] * 3


@pytest.mark.parametrize(("predictor", "between"), [(BoxPredictor(), 53), (load_method("cva"), 1)])
def test_progress_counts_pairs(tmp_path, images, predictor, between):
    path = table(tmp_path / "p.csv", "a.tif,b.tif,one", "none.tif,b.tif,two", "b.tif,a.tif,three", "a.tif,a.tif,four")
    told = []
    next(map_pairs(path, tmp_path / "out", predictor, SMALL))  # finished before
    run(path, tmp_path / "out", predictor, progress=lambda *each: told.append(each))
    done = [each for each, _ in told]
    assert {total for _, total in told} == {4}
    assert done == sorted(done)
    assert set(done) >= {1, 2, 3, 4}
    assert len({each for each in done if 2 < each < 3}) >= between  # of 54 tiles


def test_only_warnings_are_announced_and_say_of_which_pair(tmp_path, images, write_tiff, pair_values):
    write_tiff("wide.tif", pair_values[0].astype(np.uint16))
    path = table(tmp_path / "p.csv", "a.tif,b.tif,one", "a.tif,wide.tif,two")
    said: list[str] = []
    outcomes = run(path, tmp_path / "out", announce=said.extend)
    expected = [
        f"{line} (pair {each.row.name})"
        for each in outcomes
        for line in each.receipt.preflight
        if line.startswith("Warning")
    ]
    assert said == expected
    assert "(pair two)" in said[0]
    assert 0 < len(said) < sum(len(each.receipt.preflight) for each in outcomes)


def test_another_table_or_other_options_need_another_folder(tmp_path, images):
    path = table(tmp_path / "p.csv", "a.tif,b.tif,one")
    run(path, tmp_path / "out")
    with pytest.raises(OutputExistsError, match="another table of pairs, or with other options"):
        run(path, tmp_path / "out", options=MapOptions(tile=128, overlap=16))
    with pytest.raises(OutputExistsError, match="another table of pairs"):
        run(table(tmp_path / "q.csv", "b.tif,a.tif,one"), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(OutputExistsError, match="mine is there already; nothing was overwritten"):
        run(path, tmp_path / "mine")
    with pytest.raises(OutputError, match="cannot be written"):
        run(path, tmp_path / "mine" / "file" / "out")


def test_a_method_is_fitted_to_each_pair(tmp_path, images):
    path = table(tmp_path / "p.csv", "a.tif,b.tif,one", "b.tif,a.tif,two")
    outcomes = run(path, tmp_path / "out", load_method("cva"), MapOptions())
    assert all(outcome.receipt.model.name == "cva" for outcome in outcomes)


def test_a_full_disk_ends_the_batch(tmp_path, images, monkeypatch):
    def full(*_: object) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr("terradelta.products.writer.ProductWriter.write", full)
    path = table(tmp_path / "p.csv", "a.tif,b.tif,one", "b.tif,a.tif,two")
    with pytest.raises(OutputError, match="disk full"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.csv").exists()


def test_signatures_are_not_kept(tmp_path, file_server, write_tiff, pair_values):
    write_tiff("served/a.tif", pair_values[0])
    file_server.token = "sig=SECRET"
    url = file_server.url("a.tif?sig=SECRET")
    run(table(tmp_path / "p.csv", f"{url},{url},one"), tmp_path / "out")
    assert summary(tmp_path / "out")[0]["before"] == file_server.url("a.tif")
    assert not any(b"SECRET" in file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has the columns none; it needs before and after"),
        ("before,after\n", "holds 0 pairs"),
        ("before;after\na;b\n", "has the columns before;after; it needs before and after.*separated by commas"),
        ("before,after,size\na,b,3\n", "has the columns before, after, size"),
        ("before,after,after\na,b,c\n", "has the columns before, after, after"),
        ("before,after\na\n", "line 2: no before or no after"),
        ("before,after\na,b\0c\n", r"line 2: after is neither a path nor a URL: 'b\\x00c'; give at most 4,096 char"),
        ("before,after\n" + "x" * 5000 + ",b\n", r"line 2: before is neither a path nor a URL: 'x{79}; give at most"),
        ("before,after\na,b,c\n", "line 2: more fields than columns"),
        ("before,after,name\na,b,../x\n", r"'../x' is no name for a folder"),
        ("before,after,name\na,b,.x\n", "is no name for a folder"),
        ("before,after,name\na,b,x\nc,d,X\n", "the name 'X' stands twice"),
        ("before,after,name\na,b,summary.csv\n", "stands twice, or is taken"),
        ('before,after\n"a,b\n', "cannot be read as CSV"),
        ("before,after\na," + "x" * 200_000, "cannot be read as CSV"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, words):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_pairs(path)


def test_other_files_that_are_no_tables(tmp_path):
    (tmp_path / "p.csv").write_bytes(b"before,after\n\xff,b\n")
    for name in ("p.csv", "none.csv", "."):
        with pytest.raises(InputError, match="cannot be read as CSV"):
            read_pairs(tmp_path / name)


def test_paths_count_from_the_tables_folder(tmp_path):
    (tmp_path / "p.csv").write_text("\ufeffBefore, After\nx/a.tif,http:/h/b.tif\n\n~/a.tif,/b.tif\n", encoding="utf-8")
    first, second = read_pairs(tmp_path / "p.csv")
    assert (first.before, first.after, first.name) == (str(tmp_path / "x/a.tif"), "http://h/b.tif", "0001")
    assert (second.before, second.after) == (str(Path("~/a.tif").expanduser()), "/b.tif")


def test_bands():
    assert parse_bands(" 3, red,,B04 ") == (3, "red", "B04")
    assert np.array_equal(parse_bands(""), ())
