"""Tables that fit into the terminal: names stay whole, and the least important columns go first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from terradelta.strangers import printable

__all__ = ["Column", "fitted"]

_EDGES, _BETWEEN = 1, 3
"""Characters that a frame takes in all, and for each column."""
_NARROWEST = 16
"""Characters of a column whose text may go on in the next line."""


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    rank: int = 0
    """The highest goes first where there is no room; 0 stays."""
    wraps: bool = False
    """Whether its text may go on in the next line; other cells are never parted."""


def fitted(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], console: Console) -> RenderableType:
    """A table that is no wider than the console, and a line that names the columns that were left out.

    Args:
        title: of the table.
        columns: from the left.
        rows: a text for each column.
        console: where it will be shown.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    kept = [k for k, _ in enumerate(columns)]
    widths = {k: _width(column, [row[k] for row in rows]) for k, column in enumerate(columns)}
    while _taken(widths[k] for k in kept) > console.width:
        last = max(kept, key=lambda k: (columns[k].rank, k))
        if not columns[last].rank:
            break
        kept.remove(last)
    table = Table(title=Text(title))
    for k in kept:
        others = _taken(widths[each] for each in kept if each != k)
        most = max((cell_len(row[k]) for row in rows), default=0)
        widths[k] = min(max(most, widths[k]), max(console.width - others - _BETWEEN, 1))
        table.add_column(columns[k].name, overflow="fold", width=widths[k])
    for row in rows:
        table.add_row(*(Text(row[k]) for k in kept))
    left_out = [column.name for k, column in enumerate(columns) if k not in kept]
    if not left_out:
        return table
    return Group(table, Text(f"No room for: {', '.join(left_out)}. A wider terminal shows them.", style="dim"))


def _taken(widths: Iterable[int]) -> int:
    return _EDGES + sum(width + _BETWEEN for width in widths)


def _width(column: Column, cells: Sequence[str]) -> int:
    """Characters that a column needs: a head may be parted at its spaces, a cell only where its column wraps."""
    words = [word for text in (column.name, *(cells if column.wraps else ())) for word in text.split()]
    whole = max((cell_len(text) for text in cells), default=0)
    needed = min(whole, _NARROWEST) if column.wraps else whole
    return max(needed, *(cell_len(word) for word in words), 1)
