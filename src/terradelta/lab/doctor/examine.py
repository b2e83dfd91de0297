"""One pair under examination: read once, strip by strip, and never more of it held than a strip."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.errors import DataError, InputError
from terradelta.geo.grid import Grid, Tile
from terradelta.lab.data.georeferenced import VECTOR_SUFFIXES
from terradelta.lab.data.images import Image, read_grid, read_header, read_image
from terradelta.lab.data.pairs import PairFiles, PairList
from terradelta.lab.doctor.findings import Finding, Severity
from terradelta.lab.doctor.label_values import LabelKind, LabelTally
from terradelta.lab.doctor.measures import Portrait
from terradelta.predict.classical.statistics import Moments

__all__ = ["PairRecord", "SplitTally", "examine"]

_STRIP_PX = 4 * 2**20
_STRIP_ROWS = 64
_ALMOST_ALL = 0.95


@dataclass(frozen=True, eq=False)
class PairRecord:
    """What is kept of a pair that could be read."""

    split: str
    name: str
    index: int
    shape: tuple[int, int]
    digests: tuple[bytes, bytes]
    """Of the two dates' pixels."""
    label_digest: bytes
    """Of what the label says."""
    descriptors: tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]
    """Of the two dates, see `Portrait.descriptor`."""
    changed: float
    """Share of the pixels."""
    label: LabelKind
    grid: Grid | None
    """Where the pair lies."""


@dataclass
class SplitTally:
    """What is summed over the pairs of a split."""

    moments: Moments = field(default_factory=Moments)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    bands: Counter[int] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    labels: Counter[LabelKind] = field(default_factory=Counter)
    pixels: int = 0
    changed: int = 0
    with_change: int = 0


def examine(pairs: PairList, index: int, tally: SplitTally) -> tuple[PairRecord | None, list[Finding]]:
    """Read one pair and say what is wrong with it.

    Args:
        pairs: the pairs of a split.
        index: which.
        tally: of the split; the pair is added if it can be read.

    Returns:
        What is kept of the pair, None if it cannot be read; and the findings.
    """
    files = pairs.files[index]
    where = ((pairs.split, files.name),)
    broken = [Finding(Severity.ERROR, "unreadable file", text, _REPLACE, where) for text in _unreadable(files)]
    if broken:
        return None, broken
    try:
        shape = pairs.size(index)
        found = _read(pairs, index, shape, tally)
    except InputError as error:
        if "one size" in str(error):
            return None, [Finding(Severity.ERROR, "sizes differ", str(error), _RESIZE, where)]
        if "label values" in str(error):
            return None, [Finding(Severity.ERROR, "label with other values", str(error), _REWRITE, where)]
        return None, [Finding(Severity.ERROR, "unreadable file", str(error), _REPLACE, where)]
    label, dates, grid = found
    kind = label.kind()
    record = PairRecord(
        split=pairs.split,
        name=files.name,
        index=index,
        shape=shape,
        digests=(dates[0].digest, dates[1].digest),
        label_digest=label.digest,
        descriptors=(dates[0].descriptor(), dates[1].descriptor()),
        changed=label.changed / max(label.total, 1),
        label=kind,
        grid=grid,
    )
    tally.sizes[shape] += 1
    tally.labels[kind] += 1
    if kind.mendable:
        tally.pixels += label.total
        tally.changed += label.changed
        tally.with_change += label.changed > 0
    findings = [*_of_label(files, label, kind, where), *_of_dates(files, record, dates, where)]
    if not pairs.by_georeference(index):
        findings += _of_grids(files, where)
    return record, findings


_REPLACE = "fetch the file again, or leave the pair out (--fix does)"
_RESIZE = "crop or resize to one size, or leave the pair out (--fix does)"
_REWRITE = "write 0 where nothing changed and 255 where something did; --fix leaves these pairs out"
_COPY = "--fix writes a copy with labels of 0 and 255"


def _unreadable(files: PairFiles) -> list[str]:
    """Messages on the files of a pair that cannot even be opened."""
    messages = []
    for path in (files.before, files.after, files.label):
        try:
            if path.suffix.lower() not in VECTOR_SUFFIXES:
                read_header(path)
        except DataError as error:
            messages.append(str(error))
    return messages


def _read(
    pairs: PairList, index: int, shape: tuple[int, int], tally: SplitTally
) -> tuple[LabelTally, tuple[Portrait, Portrait], Grid | None]:
    label, dates = LabelTally(pairs.files[index]), (Portrait(shape), Portrait(shape))
    moments = Moments()
    seen: tuple[NDArray[Any], ...] = ()
    for before, after, strip, valid in _strips(pairs, index, shape):
        seen = (before, after)
        label.add(strip)
        for portrait, values in zip(dates, seen, strict=True):
            portrait.add(values)
            if values.dtype.kind == "f" and not np.isfinite(values).all(axis=0)[valid].all():
                raise DataError(f"{pairs.files[index].name}: an image with values that are no numbers")
            moments.add(values.reshape(len(values), -1) if valid.all() else values[:, valid])
    _add(tally, moments, seen)
    return label, dates, pairs.grid(index)


def _add(tally: SplitTally, moments: Moments, dates: tuple[NDArray[Any], ...]) -> None:
    """Add a pair to its split; the moments only while all pairs have the same number of bands."""
    tally.bands[len(dates[0])] += 1
    for values in dates:
        tally.dtypes[values.dtype.name] += 1
    if len(tally.bands) == 1:
        tally.moments.merge(moments)


def _strips(
    pairs: PairList, index: int, shape: tuple[int, int]
) -> Iterator[tuple[NDArray[Any], NDArray[Any], Image, NDArray[np.bool_]]]:
    """Both dates, the label as it is in its file, and where all is valid: whole rows, top to bottom."""
    files = pairs.files[index]
    rows = max(_STRIP_PX // shape[1], _STRIP_ROWS)
    for row in range(0, shape[0], rows):
        window = Tile(row, 0, min(rows, shape[0] - row), shape[1])
        if pairs.by_georeference(index):
            pair = pairs.read_window(index, window)
            everywhere = np.ones(pair.label.shape, np.bool_)
            label = Image(pair.label[None] * np.uint8(255))
            yield pair.before, pair.after, label, everywhere if pair.valid is None else pair.valid
        else:
            part = window if files.window is None else window.moved(files.window.row, files.window.col)
            whole = None if rows >= shape[0] and files.window is None else part
            before, after, label = (read_image(path, whole) for path in (files.before, files.after, files.label))
            yield before.values, after.values, label, np.ones(before.values.shape[1:], np.bool_)


def _of_label(
    files: PairFiles, label: LabelTally, kind: LabelKind, where: tuple[tuple[str, str], ...]
) -> Iterator[Finding]:
    values = f"{files.label}: values {label.shown_values()}"
    if kind is LabelKind.BLURRED:
        yield Finding(Severity.ERROR, "label with blurred values (saved as JPEG or resized)", values, _COPY, where)
    elif kind is LabelKind.COLOURED:
        message = f"{files.label}: bands that differ"
        yield Finding(Severity.ERROR, "label that is a coloured picture", message, _COPY, where)
    elif kind is LabelKind.CLASSES:
        cure = "say which classes count as change, and write 0 and 255; --fix leaves these pairs out"
        yield Finding(Severity.ERROR, "label with classes in place of change", values, cure, where)
    elif kind is LabelKind.OTHER:
        yield Finding(Severity.ERROR, "label with other values", values, _REWRITE, where)
    if label.palette and kind.readable:
        message = f"{files.label}: values are indices into a colour table"
        cure = "read by its colours where they are black and white, else by its indices; --fix writes plain values"
        yield Finding(Severity.NOTE, "label with a palette", message, cure, where)
    if kind.mendable and label.changed > _ALMOST_ALL * label.total:
        message = f"{files.label}: {label.changed / label.total:.1%} of its pixels are changed"
        cure = "look at it: perhaps black and white are exchanged"
        yield Finding(Severity.WARNING, "label that is changed almost everywhere", message, cure, where)


def _of_dates(
    files: PairFiles, record: PairRecord, dates: tuple[Portrait, Portrait], where: tuple[tuple[str, str], ...]
) -> Iterator[Finding]:
    if record.digests[0] == record.digests[1]:
        message = f"{record.name}: both dates are the same picture; {record.changed:.1%} of its label is changed"
        cure = "put the right picture in its place"
        severity = Severity.ERROR if record.changed else Severity.WARNING
        yield Finding(severity, "both dates are one picture", message, cure, where)
    for path, portrait in zip((files.before, files.after), dates, strict=True):
        if portrait.constant:
            message = f"{path}: every pixel is {portrait.low:g}"
            yield Finding(Severity.WARNING, "picture of one colour", message, "leave the pair out", where)


def _of_grids(files: PairFiles, where: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    """Images that are laid on one another pixel by pixel, though their georeference says otherwise."""
    first, reference = files.before, read_grid(files.before)
    if reference is None:
        return
    for path in (files.after, files.label):
        grid = read_grid(path)
        if grid is not None and grid.offset_in(reference) != (0, 0):
            yield Finding(
                Severity.WARNING,
                "georeferences that differ",
                f"{path} does not lie where {first} does, but is laid on it pixel by pixel",
                "name the pairs in a CSV file: then they are laid on one another by their georeference",
                where,
            )
