import doctest
import importlib
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

import terradelta


def test_every_public_name_is_what_its_module_defines():
    assert len(terradelta.__all__) <= 40
    assert set(terradelta.__all__) == {"__version__", *terradelta._HOME}
    for name, home in terradelta._HOME.items():
        assert getattr(terradelta, name) is getattr(importlib.import_module(f"terradelta.{home}"), name)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="module 'terradelta' has no attribute 'maps'"):
        terradelta.maps  # noqa: B018


def test_import_is_free():
    code = (
        "import sys, terradelta\n"
        "heavy = {'torch', 'numpy', 'rasterio', 'openvino', 'scipy'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_citation_names_this_version_and_this_repository():
    root = Path(__file__).parents[1]
    citation = dict(re.findall(r"^([a-z-]+): (.+)$", (root / "CITATION.cff").read_text(), re.MULTILINE))
    assert citation["version"] == terradelta.__version__
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert citation["repository-code"] == project["urls"]["Repository"]
    assert citation["license"] == project["license"]


def write(path: Path, values: np.ndarray, **place) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    profile = {"count": count, "height": height, "width": width, "dtype": "uint8", **place}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as target:
            target.write(values)


@pytest.fixture
def examples(tmp_path, monkeypatch) -> None:
    """The folder that examples in docstrings run in: a pair of GeoTIFFs with one change, and a labelled pair."""
    rng = np.random.default_rng(0)
    before = rng.integers(60, 100, (3, 128, 160)).astype(np.uint8)
    after = before.copy()
    after[:, 40:80, 60:110] += 120
    place = {"driver": "GTiff", "crs": "EPSG:32614", "transform": Affine(0.5, 0, 600000, 0, -0.5, 3400000)}
    write(tmp_path / "before.tif", before, **place)
    write(tmp_path / "after.tif", after, **place)
    label = (after[:1] != before[:1]).astype(np.uint8) * 255
    for folder, values in (("A", before), ("B", after), ("label", label)):
        write(tmp_path / "pairs" / "test" / folder / "one.png", values[:, 20:84, 40:104], driver="PNG")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(terradelta._HOME))
def test_every_promised_name_has_an_example_that_runs(examples, name):
    if name in ("detect_change", "change_polygons"):
        pytest.importorskip("rioxarray")
        pytest.importorskip("geopandas")
    text = getattr(terradelta, name).__doc__
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert test.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert said == []


@pytest.mark.parametrize("missing", ["rioxarray", "xarray", "geopandas"])
def test_a_missing_extra_is_named_with_what_installs_it(examples, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(terradelta.TerradeltaError, match=r"optional dependencies \[xarray\]; run: pip install -c "):
        terradelta.change_polygons(terradelta.detect_change("before.tif", "after.tif", method="cva"))
