import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from typer.main import get_command
from typer.testing import CliRunner

import terradelta
from terradelta import cli
from terradelta.lab.data.archives import ARCHIVES
from terradelta.predict.load import DEFAULT_MODEL, shipped_models
from terradelta.predict.openvino import cpu_has_bf16

PROFILE = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32614", "nodata": 0}


def write(path: Path, values: np.ndarray, **options: object) -> Path:
    height, width = values.shape[1:]
    place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
    profile = {**PROFILE, "count": len(values), "height": height, "width": width, "transform": place, **options}
    with rasterio.open(path, "w", **profile) as target:
        target.write(values)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    before = rng.integers(60, 100, (3, 96, 128)).astype(np.uint8)
    return write(tmp_path / "a.tif", before), write(tmp_path / "b.tif", before + 20)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process: (exit code, standard output, standard error on one line)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["terradelta", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # main sets its own
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    handler = signal.getsignal(signal.SIGTERM)
    yield call
    signal.signal(signal.SIGTERM, handler)


def test_commands_and_options_are_frozen():
    """The command line is small on purpose: a new option needs a reason, and a line here."""
    top = get_command(cli.app)
    found = {
        name: sorted(option for p in command.params for option in p.opts if p.param_type_name == "option")
        for name, command in {
            **top.commands,
            **top.commands["data"].commands,
            **top.commands["figure"].commands,
            **top.commands["models"].commands,
        }.items()
        if name not in ("data", "figure", "models")
    }
    assert found == {
        "map": [
            *(
                "--allow-outside",
                "--anyway",
                "--aoi",
                "--bands",
                "--cluster",
                "--coregister",
                "--device",
                "--fresh",
                "--method",
                "--min-area",
            ),
            *("--model", "--nodata", "--nodata-bands", "--out", "--overlap", "--pairs", "--precision", "--progress"),
            *("--qgis", "--sieve", "--simplify", "--skip-damaged", "--threshold", "--tile", "--values", "--vector"),
            *("--verbose", "--yes", "-o", "-v"),
        ],
        "area": ["--draw", "--out", "--regions", "--samples", "--seed", "--view", "-o"],
        "view": ["--after", "--author", "--before", "--host", "--open", "--port", "--task"],
        "demo": ["--open", "--out", "--seed", "--side", "-o"],
        "train": [
            *("--also", "--batch-size", "--crop", "--data", "--device", "--devices", "--from", "--replay", "--resume"),
            *("--review", "--run", "--seed", "--steps", "-o"),
        ],
        "bench": [
            *("--ablation", "--batch", "--bf16", "--crop", "--data", "--device", "--networks", "--out", "--seeds"),
            *("--small", "--steps", "--tiles", "-o"),
        ],
        "evaluate": [
            *("--against", "--calibrate", "--data", "--device", "--html", "--limit", "--out", "--patch"),
            *("--precision", "--protocol", "--robustness", "--split", "--sweep", "--threshold", "-o"),
        ],
        "grid": ["--data", "--device", "--limit", "--names", "--out", "--safe", "--split", "--width", "-o"],
        "curves": ["--names", "--out", "--width", "-o"],
        "heat": [
            *("--at", "--bands", "--device", "--label", "--layer", "--layers", "--names", "--opacity", "--out"),
            *("--reduce", "--width", "--window", "-o"),
        ],
        "info": ["--json"],
        "show": ["--speed", "--stac"],
        "fetch": [],
        "push": [],
        "import": ["--bands", "--mean", "--network", "--run", "--scaling", "--std", "-o"],
        "average": ["--run", "-o"],
        "export": ["--domain", "--half-weights", "--int8", "--out", "--receipt", "-o"],
        "list": [],
        "check": ["--fix", "--out", "-o"],
        "tile": ["--edges", "--out", "--overlap", "--size", "-o"],
        "synth": ["--seed", "--side", "--test", "--train", "--val"],
    }


def test_map_prints_the_report_and_the_preflight(run, pair, tmp_path):
    code, out, err = run("map", *pair, "-o", tmp_path / "out", "--verbose")
    assert code == 0
    assert Path(out.strip()) == tmp_path / "out" / "report.html"
    assert "The first date is" in err
    assert "changed:" in err
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert receipt["model"]["name"] == DEFAULT_MODEL
    precision = "bf16" if cpu_has_bf16() else "f32"
    assert f"The model {DEFAULT_MODEL} is run by OpenVINOPredictor, {precision}." in receipt["preflight"]
    assert f"{DEFAULT_MODEL} is run by" in err


def test_what_is_said_before_a_run_fits_into_five_lines_and_one_on_how_much_is_ahead(monkeypatch, capsys):
    from rich.console import Console

    from terradelta.cli import map as command

    monkeypatch.setattr(command, "console", Console(stderr=True, width=80, highlight=False))

    def said(*lines: str) -> list[str]:
        command._say_first(lines)
        return capsys.readouterr().err.splitlines()

    purpose, warning, fact = "The model finds " + "x " * 40, "Warning: " + "y " * 60, "Fact."
    assert said(purpose, fact) == [*said(purpose), fact]
    assert said(purpose, warning, fact) == [*said(purpose, warning), fact]
    assert len(said(purpose, warning, fact, fact)) == 5
    assert len(said(purpose, warning, warning, *[fact] * 20)) == 5
    assert said(purpose, warning, warning, *[fact] * 20)[-1] == "1 more warning: see the report, or map --verbose"
    assert said(purpose, warning, *[warning] * 3)[-1] == "3 more warnings: see the report, or map --verbose"
    assert len(said(purpose, *[fact] * 20)) == 5
    assert said(purpose, *[fact] * 20)[-1] == "More of the inputs: the report, or map --verbose"


@pytest.mark.parametrize("method", ["cva", "irmad", "pca-kmeans"])
def test_map_with_a_method(run, pair, tmp_path, method):
    code, out, err = run("map", *pair, "-o", tmp_path / "out", "--method", method, "--bands", "3,1")
    assert code == 0, err
    assert Path(out.strip()).is_file()
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert receipt["model"]["name"] == method
    assert len(receipt["model"]["bands"]) == 2


def test_map_options_reach_the_run(run, pair, tmp_path):
    code, _, _ = run(
        *("map", *pair, "-o", tmp_path / "out", "--bands", "3,2,1", "--threshold", 0.9, "--min-area", 3),
        *("--simplify", 1, "--tile", 64, "--overlap", 16, "--aoi", "-100,30,-90,40"),
    )
    options = json.loads((tmp_path / "out" / "receipt.json").read_text())["options"]
    assert code == 0
    assert (options["threshold"], options["tile"], options["overlap"]) == (0.9, 64, 16)
    assert (options["min_area_m2"], options["simplify_m"], options["aoi"]) == (3, 1, [-100, 30, -90, 40])


def test_area_of_interest_from_geojson(run, pair, tmp_path):
    with rasterio.open(pair[0]) as source:
        west, south, east, north = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    ring = [[west, south], [east, south], [east, north], [west, south]]
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    code, _, _ = run("map", *pair, "-o", tmp_path / "out", "--aoi", area)
    assert code == 0
    valid = json.loads((tmp_path / "out" / "receipt.json").read_text())["result"]["valid_px"]
    assert 0.4 < valid / (96 * 128) < 0.6


def bad_inputs(folder: Path) -> dict[str, tuple[list[object], str]]:
    """Name -> (arguments of map, words of the message); every one is the user's fault."""
    good = np.full((3, 64, 64), 90, np.uint8)
    a = write(folder / "a.tif", good)
    far = write(folder / "far.tif", good, transform=Affine(0.5, 0, 700000, 0, -0.5, 3400000))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        plain = write(folder / "plain.tif", good, crs=None, transform=Affine.identity())
    two = write(folder / "two.tif", good[:2])
    text = folder / "text.tif"
    text.write_text("no raster at all")
    noise = np.random.default_rng(0).integers(1, 255, (3, 512, 512)).astype(np.uint8)
    cut = write(folder / "cut.tif", noise, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    whole = write(folder / "whole.tif", noise)
    empty = write(folder / "empty.tif", np.zeros((3, 64, 64), np.uint8))
    other = folder / "other.onnx"
    other.write_bytes(b"not a model")
    taken = folder / "taken"
    taken.mkdir()
    (taken / "file").write_text("mine")
    odd = folder / "\udcff.tif"
    odd.write_bytes(a.read_bytes())
    virtual = '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32614</SRS>{}</VRTDataset>'
    damaged = folder / "damaged.vrt"
    damaged.write_bytes(virtual.encode().replace(b"</SRS>", b"</\xff>"))
    loop = folder / "loop.vrt"
    source = "<SimpleSource><SourceFilename relativeToVRT='1'>loop.vrt</SourceFilename></SimpleSource>"
    place = "<GeoTransform>600000,0.5,0,3400000,0,-0.5</GeoTransform>"
    loop.write_text(virtual.format(place + f"<VRTRasterBand dataType='Byte'>{source}</VRTRasterBand>" * 3))
    out = folder / "out"
    return {
        "no overlap": ([a, far, "-o", out], "do not overlap"),
        "one without CRS": ([a, plain, "-o", out], "plain.tif has no CRS"),
        "band counts": ([a, two, "-o", out], "2 image bands"),
        "no raster": ([a, text, "-o", out], "text.tif"),
        "no such file": ([a, folder / "none.tif", "-o", out], "none.tif"),
        "truncated": ([whole, cut, "-o", out], "cut.tif"),
        "all nodata": ([a, empty, "-o", out], "no pixel is valid on both dates"),
        "model without card": ([a, a, "-o", out, "--model", other], "other.onnx cannot be read as an ONNX model"),
        "no such model": ([a, a, "-o", out, "--model", "unheard"], "there is no model 'unheard'; give one of default"),
        "no such method": ([a, a, "-o", out, "--method", "mad"], "there is no method 'mad'; give one of cva, irmad"),
        "method and precision": (
            [a, a, "-o", out, "--method", "cva", "--precision", "int8"],
            "has one precision; leave",
        ),
        "model and method": ([a, a, "-o", out, "--method", "cva", "--model", "default"], "exclude each other"),
        "method on cuda": ([a, a, "-o", out, "--method", "cva", "--device", "cuda"], "leave --device cuda out"),
        "out exists": ([a, a, "-o", taken], "taken is there already; nothing was overwritten"),
        "no such band": ([a, a, "-o", out, "--bands", "1,2,9"], "9"),
        "aoi": ([a, a, "-o", out, "--aoi", "1,2,3"], "WEST,SOUTH,EAST,NORTH"),
        "aoi elsewhere": ([a, a, "-o", out, "--aoi", "1,2,3,4"], "area of interest"),
        "cuda": ([a, a, "-o", out, "--device", "cuda"], "runs on the CPU"),
        "threshold": ([a, a, "-o", out, "--threshold", 2], "threshold is 2.0"),
        "tile": ([a, a, "-o", out, "--tile", 100], "it must be a multiple of 16"),
        "long name": ([a, "x" * 300, "-o", out], "does not exist"),
        "no text name": ([a, odd, "-o", out], "is no UTF-8 file name"),
        "no such user": ([a, "~nobody-here/x.tif", "-o", out], "does not exist"),
        "url": ([a, "s3://bucket/x.tif", "-o", out], "reads no other URLs"),
        "damaged text": ([a, damaged, "-o", out], "damaged.vrt cannot be opened"),
        "self": ([a, loop, "-o", out], "loop.vrt names itself as its source"),
        "long aoi": ([a, a, "-o", out, "--aoi", "x" * 300], "neither a file nor four numbers"),
        "endless aoi": ([a, a, "-o", out, "--aoi=-inf,-inf,inf,inf"], "is no box"),
        "superscript": ([a, a, "-o", out, "--bands", "²,1,1"], "no image band '²'"),
        "brackets": ([a, "[/red].tif", "-o", out], "[/red].tif does not exist"),
    }


CASES = [
    *("no overlap", "one without CRS", "band counts", "no raster", "no such file", "truncated", "all nodata"),
    *("model without card", "no such model", "out exists", "no such band", "aoi", "aoi elsewhere", "cuda"),
    *("threshold", "tile", "long name", "no text name", "no such user", "url", "damaged text", "self", "long aoi"),
    *("endless aoi", "superscript", "brackets"),
    *("no such method", "model and method", "method on cuda"),
]


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_message_and_code_2(run, tmp_path, case):
    arguments, words = bad_inputs(tmp_path)[case]
    before = sorted(p.name for p in tmp_path.iterdir())
    code, out, err = run("map", *arguments)
    assert code == 2, err
    assert words in err
    assert err.count("error:") == 1
    assert "Traceback" not in err
    assert out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def child(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", f"{code}\nfrom terradelta.cli import main\nmain()", *map(str, arguments)]


def test_full_disk(pair, tmp_path):
    """A limit on the size of files stands in for a full disk: writing fails in the same places."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    done = subprocess.run(
        child("", "map", *pair, "-o", tmp_path / "out"), preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif"]


@pytest.mark.parametrize(("number", "code", "words"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "")])
def test_signals(pair, tmp_path, number, code, words):
    """A real Ctrl-C, and a real SIGTERM, while tiles are being predicted."""
    slow = (
        "import time\nfrom terradelta.predict.openvino import OpenVINOPredictor as P\n"
        "old = P.logits\nP.logits = lambda s, a, b: (print('tile', flush=True), time.sleep(0.5), old(s, a, b))[2]"
    )
    out = tmp_path / "out"
    with subprocess.Popen(
        child(slow, "map", *pair, "-o", out, "--tile", 32, "--overlap", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "tile\n"
        assert any(path.name.endswith(".partial") for path in tmp_path.iterdir())
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == code
    assert words in err
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif"]


def test_demo_makes_a_pair_maps_and_scores_it(run, tmp_path):
    code, out, err = run("demo", "-o", tmp_path / "demo", "--side", 256, "--no-open")
    assert code == 0
    assert (tmp_path / "demo" / "images" / "after.tif").is_file()
    receipt = json.loads((tmp_path / "demo" / "map" / "receipt.json").read_text())
    assert set(receipt["scores"]) >= {"precision", "recall", "f1", "iou_changed"}
    assert "against the truth" in err
    assert Path(out.strip()).is_file()


def test_brackets_in_a_name_are_no_markup(run, tmp_path):
    code, _, err = run("data", "synth", tmp_path / "[/b]", "--train", 1, "--val", 0, "--test", 0, "--side", 64)
    assert code == 0
    assert "[/b]: 1 train" in err


def test_an_unforeseen_error_of_the_system_is_one_message(run, pair, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr("terradelta.mapping.run.map_change", fail)
    code, _, err = run("map", *pair, "-o", tmp_path / "out")
    assert code == 1
    assert "Permission denied: 'somewhere'; check the names and permissions" in err


def test_demo_takes_the_next_free_name(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "terradelta-demo").mkdir()
    code, out, _ = run("demo", "--side", 128, "--no-open")
    assert code == 0
    assert Path(out.strip()) == Path("terradelta-demo-2/map/report.html")


def test_map_in_int8_says_so_in_its_receipt(run, pair, tmp_path, monkeypatch):
    from terradelta.predict import openvino

    monkeypatch.setattr(openvino, "cpu_has_int8", lambda: True)
    code, _, err = run("map", *pair, "-o", tmp_path / "out", "--precision", "int8")
    assert code == 0, err
    model = json.loads((tmp_path / "out" / "receipt.json").read_text())["model"]
    assert model["name"] == f"{DEFAULT_MODEL}_int8"
    assert model["runtime"].startswith("OpenVINOPredictor, int8 and ")
    assert model["quantisation"]["data"] == "levir_cd_subset train"
    code, out, _ = run("models", model["name"])
    assert code == 0
    assert "Non-commercial research" in out


def test_models_lists_and_shows(run):
    code, out, _ = run("models")
    assert code == 0
    assert DEFAULT_MODEL in out
    assert "mlla_sianet_large" in out
    assert "irmad" in out
    assert "438.98 G" in out  # MCCRNet, as thop counts
    assert "90.71†" in out
    code, out, _ = run("models", "default")
    assert code == 0
    assert "Non-commercial research" in out
    assert "f1 0.886 (0.871 to 0.901)" in out
    assert "OpenVINOPredictor, f32" in out
    assert "temperature: 1.46832" in out
    assert out.count("\n") < 100, "a card is for reading"


def test_models_shows_the_card_of_a_network(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, out, _ = run("models", "fc_siam_diff")
    assert code == 0
    for words in ("1,350,146", "4,227,858,432", "second* date alone", "89.64", "not measured", "order of dates counts"):
        assert words in out
    code, out, _ = run("models", "mccrnet")
    assert "† F1 90.71 is printed, the harmonic mean of its P and R is 89.76" in out
    assert "aspca = True" in out
    code, _, err = run("models", "nothing")
    assert code == 2
    assert "there is no model 'nothing'" in err


def test_models_times_a_network_and_remembers(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, out, _ = run("models", "fc_ef", "--speed")
    assert code == 0
    assert "pairs/s of 256 x 256 pixels" in out
    assert "fc_ef" in (tmp_path / "terradelta" / "speed.json").read_text()


@pytest.mark.parametrize("name", ["default"])
def test_shipped_weights_are_complete(name):
    """What a stranger needs to judge the weights is in the file, and the file is small enough."""
    from terradelta.predict.load import SHORT_NAMES, load_predictor

    path = shipped_models()[SHORT_NAMES[name]]
    assert path.stat().st_size <= 16 * 2**20
    card = load_predictor(name, threads=1).card
    assert "LEVIR" in card.data
    assert "Non-commercial" in card.licence
    assert {score["split"] for score in card.scores} == {"val", "test"}
    assert all(0 < score["metrics"]["f1"] < 1 for score in card.scores)
    assert card.receptive_field > 0


def test_synth_makes_a_data_set_and_goes_on(run, tmp_path):
    arguments = ("data", "synth", tmp_path / "d", "--train", 2, "--val", 1, "--test", 1, "--side", 64)
    assert run(*arguments)[0] == 0
    first = (tmp_path / "d" / "train" / "A").iterdir()
    stamps = {p.name: p.stat().st_mtime_ns for p in first}
    assert run(*arguments)[0] == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "d" / "train" / "A").iterdir()} == stamps


def test_sigterm_before_a_command_is_reached_shows_no_traceback(run, monkeypatch):
    monkeypatch.setattr(cli.app.info.cls, "make_context", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert run("models") == (143, "", "")


def test_data_list_names_the_archives_and_their_terms(run):
    code, out, _ = run("data", "list")
    assert code == 0
    assert all(name in out for name in ("levir-cd", "s2looking", "12,000 / 4,000 / 4,000"))
    code, out, _ = run("data", "list", "LEVIR-CD")
    assert code == 0
    assert all(text in out for text in ("non-commercial", "Chen", "justchenhao", "{A,B,label}", "445 train"))
    narrow = CliRunner().invoke(cli.app, ["data", "list", "gz"], env={"COLUMNS": "80"}).output.splitlines()
    assert ARCHIVES["gz"].source in "".join(line.strip("│ ").rpartition("│")[-1].strip() for line in narrow)
    code, _, err = run("data", "list", "imagenet")
    assert code == 2
    assert "'imagenet' is none of levir-cd, cdd" in err


def test_data_tile_cuts_and_says_what_is_left(run, tmp_path):
    run("data", "synth", tmp_path / "d", "--train", 1, "--val", 1, "--test", 1, "--side", 96)
    code, _, err = run("data", "tile", tmp_path / "d", "-o", tmp_path / "t", "--size", 64)
    assert code == 0
    assert "1 train, 1 val, 1 test" in err
    assert "55.6% of the pixels lie in no tile (--edges" in err
    code, _, err = run("data", "tile", tmp_path / "d", "-o", tmp_path / "t", "--size", 32)
    assert code == 2
    assert "cut otherwise" in err


def test_data_check_finds_shows_and_mends(run, tmp_path):
    run("data", "synth", tmp_path / "d", "--train", 4, "--val", 2, "--test", 2, "--side", 192)
    code, out, err = run("data", "check", tmp_path / "d")
    assert code == 0
    assert "train" in out
    assert "0 errors" in err
    for part in ("A", "B", "label"):
        source, target = tmp_path / f"d/train/{part}/0001.png", tmp_path / f"d/test/{part}/0000.png"
        target.write_bytes(source.read_bytes())
    options = ("-o", tmp_path / "page.html", "--fix", tmp_path / "mended")
    code, out, err = run("data", "check", tmp_path / "d", *options)
    assert code == 3
    assert "leak: pair in two splits" in out
    assert "0 pairs changed, 1 left out (see fixes.csv in it)" in err
    assert "Mend the errors" in (tmp_path / "page.html").read_text()
    code, _, err = run("data", "check", tmp_path / "mended", "-o", tmp_path / "facts.json")
    assert code == 0
    assert json.loads((tmp_path / "facts.json").read_text())["summary"]["error"] == 0
    code, _, err = run("data", "check", tmp_path / "d", "-o", tmp_path / "page.html")
    assert code == 2
    assert "page.html is there already" in err


def test_our_own_warnings_are_one_line(tmp_path):
    for part in ("A", "B", "label"):
        path = tmp_path / "test" / part / "test_1.png"
        path.parent.mkdir(parents=True)
        values = np.zeros((3, 64, 64) if part != "label" else (1, 64, 64), np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            write(path, values, driver="PNG", crs=None, transform=None, nodata=None)
    done = subprocess.run(
        child("", "evaluate", "default", "--data", tmp_path), capture_output=True, text=True, check=True
    )
    said = " ".join(done.stderr.split())
    assert "warning: LEVIR-CD has 128 pairs in test, but here are 1: 127 fewer" in said
    assert "ArchiveWarning" not in said
    assert "LEVIR-CD: licence: non-commercial research only. Cite: H. Chen, Z. Shi" in said


def test_evaluate_writes_a_receipt(run, tmp_path):
    run("data", "synth", tmp_path / "d", "--train", 1, "--val", 1, "--test", 2, "--side", 128)
    receipt = tmp_path / "receipt.json"
    code, out, _ = run("evaluate", "default", "--data", tmp_path / "d", "-o", receipt)
    assert code == 0
    found = json.loads(receipt.read_text())
    assert found["data"]["split"] == "test"
    assert len(found["data"]["sha256"]) == 64
    assert sum(found["confusion_px"].values()) == 2 * 128 * 128
    assert f"{found['metrics']['f1']:.4f}" in out
    code, _, err = run("evaluate", "default", "--data", tmp_path / "d", "-o", receipt)
    assert code == 2
    assert "receipt.json is there already" in err


def test_map_takes_a_table_of_pairs(run, pair, tmp_path):
    table = tmp_path / "p.csv"
    table.write_text("before,after,name\na.tif,b.tif,one\na.tif,none.tif,two\n")
    out = tmp_path / "out"
    code, printed, err = run("map", "--pairs", table, "-o", out, "--method", "cva")
    assert code == 2
    assert Path(printed.strip()) == out / "index.html"
    assert "1 of 2, one: No change that cva could tell from noise." in err
    assert "2 of 2, two: failed:" in err
    assert "1 of 2 pairs failed;" in err
    write(tmp_path / "none.tif", np.full((3, 96, 128), 90, np.uint8))
    code, _, err = run("map", "--pairs", table, "-o", out, "--method", "cva")
    assert code == 0, err
    assert "(done before)" in err


@pytest.mark.parametrize(
    "arguments", [(), ("a.tif",), ("a.tif", "b.tif", "--pairs", "p.csv"), ("a.tif", "--pairs", "p.csv")]
)
def test_map_takes_two_images_or_a_table(run, tmp_path, arguments):
    code, _, err = run("map", *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert "give two images, BEFORE and AFTER, or a table of many with --pairs FILE.csv" in err


def test_version(run):
    assert run("--version")[:2] == (0, f"{terradelta.__version__}\n")


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['terradelta', 'map', '--help']\n"
        "from terradelta.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'openvino', 'rasterio', 'pyogrio', 'skimage', 'scipy'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env={**os.environ})


def test_mapping_loads_no_torch(pair, tmp_path):
    code = "import atexit, sys\natexit.register(lambda: print('torch' in sys.modules))"
    done = subprocess.run(child(code, "map", *pair, "-o", tmp_path / "out"), capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_a_message_of_gdal_that_is_no_text_brings_no_traceback(pair, tmp_path):
    """rasterio's logger cannot raise, so Python would print a traceback of its own."""
    odd = tmp_path / "odd.vrt"
    odd.write_bytes(b'<VRTDataset rasterXSize="8" rasterYSize="8"><SRS\xe7></SRS></VRTDataset>')
    done = subprocess.run(
        child("", "map", pair[0], odd, "-o", tmp_path / "out"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "odd.vrt" in done.stderr
    assert "Traceback" not in done.stderr


def test_area_draws_samples_and_tells_areas(run, pair, tmp_path):
    with rasterio.open(pair[0]) as source:
        after = source.read()
    after[:, 20:50, 30:80] += 100
    write(pair[1], after)
    code, _, _ = run("map", *pair, "-o", tmp_path / "out", "--method", "cva", "--min-area", 0)
    assert code == 0
    samples = tmp_path / "s.csv"
    code, out, err = run("area", tmp_path / "out", "--draw", 40, "-o", samples)
    assert (code, out.strip()) == (0, str(samples))
    assert "drew 20 samples among changed and 20 among unchanged pixels" in err
    head, *lines = samples.read_text().splitlines()
    samples.write_text("\n".join([head, *(f"{line}{n % 2}" for n, line in enumerate(lines))]))
    code, out, err = run("area", tmp_path / "out", "--samples", samples, "-o", tmp_path / "a.json")
    assert code == 0, err
    assert "Basis: 40 labelled samples" in err
    assert "overall accuracy 0." in err
    assert json.loads((tmp_path / "a.json").read_text())["whole_map"]["samples"] == 40
    code, _, err = run("area", tmp_path / "out")
    assert code == 0
    assert "For an interval, label samples of this map" in err
    code, _, err = run("area", tmp_path / "out", "--draw", 40)
    assert code == 2
    assert "--draw only writes samples: give -o SAMPLES.gpkg" in err
    code, _, err = run("area", tmp_path / "nothing")
    assert code == 2
    assert "give a folder that `terradelta map` made" in err


def test_shipped_weights_are_exported_by_name(run, tmp_path):
    name = next(name for name in shipped_models() if not name.endswith("_int8"))
    code, _, err = run("export", name, "-o", tmp_path / "copy.onnx")
    assert code == 0, err
    assert (tmp_path / "copy.onnx").is_file()
    code, _, err = run("export", name, "--int8", tmp_path / "nothing", "-o", tmp_path / "int8.onnx")
    assert code == 2
    assert f"{tmp_path / 'nothing'}" in err
