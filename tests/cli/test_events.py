"""`map --progress json`: what a program that starts a run is told."""

import json
from pathlib import Path

import pytest

from terradelta.cli.events import Events

from .test_cli import pair, run

__all__ = ["pair", "run"]  # fixtures


def events(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_run_tells_notes_progress_and_the_end(run, pair, tmp_path: Path) -> None:
    code, out, err = run("map", *pair, "-o", tmp_path / "out", "--tile", 64, "--overlap", 32, "--progress", "json")
    assert code == 0, err
    told = events(out)
    kinds = [each["event"] for each in told]
    assert kinds[0] == "note"
    assert kinds[-1] == "done"
    assert set(kinds) == {"note", "progress", "done"}
    assert [str(each["text"])[:25] for each in told[:2]] == ["To be mapped: 96 x 128 pi", "The model buildings finds"]
    last = [each for each in told if each["event"] == "progress"][-1]
    assert last["done"] == last["total"]
    assert int(str(last["total"])) > 1
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    notes = [each["text"] for each in told if each["event"] == "note"]
    assert notes[1:] == receipt["preflight"]
    assert told[-1]["changed_fraction"] == receipt["result"]["changed_fraction"]
    assert told[-1]["folder"] == str(tmp_path / "out")
    assert Path(str(told[-1]["report"])).is_file()
    assert "mapping" not in err


def test_warnings_are_marked(run, pair, tmp_path: Path) -> None:
    _, out, _ = run("map", *pair, "-o", tmp_path / "out", "--method", "cva", "--progress", "json")
    notes = [each for each in events(out) if each["event"] == "note"]
    assert notes
    assert all(each["warning"] == str(each["text"]).startswith("Warning") for each in notes)


def test_an_error_is_an_event_too(run, pair, tmp_path: Path) -> None:
    code, out, err = run("map", pair[0], tmp_path / "none.tif", "-o", tmp_path / "out", "--progress", "json")
    assert code == 2
    (told,) = events(out)
    assert told["event"] == "error"
    assert "none.tif does not exist" in str(told["text"])
    assert "none.tif does not exist" in err


def test_a_table_of_pairs(run, pair, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(f"before,after,name\n{pair[0]},{pair[1]},a\n{pair[0]},{tmp_path / 'none.tif'},b\n")
    code, out, _ = run("map", "--pairs", table, "-o", tmp_path / "out", "--method", "cva", "--progress", "json")
    assert code == 2
    told = events(out)
    pairs = [(each["number"], each["count"], each["name"], each["failed"]) for each in told if each["event"] == "pair"]
    assert pairs == [(1, 2, "a", False), (2, 2, "b", True)]
    assert [each["event"] for each in told[-2:]] == ["done", "error"]


def test_another_form_is_refused(run, pair, tmp_path: Path) -> None:
    code, out, err = run("map", *pair, "-o", tmp_path / "out", "--progress", "xml")
    assert (code, out) == (2, "")
    assert "--progress is 'xml'; it must be one of bar, json" in err


def test_progress_comes_seldom_but_its_end_always(capsys: pytest.CaptureFixture[str]) -> None:
    told = Events()
    for done in range(1, 101):
        told.progress(done, 100)
    lines = events(capsys.readouterr().out)
    assert len(lines) <= 20
    assert lines[-1] == {"event": "progress", "done": 100, "total": 100}
