"""`tile_dataset`: pairs cut into tiles, in LEVIR-CD's layout, as papers cut them before training.

The folder appears under its name when it is complete. Until then it is ``.NAME.part`` beside it, with a journal of the
pairs that are done, so that a second call goes on after the first was killed.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from terradelta.errors import DataError, InputError, OutputError, OutputExistsError
from terradelta.files import cannot_write, settle, unfinished, write_whole
from terradelta.geo.grid import Grid, Tile
from terradelta.lab.data.archives import Archive, terms
from terradelta.lab.data.layouts import Layout
from terradelta.lab.data.opening import find_data
from terradelta.lab.data.pairs import LabelledPair, PairList
from terradelta.lab.data.writing import image_suffix, write_image, write_label
from terradelta.strangers import printable, read_json

__all__ = ["TileCounts", "Tiling", "tile_dataset", "tile_windows"]

DESCRIPTION, JOURNAL, MANIFEST = "dataset.json", "tiles.jsonl", "list/manifest.csv"
_WHOLE_PX = 2048 * 2048
_COLUMNS = ("split", "name", "source", "row", "col", "height", "width", "changed")


@dataclass(frozen=True)
class Tiling:
    """How pairs are cut."""

    size: int = 256
    """Side of a tile, pixels."""
    overlap: int = 0
    """Pixels that neighbours share, less than a side."""
    edges: bool = False
    """Whether what is left at the right and lower edge becomes tiles too, which reach back over their neighbours; a
    pair smaller than a tile is then one tile of its own size."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"the side of a tile is {self.size}; give 1 pixel or more")
        if not 0 <= self.overlap < self.size:
            raise InputError(f"the overlap is {self.overlap}; with tiles of {self.size} it can be 0 to {self.size - 1}")


@dataclass(frozen=True)
class TileCounts:
    """What came of a data set."""

    tiles: dict[str, int]
    """Tiles of each split."""
    without_data: int
    """Tiles left out because a date has no data somewhere in them, or no label."""
    too_small: int
    """Pairs left out because they are smaller than a tile."""
    left_over: float
    """Share of the pixels of all pairs that lie in no tile."""


def tile_windows(shape: tuple[int, int], tiling: Tiling) -> list[Tile]:
    """Where the tiles of a pair lie, row by row.

    Args:
        shape: (height, width) of the pair.
        tiling: how to cut.
    """
    rows, cols = (_starts(length, tiling) for length in shape)
    height, width = (min(tiling.size, length) for length in shape)
    return [Tile(row, col, height, width) for row in rows for col in cols]


def _starts(length: int, tiling: Tiling) -> list[int]:
    starts = list(range(0, length - tiling.size + 1, tiling.size - tiling.overlap))
    if tiling.edges and (not starts or starts[-1] + tiling.size < length):
        starts.append(max(length - tiling.size, 0))
    return starts


def tile_dataset(
    location: Path | str,
    out: Path,
    tiling: Tiling | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> TileCounts:
    """Cut all splits of a data set into tiles.

    ``out`` gets ``{split}/{A,B,label}/NAME_ROW_COL``: PNG files, or GeoTIFFs where a pair has a place on the ground,
    other than one or three bands, or more than 8 bits; labels are 0 and 255. ``list/{split}.txt`` names the tiles,
    ``list/manifest.csv`` says from where in which pair each comes, ``dataset.json`` how they were cut. A tile with
    pixels that have no data or no label is left out. A second call goes on where the first was stopped, and changes
    nothing when all is done.

    Args:
        location: the data set, see `open_pairs`.
        out: the folder to make.
        tiling: how to cut; tiles of 256 pixels without overlap if None.
        progress: called with pairs done and pairs in all.

    Raises:
        InputError: if the tiling is impossible.
        DataError: if the data set is damaged, a name in it is not printable, or all its pairs are smaller than a tile.
        OutputExistsError: if ``out`` holds something else, or tiles that were cut otherwise.
        OutputError: if a file cannot be written.
    """
    tiling = tiling or Tiling()
    archive, layout = find_data(location)
    sources = {split: layout.pairs(split) for split in layout.own_splits}
    _check_names(sources)
    description = _describe(archive, layout, sources, tiling)
    work = out.with_name(f".{out.name}.part")
    if out.exists():
        _check_same(out, description)
        return _counts(_journal(out), sources, progress)
    _settle(work, description)
    done = {(record["split"], record["source"]) for record in _journal(work)}
    total = sum(map(len, sources.values()))
    for number, (split, pairs, index) in enumerate(_all_pairs(sources), 1):
        if (split, pairs.files[index].name) not in done:
            _append(work / JOURNAL, _cut(work, split, pairs, index, tiling))
        if progress is not None:
            progress(number, total)
    records = _journal(work)
    if not any(record["tiles"] for record in records):
        raise DataError(
            f"{layout.root}: no tile of {tiling.size} pixels fits into its pairs, or none has data throughout; "
            "give a smaller size, or keep the edges"
        )
    _finish(work, out, records, tuple(sources))
    return _counts(records, sources, None)


def _check_names(sources: dict[str, PairList]) -> None:
    for split, pairs in sources.items():
        for name in (files.name for files in pairs.files):
            if printable(name) != name:
                raise DataError(f"{split}: the name of {printable(name)} holds control characters; rename its files")


def _describe(archive: Archive | None, layout: Layout, sources: dict[str, PairList], tiling: Tiling) -> dict[str, Any]:
    """What `dataset.json` says; equal descriptions give equal tiles."""
    digest = hashlib.sha256()
    for split, pairs in sources.items():
        for files in pairs.files:
            sizes = [path.stat().st_size for path in files.paths()]
            digest.update(repr((split, files.name, sizes, files.window)).encode())
    return {"source": layout.name, "source_files": digest.hexdigest(), "tiling": asdict(tiling), **terms(archive)}


def _check_same(folder: Path, description: dict[str, Any]) -> None:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise OutputExistsError(f"{folder} is there already and holds no tiles; give another name")
    _settle(folder, description)


def _settle(folder: Path, description: dict[str, Any]) -> None:
    def refusal(names: Sequence[str]) -> OutputExistsError:
        return OutputExistsError(
            f"{folder} holds tiles that were cut otherwise or from other images ({', '.join(names)}, see "
            f"{DESCRIPTION} in it); give the same options, remove it, or give another name"
        )

    settle(folder / DESCRIPTION, description, refusal)


def _all_pairs(sources: dict[str, PairList]) -> Iterator[tuple[str, PairList, int]]:
    for split, pairs in sources.items():
        for index in range(len(pairs)):
            yield split, pairs, index


def _cut(work: Path, split: str, pairs: PairList, index: int, tiling: Tiling) -> dict[str, Any]:
    """Write the tiles of one pair that are not there yet; the record of all of them."""
    source, shape, grid = pairs.files[index].name, pairs.size(index), pairs.grid(index)
    windows = tile_windows(shape, tiling)
    record: dict[str, Any] = {"split": split, "source": source, "shape": shape, "tiles": [], "without_data": 0}
    for strip, inside in _strips(windows, shape):
        pair = pairs.read_window(index, strip)
        for window in inside:
            tile = _part(pair, window.moved(-strip.row, 0))
            if tile is None:
                record["without_data"] += 1
                continue
            name = f"{source}_{window.row:05d}_{window.col:05d}"
            _write_tile(work / split, name, tile, None if grid is None else grid.crop(window))
            changed = round(float(tile.label.mean()), 6)
            record["tiles"].append([name, window.row, window.col, window.height, window.width, changed])
    return record


def _strips(windows: list[Tile], shape: tuple[int, int]) -> Iterator[tuple[Tile, list[Tile]]]:
    """What to read at once, and the tiles in it: all of a small pair, a row of tiles of a large one."""
    if shape[0] * shape[1] <= _WHOLE_PX:
        yield Tile(0, 0, *shape), windows
        return
    for row in sorted({window.row for window in windows}):
        inside = [window for window in windows if window.row == row]
        yield Tile(row, 0, inside[0].height, shape[1]), inside


def _part(pair: LabelledPair, tile: Tile) -> LabelledPair | None:
    """A tile of what was read; None where it is not valid and known throughout."""
    rows, cols = tile.slices
    if pair.counted is not None and not pair.counted[rows, cols].all():
        return None
    return LabelledPair(pair.name, pair.before[:, rows, cols], pair.after[:, rows, cols], pair.label[rows, cols])


def _write_tile(folder: Path, name: str, tile: LabelledPair, grid: Grid | None) -> None:
    """Both dates and, last, the label; a file that is there is left as it is."""
    for part, values in (("A", tile.before), ("B", tile.after)):
        path = folder / part / f"{name}{image_suffix(values.dtype, len(values), grid)}"
        if not path.exists():
            write_image(path, np.ascontiguousarray(values), grid)
    path = folder / "label" / f"{name}{image_suffix(np.dtype(np.uint8), 1, grid)}"
    if not path.exists():
        write_label(path, tile.label, grid)


def _append(journal: Path, record: dict[str, Any]) -> None:
    try:
        with journal.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise cannot_write(journal, error, "make room and call again") from error


def _journal(folder: Path) -> list[dict[str, Any]]:
    """The records of the pairs that are done, one for each; a last line that was cut off is taken away."""
    path = folder / JOURNAL
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole, cut, rest = text.rpartition("\n")
    if rest:
        write_whole(path, whole + cut, make_folder=True)
    records = [read_json(line, ours=True) for line in whole.splitlines()]
    return list({(record["split"], record["source"]): record for record in records}.values())


def _finish(work: Path, out: Path, records: list[dict[str, Any]], splits: tuple[str, ...]) -> None:
    """Lists and manifest, then the folder's own name."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for record in records:
        for name, *window, changed in record["tiles"]:
            writer.writerow([record["split"], name, record["source"], *window, changed])
    for split in splits:
        names = [f"{tile[0]}\n" for record in records if record["split"] == split for tile in record["tiles"]]
        write_whole(work / "list" / f"{split}.txt", "".join(names), make_folder=True)
    write_whole(work / MANIFEST, table.getvalue(), make_folder=True)
    try:
        for path in unfinished(work, below=True):
            path.unlink()
        work.rename(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error}); the tiles lie in {work}") from error


def _counts(
    records: list[dict[str, Any]], sources: dict[str, PairList], progress: Callable[[int, int], None] | None
) -> TileCounts:
    tiles = {split: sum(len(r["tiles"]) for r in records if r["split"] == split) for split in sources}
    pixels = sum(r["shape"][0] * r["shape"][1] for r in records)
    covered = sum(_covered(r["tiles"]) for r in records)
    if progress is not None:
        progress(len(records), len(records))
    return TileCounts(
        tiles=tiles,
        without_data=sum(r["without_data"] for r in records),
        too_small=sum(not r["tiles"] and not r["without_data"] for r in records),
        left_over=1 - covered / max(pixels, 1),
    )


def _covered(tiles: list[list[Any]]) -> int:
    """Pixels that lie in at least one tile: counted on the grid of all edges of tiles, which is small."""
    boxes = np.array([tile[1:5] for tile in tiles], np.int64).reshape(-1, 4)
    rows, cols = (np.unique([boxes[:, axis], boxes[:, axis] + boxes[:, axis + 2]]) for axis in (0, 1))
    inside = np.zeros((len(rows), len(cols)), np.bool_)
    for row, col, height, width in boxes:
        first, last = np.searchsorted(rows, (row, row + height)), np.searchsorted(cols, (col, col + width))
        inside[first[0] : first[1], last[0] : last[1]] = True
    areas = np.outer(np.diff(rows, append=rows[-1:]), np.diff(cols, append=cols[-1:]))
    return int(areas[inside].sum())
