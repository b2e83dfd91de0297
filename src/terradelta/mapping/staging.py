"""A product folder that appears whole or not at all, and what a killed run leaves to go on from."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from terradelta.errors import InputError, OutputError, OutputExistsError
from terradelta.files import take_lock
from terradelta.raster.access import is_utf8

__all__ = ["WorkFolder", "check_free", "unfinished_rows", "work_folder"]

_NAME_CHARS = 40
"""Of the product's name in the temporary one: that must not be too long where the product's own is not."""
LOCK, ROWS, PRODUCT, SCRATCH = "lock", "rows", "product", "scratch"
LOCK_ATTEMPTS = 5
_IMPOSSIBLE = {errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EEXIST, errno.ELOOP}


@dataclass
class WorkFolder:
    """Where a run works."""

    path: Path
    out: Path
    keep: bool = field(default=False)
    """Whether to leave the folder if the run fails, for the next one to go on from."""

    @property
    def rows(self) -> Path:
        """Folder of the journal."""
        return self.path / ROWS

    @property
    def product(self) -> Path:
        """Folder that becomes the product; nothing but finished files lies in it."""
        return self.path / PRODUCT

    @property
    def scratch(self) -> Path:
        """Folder of temporary files."""
        return self.path / SCRATCH


@contextlib.contextmanager
def work_folder(out: Path, *, fresh: bool = False) -> Iterator[WorkFolder]:
    """A folder beside ``out`` to work in; its ``product`` becomes ``out`` when the block ends well.

    Its name depends on ``out`` alone, so that the next run finds what this one leaves if it is killed. If the block
    fails, the folder vanishes unless ``keep`` was set.

    Args:
        out: the folder to make; it must not exist, or be empty.
        fresh: discard what an earlier run left.

    Raises:
        OutputExistsError: if ``out`` is there already, or another process works on it.
        OutputError: if the folder cannot be made or moved into place.
    """
    check_free(out)
    with contextlib.ExitStack() as stack:
        try:
            out = Path(os.path.realpath(out))  # a link to an empty folder: the folder itself is replaced
            out.parent.mkdir(parents=True, exist_ok=True)
            work = WorkFolder(out.parent / _work_name(out.name), out)
            _lock(stack, work, out)
            check_free(out)  # another run may have finished it meanwhile
            for folder in (work.product, work.scratch, *([work.rows] if fresh else [])):
                shutil.rmtree(folder, ignore_errors=True)
            work.product.mkdir()
            work.scratch.mkdir()
        except (OSError, ValueError) as error:
            raise _cannot_be_made(out, error) from error
        try:
            yield work
            _sweep(work.product)
            try:
                os.replace(work.product, out)
            except OSError as error:
                raise OutputError(f"the finished product cannot be moved to {out} ({error.strerror})") from error
        except BaseException:
            for folder in (work.product, work.scratch) if work.keep else (work.path,):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(work.path, ignore_errors=True)


def _work_name(name: str) -> str:
    return f".{name[:_NAME_CHARS]}.{hashlib.sha256(name.encode()).hexdigest()[:8]}.partial"


def _lock(stack: contextlib.ExitStack, work: WorkFolder, out: Path) -> None:
    """Hold the folder's lock until the stack closes; the system lets go of it if the process is killed.

    A run that ends removes the folder with its lock, so a lock counts only if it is still the one in the folder.
    """
    for _ in range(LOCK_ATTEMPTS):
        work.path.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            file = stack.enter_context((work.path / LOCK).open("w"))
            if not take_lock(file):
                break
            if os.path.samestat(os.fstat(file.fileno()), (work.path / LOCK).stat()):
                return
    raise OutputExistsError(
        f"another process is making {out} at this moment; wait for it, or give another output folder"
    )


def _remove_leftover(out: Path) -> None:
    """Remove what a run left that was killed after its product was in place."""
    out = Path(os.path.realpath(out))
    work = out.parent / _work_name(out.name)
    with contextlib.suppress(OSError), (work / LOCK).open() as file:
        if take_lock(file) and not (work / PRODUCT).exists():
            shutil.rmtree(work, ignore_errors=True)


def check_free(out: Path) -> None:
    """Raise OutputExistsError if ``out`` is a file, or a folder that holds something; OutputError if it cannot be."""
    if not is_utf8(str(out)):
        raise InputError(f"{str(out)!r} is no UTF-8 name, which GDAL needs; give another name")
    try:
        if "\0" in str(out):
            raise ValueError("embedded null byte in its name")
        if out.is_dir() and not any(out.iterdir()):
            return
        taken = os.path.lexists(out)
        above = next((folder for folder in out.absolute().parents if os.path.lexists(folder)), out)  # / has none
        if not taken and not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is no folder")
    except (OSError, ValueError) as error:
        raise _cannot_be_made(out, error) from error
    if taken:
        _remove_leftover(out)
        raise OutputExistsError(f"{out} is there already; nothing was overwritten. Remove it or give another name")


def unfinished_rows(out: Path) -> Path | None:
    """The journal of an unfinished run that was to make ``out``; None if there is none."""
    out = Path(os.path.realpath(out))
    rows = out.parent / _work_name(out.name) / ROWS
    return rows if rows.is_dir() else None


def _sweep(product: Path) -> None:
    """Remove what writers left in a finished product: nothing temporary gets a name that people see.

    Raises:
        OutputError: if it cannot be removed.
    """
    try:
        for path in sorted(product.glob(".*")):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise OutputError(
            f"{product} holds temporary files that cannot be removed ({_reason(error)}); make room, then run the same "
            "command again"
        ) from error


def _cannot_be_made(out: Path, error: OSError | ValueError) -> InputError | OutputError:
    """The error for a folder that cannot be made: the user's where its name is impossible, else one of writing."""
    impossible = isinstance(error, ValueError) or error.errno in _IMPOSSIBLE
    kind = InputError if impossible else OutputError
    return kind(f"{out} cannot be made ({_reason(error)}); give a folder that you may write to")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
