"""The plugin and the projects in real QGIS, without windows: slow, and skipped where there is no QGIS."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
from affine import Affine

import terradelta as td

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "integrations" / "qgis"


@pytest.fixture(scope="module")
def qgis_python() -> str:
    """The Python that has PyQGIS."""
    for python in (os.environ.get("QGIS_PYTHON"), "/usr/bin/python3"):
        if python and Path(python).exists():
            code = "import qgis.core, processing"
            path = "/usr/share/qgis/python/plugins"
            asked = subprocess.run([python, "-c", code], env={"PYTHONPATH": path}, capture_output=True, check=False)
            if asked.returncode == 0:
                return python
    pytest.skip("no QGIS here: install the packages qgis and python3-qgis, or set QGIS_PYTHON to its Python")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs whose right part changed, and the program."""
    folder = tmp_path_factory.mktemp("qgis")
    (folder / "in é").mkdir()
    _write(folder / "in é", "", 200, 320)
    _write(folder / "in é", "long_", 3600, 700)  # three rows of tiles
    program = folder / "terradelta"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT / "src"}" exec "{sys.executable}" -m terradelta "$@"\n')
    program.chmod(0o755)
    return folder


def _write(folder: Path, prefix: str, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(60, 100, (3, height, width)).astype(np.uint8)
    after = before.copy()
    after[:, 60:140, 120:220] += 140
    profile = {"driver": "GTiff", "count": 3, "height": height, "width": width, "dtype": "uint8", "crs": "EPSG:32614"}
    for name, values in (("before", before), ("after", after)):
        place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
        with rasterio.open(folder / f"{prefix}{name}.tif", "w", transform=place, **profile) as target:
            target.write(values)


def environment(work: Path) -> dict[str, str]:
    (work / "run").mkdir(mode=0o700, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_RUNTIME_DIR": str(work / "run"),
        "QGIS_CUSTOM_CONFIG_PATH": str(work / "profile"),
        "QGIS_PLUGINPATH": str(PLUGIN),
        "TERRADELTA_PROGRAM": str(work / "terradelta"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="module")
def found(qgis_python: str, work: Path) -> dict[str, Any]:
    """What in_qgis.py found out."""
    script = Path(__file__).with_name("in_qgis.py")
    command = [qgis_python, script, "/usr/share/qgis/python/plugins", PLUGIN, work / "in é"]
    done = subprocess.run(command, env=environment(work), capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


LAYERS = ["Changes", "Changed pixels", "Probability of change"]


def test_the_map_is_loaded_styled_in_a_group(found: dict[str, Any]) -> None:
    loaded = found["loaded"]
    assert loaded["groups"] == {"Change in out": LAYERS}
    assert all(layer["valid"] and layer["crs"] == "EPSG:32614" for layer in loaded["layers"].values())
    renderers = [loaded["layers"][name]["renderer"] for name in LAYERS]
    assert renderers == ["QgsRuleBasedRenderer", "QgsPalettedRasterRenderer", "QgsSingleBandPseudoColorRenderer"]
    assert loaded["layers"]["Changes"]["legend"] == ["the shift alone could explain it", "change"]
    assert loaded["layers"]["Changed pixels"]["legend"] == ["unchanged", "changed"]
    assert found["ramp"] == ["0", "0.25", "0.5", "0.75", "1"]
    assert [loaded["layers"][name]["shown"] for name in LAYERS] == [True, False, False]


def test_progress_notes_and_numbers_arrive(found: dict[str, Any], work: Path) -> None:
    receipt = json.loads((work / "in é" / "out" / "receipt.json").read_text())
    assert found["map"]["CHANGED_AREA_M2"] == receipt["result"]["changed_area_m2"] == pytest.approx(2000, rel=0.1)
    assert found["shares"] == sorted(found["shares"])
    assert found["shares"][-1] == 100
    said = [*found["lines"], *found["warnings"]]
    assert all(line.removeprefix("Warning: ") in said for line in receipt["preflight"])
    assert "is there already; nothing was overwritten" in found["refused"]


def test_help_is_written_as_qgis_shows_it(found: dict[str, Any]) -> None:
    assert set(found["help"]) == {"mapchange", "mapbymethod", "drawsamples", "changedarea"}
    assert not any(mark in text for text in found["help"].values() for mark in "`*"), "Markdown is shown as it is"


def test_samples_are_drawn_labelled_and_counted(found: dict[str, Any]) -> None:
    areas = found["areas"]
    assert areas["LOW"] < areas["AREA"] < areas["HIGH"]
    assert areas["MAPPED"] == pytest.approx(found["map"]["CHANGED_AREA_M2"], rel=1e-6)


def test_a_run_that_was_stopped_goes_on(found: dict[str, Any], work: Path) -> None:
    assert found["stopped"] == {}
    assert any(line.startswith("Stopped. What is finished is kept") for line in found["stopped_lines"])
    assert "long" not in found["left"]
    receipt = json.loads((work / "in é" / "long" / "receipt.json").read_text())
    assert receipt["resumed_tile_rows"] > 0
    assert found["resumed"]["OUTPUT"] == str(work / "in é" / "long")


@pytest.mark.parametrize("name", ["project", "moved"])
def test_the_project_opens_also_where_it_was_moved_to(found: dict[str, Any], work: Path, name: str) -> None:
    project = found[name]
    assert found[f"{name}_read"] is True
    assert project["crs"] == "EPSG:32614"
    images = ["After: after.tif", "Before: before.tif"]
    assert project["groups"] == {"Change in out": [*LAYERS, *images]}
    assert all(layer["valid"] and layer["crs"] == "EPSG:32614" for layer in project["layers"].values())
    assert [project["layers"][each]["renderer"] for each in images] == ["QgsMultiBandColorRenderer"] * 2
    place = work / ("in é" if name == "project" else "moved")
    assert all(source.startswith(f"{place}/") for source in found[f"{name}_sources"])
    red, green, blue = found[f"{name}_colour"]
    assert red > green + 20, "the later image is grey there, and the polygon's faint red lies over it"
    assert green > 100
    assert blue > 100


@pytest.fixture(scope="module")
def qgis_process(qgis_python: str, work: Path) -> Callable[..., str]:
    """Calls the program with some arguments, the plugin enabled; gives what it printed."""
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("no qgis_process here")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments], env=environment(work), capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("plugins", "enable", "terradelta_qgis")
    return run


def test_qgis_process_runs_it(qgis_process: Callable[..., str], work: Path) -> None:
    listed = qgis_process("list")
    for name in ("mapchange", "mapbymethod", "changedarea", "drawsamples"):
        assert f"terradelta:{name}" in listed
    images = [f"--{key}={work / 'in é' / name}" for key, name in (("BEFORE", "before.tif"), ("AFTER", "after.tif"))]
    made = json.loads(
        qgis_process("--json", "run", "terradelta:mapbymethod", *images, f"--OUTPUT={work / 'by_process'}")
    )
    assert made["results"]["CHANGED_FRACTION"] > 0
    assert (work / "by_process" / "change.gpkg").is_file()


@pytest.mark.filterwarnings("ignore::terradelta.errors.DoubtWarning")
@pytest.mark.parametrize(
    ("algorithm", "parameters", "options"),
    [("mapchange", ["ANYWAY=true"], {"anyway": True}), ("mapbymethod", ["METHOD=0"], {"method": "irmad"})],
)
def test_the_naip_pair_gives_the_same_numbers_through_every_door(
    qgis_process: Callable[..., str], work: Path, shared_data: Path, tmp_path: Path, algorithm, parameters, options
) -> None:
    """QGIS, the command line, paths, xarray and dask; the second date lies a metre off the first, so it is warped."""
    files = {}
    for key, name in (("before", "naip_2009-08-18.tif"), ("after", "naip_2020-08-31.tif")):
        whole = rioxarray.open_rasterio(shared_data / "geo_pairs" / "naip_nd" / name)
        files[key] = tmp_path / f"{key}.tif"
        whole.isel(y=slice(200, 420), x=slice(200, 460)).rio.to_raster(files[key])
    images = [f"--{key.upper()}={path}" for key, path in files.items()]
    given = [f"--{each}" for each in parameters]
    qgis_process("run", f"terradelta:{algorithm}", *images, *given, f"--OUTPUT={tmp_path / 'qgis'}")
    words = [f"--{key}" if value is True else f"--{key}={value}" for key, value in options.items()]
    command = [work / "terradelta", "map", *files.values(), "-o", tmp_path / "cli", *words]
    subprocess.run(command, check=True, capture_output=True)
    doors = {name: _rasters(tmp_path / name) for name in ("qgis", "cli")}
    for door in ("paths", "xarray", "dask"):
        chunks = {"y": 130, "x": 70} if door == "dask" else None
        dates = [path if door == "paths" else rioxarray.open_rasterio(path, chunks=chunks) for path in files.values()]
        found = td.detect_change(*dates, **options)
        doors[door] = found.change.values, found.probability.values
    assert np.unique(doors["cli"][1]).size > 20
    for name, rasters in doors.items():
        for one, other in zip(rasters, doors["cli"], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


def _rasters(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Change and probability of a map."""
    with rasterio.open(folder / "change.tif") as change, rasterio.open(folder / "probability.tif") as probability:
        return change.read(1), probability.read(1)
