"""One table in four formats: Markdown, CSV, LaTeX and HTML. A value keeps its type until it is written."""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import terradelta
from terradelta.errors import InputError
from terradelta.files import write_whole
from terradelta.html.page import render

__all__ = ["FORMATS", "Cell", "Column", "Spread", "Table", "write_tables"]

MISSING = "–"


@dataclass(frozen=True)
class Spread:
    """A mean over runs with their standard deviation."""

    mean: float
    sd: float | None
    """Standard deviation with n - 1 below the line; None for one run."""
    n: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of one value or more.

        Raises:
            InputError: if there is none.
        """
        if not values:
            raise InputError("a mean needs one value or more, and none was given")
        mean = math.fsum(values) / len(values)
        if len(values) == 1:
            return cls(mean, None, 1)
        return cls(mean, math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1)), len(values))


Cell = Spread | float | int | str | None


@dataclass(frozen=True)
class Column:
    """One column: its head, and how numbers in it are shown."""

    name: str
    digits: int = 2
    """Digits behind the point."""


@dataclass(frozen=True)
class Table:
    """A table with a title and notes; every row has a cell for each column.

    Raises:
        InputError: if a row has another number of cells.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    """Sentences below the table: the protocol, what the marks mean."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise InputError(f"a row of table {self.title!r} has {len(row)} cells for {len(self.columns)} columns")

    def shown(self) -> list[list[str]]:
        """The rows as text."""
        return [[_shown(cell, column) for cell, column in zip(row, self.columns, strict=True)] for row in self.rows]

    def numeric(self) -> list[bool]:
        """Whether a column holds numbers (and nothing, or text in single cells), so that it is set to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [any(isinstance(cell, Spread | float | int) for cell in column) for column in columns]


def _shown(cell: Cell, column: Column) -> str:
    if cell is None:
        return MISSING
    if isinstance(cell, Spread):
        sd = "" if cell.sd is None else f" ± {cell.sd:.{column.digits}f}"
        return f"{cell.mean:.{column.digits}f}{sd}"
    return f"{cell:.{column.digits}f}" if isinstance(cell, float) else str(cell)


def markdown(table: Table) -> str:
    """GitHub's Markdown."""
    escaped = [[_markdown_text(text) for text in row] for row in table.shown()]
    rule = ["---:" if numeric else "---" for numeric in table.numeric()]
    head = [_markdown_text(column.name) for column in table.columns]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *escaped)]
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"## {table.title}", "", *lines, *([""] if notes else []), *notes, ""])


def _markdown_text(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def comma_separated(table: Table) -> str:
    """CSV (RFC 4180) with full precision: a mean has its standard deviation and number of runs in columns beside it.

    Title and notes are left out; a cell that holds nothing is empty.
    """
    spreads = [any(isinstance(row[k], Spread) for row in table.rows) for k in range(len(table.columns))]
    stream = io.StringIO()
    writer = csv.writer(stream)
    head: list[str] = []
    for column, spread in zip(table.columns, spreads, strict=True):
        head += [column.name, *([f"{column.name} sd", f"{column.name} runs"] if spread else [])]
    writer.writerow(head)
    for row in table.rows:
        writer.writerow([x for cell, spread in zip(row, spreads, strict=True) for x in _csv_cells(cell, spread)])
    return stream.getvalue()


def _csv_cells(cell: Cell, spread: bool) -> list[object]:
    if isinstance(cell, Spread):
        return [cell.mean, cell.sd, cell.n]
    return [cell, *([None, None] if spread else [])]


_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "²": r"\textsuperscript{2}",
    "†": r"\textdagger{}",
    "–": "--",
    "≤": r"$\leq$",
}


def latex(table: Table) -> str:
    """A LaTeX ``table`` for the package booktabs; the notes stand below it in small type."""
    rule = "".join("r" if numeric else "l" for numeric in table.numeric())
    head = [_latex_text(column.name) for column in table.columns]
    body = [" & ".join(map(_latex_text, row)) + r" \\" for row in table.shown()]
    notes = [rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {_latex_text(note)}}}" for note in table.notes]
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_text(table.title)}}}",
        rf"\begin{{tabular}}{{{rule}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(mark, mark) for mark in text)


def html(table: Table) -> str:
    """A page of its own that opens offline."""
    return render("lab/bench/table.html.j2", table=table, version=terradelta.__version__)


FORMATS: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": comma_separated, "tex": latex, "html": html}
"""Suffix of a file -> its writer."""


def write_tables(table: Table, folder: Path, stem: str = "table") -> list[Path]:
    """Write ``stem`` in all formats; each file is replaced only once its new content is complete.

    Raises:
        OutputError: if a file cannot be written.
    """
    written = []
    for suffix, written_as in FORMATS.items():
        path = folder / f"{stem}.{suffix}"
        write_whole(path, written_as(table))
        written.append(path)
    return written
