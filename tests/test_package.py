import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import terradelta


def test_every_public_name_is_what_its_module_defines():
    assert len(terradelta.__all__) <= 12
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
