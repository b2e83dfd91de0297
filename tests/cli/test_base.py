"""How messages look in a terminal of 80 columns."""

import pytest

from terradelta.cli import _base
from terradelta.errors import InputError, LeftOutWarning


@pytest.fixture
def said(monkeypatch, capsys):
    monkeypatch.setattr(_base, "console", _base.PrintableConsole(stderr=True, width=80, highlight=False))

    def lines(message: str) -> list[str]:
        _base._say_error(message)
        return capsys.readouterr().err.splitlines()

    return lines


def test_a_message_is_wrapped_together_with_its_mark(said):
    words = [f"[word{i}]" for i in range(30)]
    lines = said(" ".join(words))
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).split() == ["error:", *words]


def test_a_command_to_be_copied_stands_in_one_line(said):
    command = f"pip install -c {'/a/long/folder' * 8}/constraints.txt '.[view]'"
    lines = said(f"`terradelta view` needs the optional dependencies [view]; run: {command}\x1b[31m\nA note.")
    assert lines == [
        "error: `terradelta view` needs the optional dependencies [view]; run:",
        command + "\\x1b[31m",
        "A note.",
    ]


@pytest.mark.parametrize("length", [*range(60, 90), 300])
def test_a_name_is_never_cut(said, capsys, length):
    path = "/" + "x" * (length - 1)
    _base.say(f"{path}: made")
    for lines in (capsys.readouterr().err.splitlines(), said(f"{path}: {'word ' * 40}")):
        assert any(path in line for line in lines)
        assert all(len(line) <= 80 for line in lines if path not in line)


@pytest.mark.parametrize("name", ["a" * 300, "file/x.csv"])
def test_a_file_that_cannot_be_is_the_users_fault(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be a file|for .*file is no folder"):
        _base.check_new(tmp_path / name)
    _base.check_new(tmp_path / "new" / "folder" / "x.csv")


def test_a_path_is_printed_so_that_no_terminal_acts_upon_it(tmp_path, capsys):
    _base.say_path(tmp_path / "a\u202eb")
    assert capsys.readouterr().out.endswith("a\\u202eb\n")


def test_a_warning_is_said_once(capsys):
    for _ in range(2):
        _base._show_warning("2 hidden files were left out", LeftOutWarning, "x.py", 1)
    assert capsys.readouterr().err.count("2 hidden files") == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_no_empty_bar_stands_before_an_error(monkeypatch, capsys, terminal):
    shown = _base.PrintableConsole(stderr=True, width=80, force_terminal=terminal, highlight=False)
    monkeypatch.setattr(_base, "console", shown)
    with pytest.raises(InputError), _base.progress("reading"):
        raise InputError("no such file")
    assert "reading" not in capsys.readouterr().err.rpartition("\r")[2]
    with pytest.raises(InputError), _base.progress("mapping") as advance:
        advance(3, 8)
        raise InputError("a damaged tile")
    assert "3/8" in capsys.readouterr().err
