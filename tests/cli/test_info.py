"""`terradelta info`, and the shell's completion."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import openvino
import pytest
import rasterio

import terradelta
from terradelta.cli import info
from terradelta.predict.load import shipped_models

from .test_cli import run

__all__ = ["run"]  # a fixture


def test_what_a_report_needs_fits_into_80_columns(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TERRADELTA_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "models").mkdir(parents=True)
    (tmp_path / "cache" / "models" / "x").write_bytes(bytes(1_250_000))
    code, out, err = run("info")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    said = dict(line.split(None, 1) for line in out.splitlines() if not line.startswith(" "))
    assert said["terradelta"] == terradelta.__version__
    assert said["GDAL"].startswith(rasterio.__gdal_version__)
    assert openvino.__version__.startswith(said["OpenVINO"])
    assert said["cache"] in ("~/cache: 1.2 MB, 0 fetched models", "~/cache: 1.3 MB, 0 fetched models")
    assert said["models"] == ", ".join(shipped_models())
    code, out, _ = run("info", "--json")
    facts = json.loads(out)
    assert list(facts) == list(said)
    assert facts["extras"] == ([] if said["extras"] == "none" else said["extras"].split(", "))


def test_what_is_missing_comes_with_the_command(run, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name in ("torch", "distributed"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(info.metadata, "version", without)
    _, out, _ = run("info")
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("missing"))
    assert lines[start] == "missing      cluster, train (lacks torch)"
    assert lines[start + 2].strip().startswith("pip install -c ")
    assert "[cluster,train]" in lines[start + 2]
    assert "torch        not installed" in lines
    extras = next(line for line in lines if line.startswith("extras"))
    assert "train" not in extras


def test_on_systems_that_tell_little(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("terradelta.machine.cpu_flags", lambda: None)
    monkeypatch.setattr("terradelta.machine.total_memory", lambda: None)
    monkeypatch.setattr(info.metadata, "metadata", _raise)
    _, out, _ = run("info")
    assert out.count("the system does not tell") == 2
    assert "extras" not in out


def _raise(name: str) -> None:
    raise metadata.PackageNotFoundError(name)


def test_info_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['terradelta', 'info']\nfrom terradelta.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("terradelta ev", "evaluate"), ("terradelta models f", "fetch"), ("terradelta map --coreg", "--coregister")],
)
def test_completion_for_bash(tmp_path: Path, words: str, expected: str) -> None:
    """It is installed into a home folder, and what it calls completes."""
    command = tmp_path / "terradelta"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'terradelta'\nfrom terradelta.cli import main\nmain()\n"
    )
    command.chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    install = subprocess.run(
        ["terradelta", "--install-completion", "bash"], env=environment, capture_output=True, text=True, check=True
    )
    assert "bash completion installed" in install.stdout
    script = (tmp_path / ".bashrc").read_text().split("'")[1]
    assert Path(script).is_relative_to(tmp_path)
    ask = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={words.count(' ')}; "
    ask += 'complete -p terradelta; _terradelta_completion terradelta; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["complete -o default -F _terradelta_completion terradelta", expected]
