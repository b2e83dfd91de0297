"""Tables in a terminal: names stay whole, the least important columns go first."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from terradelta.cli._base import PrintableConsole
from terradelta.cli._table import Column, fitted
from terradelta.strangers import printable

NAMES = ("a_network_with_a_long_name", "a_network_with_a_long_name_int8")
COLUMNS = (Column("network"), Column("F1", 1), Column("licence", 2, wraps=True), Column("speed", 3))
ROWS = [(name, "0.1234", "for research only, not for sale", "12 pairs a second") for name in NAMES]


def shown(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(fitted("Title", COLUMNS, ROWS, console))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(120, []), (80, ["speed"]), (60, ["licence", "speed"]), (36, ["F1", "licence", "speed"])],
)
def test_columns_go_and_names_stay(width, left_out):
    lines = shown(width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert all(name in text for name in NAMES)
    assert [column.name for column in COLUMNS if f" {column.name} " not in lines[2]] == left_out
    said = f"No room for: {', '.join(left_out)}."
    assert (said in " ".join(text.split())) == bool(left_out)


def test_a_name_wider_than_the_terminal_is_folded_not_cut():
    lines = shown(20)
    assert max(map(len, lines)) <= 20
    text = "".join(line.strip("│ ") for line in lines if line.startswith("│"))
    assert text == "".join(NAMES)


def test_no_rows():
    console = Console(file=io.StringIO(), width=80)
    console.print(fitted("Title", COLUMNS, [], console))
    assert "network" in console.file.getvalue()


def test_no_cell_reaches_the_terminal_as_a_command():
    """Titles, cells, texts and nested tables, whoever wrote what they quote."""
    bad = "a\x1b[31m\u202eb"
    console = PrintableConsole(file=io.StringIO(), width=200, force_terminal=False)
    console.print(fitted(bad, (Column("name"),), [(bad,)], console), Text(bad), bad)
    text = console.file.getvalue()
    assert printable(text) == text
    assert text.count("a\\x1b[31m\\u202eb") == 4
