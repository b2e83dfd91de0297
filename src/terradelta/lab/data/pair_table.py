"""CSV tables that list pairs of images."""

import csv
from collections.abc import Sequence
from pathlib import Path

from terradelta.errors import DataError

__all__ = ["read_rows"]


def read_rows(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The lines of a table, numbered as in the file.

    Args:
        path: a CSV file in UTF-8 whose first line names the columns, in any order; other columns are ignored.
        needed: columns that must be there, with a value in every line.
        optional: columns that may be there; a missing value is empty.

    Raises:
        DataError: if the file cannot be read, has no line, or lacks a needed column or value.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream, skipinitialspace=True)
            columns = [name.strip() for name in table.fieldnames or ()]
            _check_columns(path, columns, needed, optional)
            table.fieldnames = columns
            rows = [(table.line_num, _cells(row, (*needed, *optional))) for row in table]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); give a CSV file in UTF-8") from error
    if not rows:
        raise DataError(f"{path} holds no pair; write one a line under the header {','.join(needed)}")
    for line, cells in rows:
        empty = [name for name in needed if not cells[name]]
        if empty:
            raise DataError(f"{path}, line {line}: {empty[0]} is empty; every pair needs {_list(needed)}")
        if any("\0" in value for value in cells.values()):
            raise DataError(f"{path}, line {line}: a value holds a NUL character; write the line again")
    return rows


def _cells(row: dict[str, str | None], names: Sequence[str]) -> dict[str, str]:
    return {name: (row.get(name) or "").strip() for name in names}


def _check_columns(path: Path, columns: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> None:
    lacking = [name for name in needed if name not in columns]
    if lacking:
        raise DataError(
            f"{path}: no column {', '.join(lacking)}; the first line must name {','.join(needed)} and may name "
            f"{', '.join(optional)}"
        )


def _list(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1]))
