"""`map_pairs`: a table of many pairs to a folder of maps and one table of results.

A pair that fails does not end the others. A batch that was killed goes on with the same command: finished pairs are
kept, and the one that was being mapped goes on from its own journal.
"""

import contextlib
import csv
import dataclasses
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import terradelta
from terradelta.errors import InputError, OutputError, OutputExistsError
from terradelta.files import settle, whole_file, write_whole
from terradelta.mapping.answer import answer_lines
from terradelta.mapping.batch_page import MOST_SHOWN, PairCard, batch_page
from terradelta.mapping.plan import MapOptions
from terradelta.mapping.run import RECEIPT, REPORT, THUMBNAIL, ChangeMap, map_change
from terradelta.predict.predictor import Predictor
from terradelta.raster.access import is_utf8
from terradelta.raster.aoi import parse_area
from terradelta.raster.overlap import aoi_record
from terradelta.raster.remote import full_url, is_url, public_url
from terradelta.receipt import MapReceipt, plain, read_receipt

__all__ = ["INDEX", "SUMMARY", "Outcome", "PairRow", "map_pairs", "parse_bands", "read_pairs"]

SUMMARY, INDEX, BATCH = "summary.csv", "index.html", ".pairs.json"
PAIRS_A_WORKER = 2
_ADVICE = "make room, and run this again"
_REQUIRED, _OPTIONAL = ("before", "after"), ("name", "aoi", "bands", "threshold", "values")
_NAME = re.compile(r"[\w-][\w.-]{0,99}")
_MAX_BYTES, _MAX_PAIRS, _MAX_PATH = 64 * 2**20, 1_000_000, 4096
_COLUMNS = (
    *("name", "status", "changed_area_m2", "changed_area_px", "changed_fraction", "polygons", "polygons_area_m2"),
    *("polygons_area_px", "valid_px", "seconds"),
    *("before", "after", "report", "message"),
)


@dataclass(frozen=True)
class PairRow:
    """One line of the table."""

    name: str
    """Of the pair's folder."""
    before: str
    """Absolute path or URL of the first date."""
    after: str
    aoi: str = ""
    """As after ``--aoi``; a file lies beside the table. The following are as in `MapOptions`, empty for the default."""
    bands: str = ""
    threshold: str = ""
    values: str = ""

    def options(self, default: MapOptions) -> MapOptions:
        """The options of the pair: the line's where it has some, otherwise those of the whole batch.

        Raises:
            InputError: if one cannot be used.
        """
        changes: dict[str, Any] = {}
        if self.aoi:
            changes["aoi"] = parse_area(self.aoi)
        if self.bands:
            changes["bands"] = parse_bands(self.bands)
        if self.threshold:
            try:
                changes["threshold"] = float(self.threshold)
            except ValueError as error:
                raise InputError(f"threshold is {self.threshold!r:.40}; give a number") from error
        if self.values:
            changes["values"] = self.values
        return dataclasses.replace(default, **changes)

    def identity(self) -> dict[str, str]:
        """What says whether it is the same pair; signatures in URLs do not count."""
        return {**dataclasses.asdict(self), "before": _shown(self.before), "after": _shown(self.after)}


@dataclass(frozen=True)
class Outcome:
    """How a pair ended."""

    row: PairRow
    folder: Path
    receipt: MapReceipt | None = None
    """None where it failed."""
    message: str = ""
    """Why it failed."""
    resumed: bool = False
    """Whether an earlier run had finished it."""

    def record(self) -> dict[str, Any]:
        """A line of the summary, by its columns."""
        found: dict[str, Any] = dict.fromkeys(_COLUMNS, "")
        found |= {"name": self.row.name, "before": _shown(self.row.before), "after": _shown(self.row.after)}
        if self.receipt is None:
            return {**found, "status": "failed", "message": self.message}
        result, seconds = plain(self.receipt.result), self.receipt.timings.get("total", 0.0)
        found |= {key: result[key] for key in _COLUMNS if key in result}
        return {**found, "status": "ok", "seconds": f"{seconds:.1f}", "report": f"{self.row.name}/{REPORT}"}

    def card(self) -> PairCard:
        """Its place on the index page."""
        said = self.message if self.receipt is None else answer_lines(self.receipt)[0]
        report = "" if self.receipt is None else f"{self.row.name}/{REPORT}"
        return PairCard(self.row.name, report, f"{self.row.name}/{THUMBNAIL}", said)


def parse_bands(text: str) -> tuple[str | int, ...]:
    """Bands from a text such as ``3,2,1`` or ``red, green``: numbers and names."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def read_pairs(table: Path) -> list[PairRow]:
    """The lines of a table of pairs.

    Args:
        table: a CSV file with the columns ``before`` and ``after`` (paths, from the table's folder, or URLs) and,
            optionally, ``name``, ``aoi``, ``bands``, ``threshold`` and ``values``. Empty fields mean the default;
            without a name, a pair has its number.

    Raises:
        InputError: if it cannot be read or is no such table; the message names the line.
    """
    try:
        if os.path.getsize(table) > _MAX_BYTES:
            raise InputError(f"{table} is larger than {_MAX_BYTES // 2**20} MiB: no table of pairs is")
        text = table.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text), strict=True)
        columns = [name.strip().lower() for name in reader.fieldnames or ()]
        lines = [(reader.line_num, list(line.values()), None in line) for line in reader]
    except (OSError, UnicodeError, ValueError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as CSV ({getattr(error, 'strerror', None) or error})") from error
    unknown = [name for name in columns if name not in (*_REQUIRED, *_OPTIONAL)]
    if unknown or not set(_REQUIRED) <= set(columns) or len(set(columns)) < len(columns):
        raise InputError(
            f"{table} has the columns {', '.join(columns)[:200] or 'none'}; it needs before and after, and may have "
            f"{', '.join(_OPTIONAL)}, separated by commas"
        )
    rows = [
        _row(table, number, position, dict(zip(columns, (value or "" for value in values), strict=False)), long)
        for position, (number, values, long) in enumerate(lines, 1)
    ]
    _check_names(table, rows)
    return rows


def _row(table: Path, line: int, position: int, fields: Mapping[str, str], too_long: bool) -> PairRow:
    fields = {key: value.strip() for key, value in fields.items() if isinstance(value, str)}
    if too_long or not all(fields.get(key) for key in _REQUIRED):
        problem = "more fields than columns" if too_long else "no before or no after"
        raise InputError(f"{table}, line {line}: {problem}; give one pair a line")
    unfit = [key for key in _REQUIRED if "\0" in fields[key] or len(fields[key]) > _MAX_PATH]
    if unfit:
        raise InputError(
            f"{table}, line {line}: {unfit[0]} is neither a path nor a URL: {fields[unfit[0]]!r:.80}; give at most "
            f"{_MAX_PATH:,} characters, without a NUL"
        )
    folder = os.path.dirname(os.path.realpath(table))
    before, after = (_placed(folder, fields[key]) for key in _REQUIRED)
    aoi = fields.get("aoi", "")
    beside = os.path.join(folder, aoi)
    aoi = beside if aoi and os.path.exists(beside.partition("|")[0]) else aoi
    rest = {key: fields.get(key, "") for key in ("bands", "threshold", "values")}
    return PairRow(fields.get("name") or f"{position:04d}", before, after, aoi, **rest)


def _placed(folder: str, name: str) -> str:
    return full_url(name) if is_url(name) else os.path.join(folder, os.path.expanduser(name))


def _check_names(table: Path, rows: Sequence[PairRow]) -> None:
    if not 0 < len(rows) <= _MAX_PAIRS:
        raise InputError(f"{table} holds {len(rows):,} pairs; give 1 to {_MAX_PAIRS:,}")
    seen: set[str] = set()
    for row in rows:
        if not _NAME.fullmatch(row.name) or not is_utf8(row.name):
            raise InputError(
                f"{table}: {row.name!r:.120} is no name for a folder; use letters, digits, '-', '_' and '.' inside"
            )
        if row.name.lower() in seen or row.name.lower() in (SUMMARY, INDEX):
            raise InputError(f"{table}: the name {row.name!r} stands twice, or is taken; each pair needs its own")
        seen.add(row.name.lower())


def map_pairs(
    table: Path,
    out: Path,
    predictor: Predictor,
    options: MapOptions,
    *,
    announce: Callable[[Sequence[str]], None] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> Iterator[Outcome]:
    """Map many pairs with one model.

    One after the other; with ``options.workers`` many at once: each pair is a worker's task if there are at least
    `PAIRS_A_WORKER` for each worker, otherwise each row of tiles.

    Args:
        table: see `read_pairs`.
        out: folder to make, or that an earlier run with the same table and options has made.
        predictor: as for `map_change`.
        options: of all pairs; a line of the table may set its own.
        announce: called with each pair's warnings; the other sentences of its pre-flight report are in its report.
        progress: called with (pairs done, pairs in all); the present pair counts by its tiles.

    Yields:
        How each pair ended, in the table's order. ``summary.csv`` and ``index.html`` appear in ``out`` after
        the last one.

    Raises:
        InputError: if the table cannot be used.
        OutputExistsError: if ``out`` holds something else.
        OutputError: if writing fails; then the other pairs would fail, too.
    """
    rows = read_pairs(table)
    _claim(out, {"pairs": [row.identity() for row in rows], "job": _job(predictor, options)})
    with _summary(out / SUMMARY) as write:
        missing = [row for row in rows if _finished(row, out) is None]
        workers, done = options.workers, _Done(len(rows), progress)
        cards: list[PairCard] = []
        failed = 0
        if workers is not None and len(missing) >= PAIRS_A_WORKER * workers.count():
            alone = dataclasses.replace(options, workers=None)
            made = workers.starmap(_mapped, predictor, out, [(row, out, alone) for row in missing])
        else:
            made = (_mapped(predictor, row, out, options, announce, done.tiles) for row in missing)
        with contextlib.closing(made):
            waiting = {row.name for row in missing}
            for number, row in enumerate(rows, 1):
                outcome = next(made) if row.name in waiting else _finished(row, out)
                if outcome is None:
                    raise OutputError(f"{out / row.name} has vanished while the others were mapped; run this again")
                write(outcome)
                failed += outcome.receipt is None
                cards += [outcome.card()] if number <= MOST_SHOWN else []
                done.pairs(number)
                yield outcome
    write_whole(out / INDEX, batch_page(cards, len(rows), failed))


class _Done:
    """How much of a batch is done, in pairs; never less than before, though a method that is fitted counts twice."""

    def __init__(self, count: int, progress: Callable[[float, float], None] | None) -> None:
        self._count, self._progress = count, progress
        self._whole, self._most = 0, 0.0

    def pairs(self, done: int) -> None:
        self._whole = done
        self._tell(done)

    def tiles(self, done: int, total: int) -> None:
        self._tell(self._whole + done / max(total, 1))

    def _tell(self, done: float) -> None:
        self._most = max(self._most, done)
        if self._progress is not None:
            self._progress(self._most, self._count)


def _mapped(
    predictor: Predictor,
    row: PairRow,
    out: Path,
    options: MapOptions,
    announce: Callable[[Sequence[str]], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    folder = out / row.name

    def warn(lines: Sequence[str]) -> None:
        if announce is not None:
            announce([f"{line} (pair {row.name})" for line in lines if line.startswith("Warning")])

    try:
        made: ChangeMap = map_change(
            row.before, row.after, folder, predictor, row.options(options), progress=progress, announce=warn
        )
    except (InputError, MemoryError) as error:
        words = str(error) if isinstance(error, InputError) else "out of memory; use smaller tiles"
        return Outcome(row, folder, message=" ".join(words.split()))
    return Outcome(row, folder, made.receipt)


def _finished(row: PairRow, out: Path) -> Outcome | None:
    """What an earlier run has finished."""
    path = out / row.name / RECEIPT
    if not path.is_file():
        return None
    try:
        return Outcome(row, path.parent, read_receipt(MapReceipt, path), resumed=True)
    except InputError as error:
        return Outcome(row, path.parent, message=f"{error}; remove {path.parent} first")


def _claim(out: Path, batch: Mapping[str, Any]) -> None:
    """Make the folder of a batch, or check that it is this batch's."""

    def refusal(names: Sequence[str]) -> OutputExistsError:
        return OutputExistsError(
            f"{out} holds maps of another table of pairs, or with other options ({', '.join(names)}); give another "
            "folder"
        )

    try:
        known = (out / BATCH).is_file()
        if not known and os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise OutputExistsError(f"{out} is there already; nothing was overwritten. Remove it or give another name")
    except (OSError, ValueError) as error:
        raise OutputError(f"{out} cannot be made ({getattr(error, 'strerror', None) or error})") from error
    settle(out / BATCH, batch, refusal, advice=_ADVICE)


def _job(predictor: Predictor, options: MapOptions) -> dict[str, Any]:
    """What all pairs are mapped with, JSON-ready."""
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    del fields["workers"]
    fields |= {"aoi": aoi_record(options.aoi), "fresh": None, "bands": options.bands and list(options.bands)}
    return {"model": predictor.identity, "options": fields, "version": terradelta.__version__}


@contextlib.contextmanager
def _summary(path: Path) -> Iterator[Callable[[Outcome], None]]:
    """A table that gets a line with each call, and its name when the block ends well."""
    with (
        whole_file(path, advice=_ADVICE) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        yield lambda outcome: writer.writerow(outcome.record())


def _shown(name: str) -> str:
    return public_url(name) if is_url(name) else name
