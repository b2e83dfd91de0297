"""`mend_dataset`: a copy in LEVIR-CD's layout without what the doctor found wrong; each change is logged."""

import csv
import io
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

import terradelta
from terradelta.errors import DataError, OutputExistsError
from terradelta.files import cannot_write, write_whole
from terradelta.geo.grid import Tile
from terradelta.lab.data.archives import terms
from terradelta.lab.data.images import Image, read_image
from terradelta.lab.data.labels import LabelCoding, decode_label, resolve_palette
from terradelta.lab.data.layouts import split_order
from terradelta.lab.data.pairs import PairFiles, PairList
from terradelta.lab.data.writing import tiff_profile, write_label
from terradelta.lab.doctor.check import Checkup
from terradelta.lab.doctor.examine import PairRecord
from terradelta.lab.doctor.findings import Finding, Severity
from terradelta.lab.doctor.label_values import CUT, LabelKind, mended

__all__ = ["LOG", "Change", "mend_dataset"]

LOG = "fixes.csv"
"""Name of the list of changes in the copy."""
_STRIP_PX = 4 * 2**20
_BLOCK = 256
_PLAIN_SUFFIXES = (".png", ".tif", ".tiff")
_PLAIN_KINDS = (LabelKind.FULL_RANGE, LabelKind.EMPTY)


@dataclass(frozen=True)
class Change:
    """What was done to one pair, or why it was left out."""

    split: str
    name: str
    left_out: bool
    what: str


def mend_dataset(checkup: Checkup, out: Path, *, progress: Callable[[int, int], None] | None = None) -> list[Change]:
    """Write a copy without what was found wrong: ``{split}/{A,B,label}``, ``list/{split}.txt`` and ``fixes.csv``.

    Labels become 0 and 255: blurred ones are cut at 128, palettes and colours resolved. Pairs that are incomplete,
    cannot be read, differ in size, or have labels whose meaning is unclear are left out; so is, of a pair that two
    splits share, the one in the split that comes first (train before val before test). Images are copied as they are.
    The source is not touched.

    Args:
        checkup: of the data set, see `check_dataset`.
        out: the folder to make.
        progress: called with pairs done and pairs in all.

    Returns:
        What was done, in the order of splits and pairs.

    Raises:
        OutputExistsError: if ``out`` is there already.
        DataError: if no pair is left.
        OutputError: if a file cannot be written.
    """
    if out.exists():
        raise OutputExistsError(f"{out} is there already; nothing was overwritten. Remove it or give another name")
    excluded = _excluded(checkup)
    kept = [record for record in checkup.records if (record.split, record.name) not in excluded]
    if not kept:
        raise DataError(f"{checkup.location}: no pair can be kept; mend the labels first")
    work = out.with_name(f".{out.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    changes = [Change(*key, left_out=True, what=why) for key, why in excluded.items()]
    try:
        for done, record in enumerate(kept, 1):
            changes += [Change(record.split, record.name, False, what) for what in _copy(checkup, record, work)]
            if progress is not None:
                progress(done, len(kept))
        changes.sort(key=lambda change: (split_order(change.split), change.name))
        _write_lists(work, checkup, kept, changes)
        work.rename(out)
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(error, OSError | RasterioError):
            raise cannot_write(out, error) from error
        raise
    return changes


def _excluded(checkup: Checkup) -> dict[tuple[str, str], str]:
    """(split, name) of the pairs to leave out, and why."""
    excluded: dict[tuple[str, str], str] = {}
    for finding in checkup.findings:
        if finding.kind == "missing file":
            split, _, rest = finding.message.partition(": ")
            excluded.setdefault((split, rest.rsplit("/", 1)[-1]), finding.message)
        elif finding.severity is Severity.ERROR and len(finding.pairs) == 1 and _spoils(finding, checkup):
            excluded.setdefault(finding.pairs[0], f"{finding.kind}: {finding.message}")
    for finding in checkup.findings:
        if finding.kind.startswith("leak") and not any(pair in excluded for pair in finding.pairs):
            first = min(finding.pairs, key=lambda pair: split_order(pair[0]))
            excluded[first] = f"{finding.kind}: {finding.message}"
    return excluded


def _spoils(finding: Finding, checkup: Checkup) -> bool:
    """Whether a pair with this error cannot be kept: all errors but those of labels that can be mended."""
    records = (r for r in checkup.records if (r.split, r.name) == finding.pairs[0])
    record = next(records, None)
    return record is None or not finding.kind.startswith("label") or not record.label.mendable


def _copy(checkup: Checkup, record: PairRecord, work: Path) -> Iterator[str]:
    """Write one pair; what was changed."""
    pairs = checkup.sources[record.split]
    files = pairs.files[record.index]
    folder = work / record.split
    if pairs.by_georeference(record.index) or files.window is not None or files.before.is_dir():
        _write_anew(pairs, record, folder)
        yield "images and label written as GeoTIFFs on one grid, the label 0 and 255"
        return
    for part, path in (("A", files.before), ("B", files.after)):
        _copy_file(path, folder / part / f"{record.name}{path.suffix.lower()}")
    label = read_image(files.label)
    plain = label.palette is None and len(label.values) == 1 and record.label in _PLAIN_KINDS
    if plain and files.label.suffix.lower() in _PLAIN_SUFFIXES:
        _copy_file(files.label, folder / "label" / f"{record.name}{files.label.suffix.lower()}")
        return
    suffix = ".png" if record.grid is None else ".tif"
    write_label(folder / "label" / f"{record.name}{suffix}", _change(files, label), record.grid)
    yield f"label ({record.label.value}{', with a palette' if label.palette else ''}) written as 0 and 255"


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _change(files: PairFiles, label: Image) -> NDArray[np.bool_]:
    """What a whole label says."""
    if files.coding is not LabelCoding.BINARY:
        return decode_label(label, files.label, files.coding)
    highest = resolve_palette(label)[:3].max(initial=0)
    return mended(label, 1 if highest <= 1 else CUT)


def _write_anew(pairs: PairList, record: PairRecord, folder: Path) -> None:
    """Write a pair that is not three files of equal size, strip by strip."""
    height, width = record.shape
    rows = max(_STRIP_PX // width // _BLOCK, 1) * _BLOCK
    with ExitStack() as opened:
        targets: dict[str, Any] = {}
        for row in range(0, height, rows):
            pair = pairs.read_window(record.index, Tile(row, 0, min(rows, height - row), width))
            strips = {"A": pair.before, "B": pair.after, "label": pair.label[None] * np.uint8(255)}
            for part, values in strips.items():
                if part not in targets:
                    (folder / part).mkdir(parents=True, exist_ok=True)
                    profile = tiff_profile((len(values), height, width), values.dtype, record.grid)
                    targets[part] = opened.enter_context(_new_tiff(folder / part / f"{record.name}.tif", profile))
                targets[part].write(values, window=Window(0, row, width, values.shape[1]))


@contextmanager
def _new_tiff(path: Path, profile: Mapping[str, Any]) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as target:
            yield target


def _write_lists(work: Path, checkup: Checkup, kept: list[PairRecord], changes: list[Change]) -> None:
    for split in dict.fromkeys(record.split for record in kept):
        names = (f"{record.name}\n" for record in kept if record.split == split)
        write_whole(work / "list" / f"{split}.txt", "".join(names), make_folder=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("split", "name", "done", "what"))
    for change in changes:
        writer.writerow((change.split, change.name, "left out" if change.left_out else "changed", change.what))
    write_whole(work / LOG, table.getvalue(), make_folder=True)
    content = {"source": checkup.name, "mended": f"by terradelta {terradelta.__version__}", **terms(checkup.archive)}
    write_whole(work / "dataset.json", json.dumps(content, indent=2) + "\n", make_folder=True)
