"""The QGIS plugin without QGIS: what it imports, its zip, and how it starts, hears and stops the program."""

import ast
import configparser
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import terradelta

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "integrations" / "qgis" / "terradelta_qgis"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load(PLUGIN / "runner.py")


def test_it_imports_nothing_but_qgis_and_the_standard_library() -> None:
    """`processing` is QGIS's own; QGIS 3.22 has Python 3.9 and newer."""
    files = sorted(PLUGIN.glob("*.py"))
    assert len(files) == 5
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module or "")
            for name in names:
                top = name.split(".")[0]
                assert top in ("qgis", "processing") or top in sys.stdlib_module_names, f"{path.name}: {name}"


def test_metadata_is_that_of_the_project() -> None:
    parser = configparser.ConfigParser()
    parser.read(PLUGIN / "metadata.txt", encoding="utf-8")
    general = parser["general"]
    assert general["version"] == terradelta.__version__
    assert general["hasProcessingProvider"] == "yes"
    assert general["qgisMinimumVersion"] == "3.22"
    needed = {"name", "description", "about", "author", "email", "repository", "tracker"}
    assert needed <= set(general)


def test_the_zip_holds_the_plugin_and_is_the_same_each_time(tmp_path: Path) -> None:
    script = ROOT / "integrations" / "qgis" / "make_zip.py"
    assert os.access(script, os.X_OK)
    for name in ("a.zip", "b.zip"):
        subprocess.run([sys.executable, script, tmp_path / name], check=True, capture_output=True)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    names = set(zipfile.ZipFile(tmp_path / "a.zip").namelist())
    parts = ("__init__.py", "algorithms.py", "plugin.py", "provider.py", "runner.py", "metadata.txt", "LICENSE")
    assert names == {f"terradelta_qgis/{name}" for name in parts}


def test_the_program_is_found_where_it_is_set_or_on_the_path(tmp_path: Path) -> None:
    program = tmp_path / "terradelta"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    nowhere = {"PATH": str(tmp_path / "empty")}
    assert runner.find_program(str(program), nowhere) == str(program)
    assert runner.find_program("", {"PATH": str(tmp_path)}) == str(program)
    assert runner.find_program("", {**nowhere, runner.SETTING: str(program)}) == str(program)
    with pytest.raises(runner.NotFoundError, match=r"was not found on the PATH. Install it .* Providers > terradelta"):
        runner.find_program(" ", nowhere)
    with pytest.raises(runner.NotFoundError, match=r"/nothing is no program that can be started. Name the program"):
        runner.find_program("/nothing", nowhere)


def test_what_qgis_sets_for_its_own_libraries_stays_behind() -> None:
    own = {"PYTHONHOME": "/qgis", "PYTHONPATH": "/qgis", "GDAL_DATA": "/qgis", "PROJ_LIB": "/qgis", "HOME": "/home/a"}
    kept = runner.child_environment(own)
    assert kept["HOME"] == "/home/a"
    assert "/qgis" not in kept.values()


def program(code: str) -> list[str]:
    return [sys.executable, "-c", f"import json, signal, sys, time\n{code}"]


def test_events_and_text_are_passed_on_in_order() -> None:
    told: list[dict[str, Any]] = []
    code = """
print(json.dumps({"event": "note", "text": "é", "warning": False}), flush=True)
print("a sentence", file=sys.stderr, flush=True)
print('{"event": 5}', flush=True)
print("[1]", flush=True)
print(json.dumps({"event": "progress", "done": 1, "total": 2}), flush=True)
"""
    assert runner.run(program(code), told.append, lambda: False) is True
    assert told == [
        {"event": "note", "text": "é", "warning": False},
        {"event": "text", "text": "a sentence"},
        {"event": "text", "text": '{"event": 5}'},
        {"event": "text", "text": "[1]"},
        {"event": "progress", "done": 1, "total": 2},
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('reading'); sys.exit('error: no such file')", "error: no such file"),
        (
            f"print({json.dumps({'event': 'error', 'text': 'no such file', 'notes': ['kept']})!r}); "
            "sys.exit('error: no such file')",
            "^no such file\nkept$",
        ),
        ("sys.exit(3)", "it ended with code 3 and said nothing"),
    ],
)
def test_what_was_wrong_is_told_once(code: str, words: str) -> None:
    with pytest.raises(runner.RunError, match=words):
        runner.run(program(code), lambda event: None, lambda: False)


def test_a_program_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no program")
    (tmp_path / "x").chmod(0o755)
    with pytest.raises(runner.RunError, match="x cannot be started"):
        runner.run([str(tmp_path / "x")], lambda event: None, lambda: False)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("stubborn", [False, True])
def test_a_run_is_stopped_gently_and_killed_if_it_does_not_listen(
    stubborn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "GRACE_S", 0.5 if stubborn else 600.0)
    code = f"""
def end(*_):
    open({str(tmp_path / "heard")!r}, "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, {"signal.SIG_IGN" if stubborn else "end"})
print('{{"event": "progress", "done": 1, "total": 2}}', flush=True)
while True:
    time.sleep(0.05)
"""
    told: list[dict[str, Any]] = []
    assert runner.run(program(code), told.append, lambda: bool(told)) is False
    assert (tmp_path / "heard").exists() is not stubborn
