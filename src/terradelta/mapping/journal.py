"""What a run has finished so far: each row of tiles in a file of its own, from which a run that was killed goes on.

A file holds the probabilities of one row of tiles, joined along the columns, as 16-bit counts in compressed blocks. It
appears under its name only when it is whole. Rows do not depend on one another, so they may be made in any order, by
any process, and the products that are made from them are the same to the byte.
"""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from terradelta.errors import InputError, OutputError
from terradelta.files import hidden_file, settle, unfinished, write_whole
from terradelta.geo.windows import Span
from terradelta.strangers import read_json

__all__ = ["BLOCK_ROWS", "Journal", "RowReader", "RowWriter"]

BLOCK_ROWS = 64
"""Rows of a compressed block."""
STEPS = 65534
"""Probabilities are kept as counts of 1 / STEPS: a fiftieth of the step in which the product stores them."""
NO_DATA = 65535
LEVEL = 1
DAMAGE = (zipfile.BadZipFile, cast("type[Exception]", IsalError), KeyError, ValueError)
JOB, INDEX = "job.json", "index.json"
_ADVICE = "make room, then run the same command again"


class Journal:
    """The finished rows of tiles of one job, in a folder.

    Args:
        folder: where they lie; made if it is not there.
        job: what the rows depend on, as JSON-ready values by name.

    Raises:
        InputError: if the folder holds rows of another job; the message names what differs.
        OutputError: if the folder cannot be written to.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self.folder = folder
        settle(folder / JOB, job, self._differs, advice=_ADVICE)

    def _differs(self, names: Sequence[str]) -> InputError:
        return InputError(
            f"{self.folder.parent} holds an unfinished run that differs from this one in: {', '.join(names)}. "
            "Give the same inputs and options to go on with it, --fresh to discard it, or another output folder"
        )

    def tidy(self) -> None:
        """Remove what writers left that were killed; call it only while nobody writes."""
        for path in unfinished(self.folder):
            path.unlink(missing_ok=True)

    def finished(self, rows: int) -> set[int]:
        """The finished ones among the first ``rows`` rows of tiles. A file that cannot be read is removed."""
        return {number for number in range(rows) if self._is_whole(number)}

    def write(self, number: int) -> "RowWriter":
        """A writer of a row of tiles; the row counts as finished when its block ends well."""
        return RowWriter(self._path(number))

    def read(self, number: int) -> "RowReader":
        """A reader of a finished row of tiles.

        Raises:
            OutputError: if the row's file is damaged.
        """
        return RowReader(self._path(number))

    def put(self, number: int, content: bytes) -> None:
        """Take a finished row that was made elsewhere: the file that `take` gave there.

        Raises:
            OutputError: if it cannot be written.
        """
        write_whole(self._path(number), content, advice=_ADVICE, durable=True)

    def take(self, number: int) -> bytes:
        """The file of a finished row.

        Raises:
            OutputError: if it cannot be read.
        """
        with _guarded(self._path(number)):
            return self._path(number).read_bytes()

    def _is_whole(self, number: int) -> bool:
        path = self._path(number)
        if not path.is_file():
            return False
        try:
            self.read(number).close()
        except OutputError:
            path.unlink(missing_ok=True)
            return False
        return True

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.row"


class RowWriter:
    """Write the columns of one row of tiles from left to right; a context manager.

    Raises:
        OutputError: if writing fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = contextlib.ExitStack()
        self._firsts: list[int] = []
        self._shape = (0, 0)
        self._notes: list[Any] = []

    def __enter__(self) -> Self:
        with _guarded(self._path), contextlib.ExitStack() as stack:
            temporary = stack.enter_context(hidden_file(self._path, durable=True))
            self._file = zipfile.ZipFile(temporary, "w")  # entries are compressed by us
            self._files = stack.pop_all()
        return self

    def add(self, first_col: int, values: NDArray[np.float32]) -> None:
        """Append columns: ``(rows, n)`` probability in [0, 1], NaN where there is no data."""
        packed, part = pack(values), len(self._firsts)
        with _guarded(self._path):
            for block, start in enumerate(range(0, len(packed), BLOCK_ROWS)):
                content = isal_zlib.compress(packed[start : start + BLOCK_ROWS], LEVEL)
                self._file.writestr(_entry(block, part), content)
        self._firsts.append(first_col)
        self._shape = (len(values), first_col + values.shape[1])

    def note(self, found: Sequence[Any]) -> None:
        """Keep JSON-ready notes with the row."""
        self._notes += found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.push(self._close)
        if kind is None:
            with _guarded(self._path):
                self._files.close()
        else:
            self._files.__exit__(kind, error, trace)

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            index = {"shape": self._shape, "firsts": self._firsts, "notes": self._notes}
            self._file.writestr(INDEX, json.dumps(index))
            self._file.close()
        else:
            with contextlib.suppress(OSError, ValueError):  # the first error is the one to report
                self._file.close()


class RowReader:
    """Read a finished row of tiles in pieces from top to bottom; holds one row of blocks.

    Raises:
        OutputError: if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _guarded(path):
            self._file = zipfile.ZipFile(path)
            index = read_json(self._file.read(INDEX), ours=True)
        self.shape: tuple[int, int] = tuple(index["shape"])
        """(height, width) in pixels."""
        self.notes: list[Any] = index["notes"]
        """What `RowWriter.note` was given."""
        self._firsts: list[int] = index["firsts"]
        self._block = -1
        self._rows = np.empty((0, 0), np.uint16)

    def read(self, rows: Span) -> NDArray[np.float32]:
        """Probabilities ``(rows, width)`` of some rows, counted from the row's own top; NaN where there is no data."""
        first, last = rows.start // BLOCK_ROWS, (rows.stop - 1) // BLOCK_ROWS
        parts = []
        for block in range(first, last + 1):
            self._load(block)
            top = block * BLOCK_ROWS
            parts.append(unpack(self._rows[max(rows.start - top, 0) : rows.stop - top]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self, block: int) -> None:
        if block == self._block:
            return
        height = min(BLOCK_ROWS, self.shape[0] - block * BLOCK_ROWS)
        self._rows = np.empty((height, self.shape[1]), np.uint16)
        ends = [*self._firsts[1:], self.shape[1]]
        for part, (first, stop) in enumerate(zip(self._firsts, ends, strict=True)):
            with _guarded(self._path):
                found = np.frombuffer(isal_zlib.decompress(self._file.read(_entry(block, part))), np.uint16)
                self._rows[:, first:stop] = found.reshape(height, stop - first)
        self._block = block


def pack(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Probabilities as counts of 1 / `STEPS`; NaN becomes `NO_DATA`. Any shape."""
    counts = np.rint(values * np.float32(STEPS))
    return np.where(np.isnan(counts), np.float32(NO_DATA), counts).astype(np.uint16)


def unpack(packed: NDArray[np.uint16]) -> NDArray[np.float32]:
    """What `pack` packed, to half a step. Any shape."""
    values = packed.astype(np.float32)
    values *= np.float32(1 / STEPS)
    values[packed == NO_DATA] = np.nan
    return values


def _entry(block: int, part: int) -> str:
    return f"{block}/{part}"


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Failures with the file, in our words."""
    try:
        yield
    except DAMAGE as error:
        raise OutputError(f"{path} is damaged ({error}); start afresh with --fresh") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written or read ({error.strerror or error}); {_ADVICE}") from error
