"""The code blocks of docs/*.md run; the commands of README.md exist with the options that they use."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from typer.main import get_command

from terradelta import cli

from .conftest import FileServer

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, code) of every runnable block."""
    return BLOCK.findall(path.read_text(encoding="utf-8"))


DOCS = [
    pytest.param(language, code, id=f"{path.stem}-{number}")
    for path in sorted((ROOT / "docs").glob("*.md"))
    for number, (language, code) in enumerate(blocks(path), 1)
]


def commands(text: str) -> list[list[str]]:
    """The arguments of every `terradelta ...` line, comments left out."""
    lines = (shlex.split(line, comments=True) for _, code in BLOCK.findall(text) for line in code.splitlines())
    return [words[1:] for words in lines if words[:1] == ["terradelta"]]


@pytest.fixture
def example_pair(tmp_path: Path) -> Path:
    """A folder with before.tif and after.tif, 128 x 160 pixels of half a metre in UTM 14 N."""
    rng = np.random.default_rng(0)
    before = rng.integers(60, 100, (3, 128, 160)).astype(np.uint8)
    after = before.copy()
    after[:, 40:80, 60:110] += 120
    profile = {"driver": "GTiff", "count": 3, "height": 128, "width": 160, "dtype": "uint8", "crs": "EPSG:32614"}
    for name, values in (("before", before), ("after", after)):
        place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
        with rasterio.open(tmp_path / f"{name}.tif", "w", transform=place, **profile) as target:
            target.write(values)
    return tmp_path


@pytest.fixture
def example_server(example_pair: Path, tmp_path_factory) -> Iterator[FileServer]:
    """What stands in for https://example.org: both images, and a STAC item of each."""
    folder = tmp_path_factory.mktemp("served")
    bands = [{"common_name": name} for name in ("red", "green", "blue")]
    for name in ("before", "after"):
        (folder / f"{name}.tif").write_bytes((example_pair / f"{name}.tif").read_bytes())
        assets = {"image": {"href": f"{name}.tif", "eo:bands": bands}}
        text = {"type": "Feature", "stac_version": "1.0.0", "properties": {}, "assets": assets}
        (folder / f"{name}.json").write_text(json.dumps(text))
    server = FileServer(folder)
    yield server
    server.close()


@pytest.mark.parametrize(("language", "code"), DOCS)
def test_code_blocks_of_docs_run(example_pair, example_server, language, code):
    code = code.replace("https://example.org", example_server.root)
    shim = f'terradelta() {{ "{sys.executable}" -m terradelta "$@"; }}\nset -e\n'
    run = ["sh", "-c", shim + code] if language == "sh" else [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    before = set(example_pair.iterdir())
    done = subprocess.run(run, cwd=example_pair, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "failed with" not in done.stdout, done.stderr
    made = set(example_pair.iterdir()) - before
    assert made, "the block made nothing"
    folders = [path for path in made if path.is_dir()]
    results = ("change.gpkg", "summary.csv", "best.ckpt", "train")
    assert all(any((path / name).exists() for name in results) for path in folders)


def test_commands_of_readme_exist():
    top = get_command(cli.app)
    found = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {words[0] for words in found} >= {"map", "train", "evaluate", "export", "models"}
    for words in found:
        command, rest = top, words
        while hasattr(command, "commands"):
            given = rest if rest and rest[0] in command.commands else ["show", *rest]  # of `models`, the default
            command, rest = command.commands[given[0]], given[1:]
        command.make_context("terradelta", list(rest), resilient_parsing=False)


def test_option_table_of_readme_is_the_one_of_map():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| option | meaning |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(--[a-z-]+)`", table))
    parameters = get_command(cli.app).commands["map"].params
    options = set(itertools.chain.from_iterable(p.opts for p in parameters if p.param_type_name == "option"))
    assert named == {option for option in options if option.startswith("--")} - {"--out"}


def test_the_notebook_runs(tmp_path: Path) -> None:
    pytest.importorskip("rioxarray")
    pytest.importorskip("geopandas")
    pytest.importorskip("matplotlib")
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"F1 0\.\d\d\n", done.stdout), done.stdout
    assert all(cell.get("outputs", []) == [] for cell in cells)
