"""A product folder that appears whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from terradelta.errors import OutputError, OutputExistsError
from terradelta.geo.source import is_utf8

__all__ = ["check_free", "staged_folder"]

_NAME_CHARS = 40
"""Of the product's name in the temporary one: that must not be too long where the product's own is not."""


@contextlib.contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` to work in; it becomes ``out`` when the block ends well and vanishes otherwise.

    Args:
        out: the folder to make; it must not exist, or be empty.

    Raises:
        OutputExistsError: if ``out`` is there already.
        OutputError: if the folder cannot be made or moved into place.
    """
    check_free(out)
    try:
        out = Path(os.path.realpath(out))  # a link to an empty folder: the folder itself is replaced
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name[:_NAME_CHARS]}.", suffix=".partial", dir=out.parent))
    except (OSError, ValueError) as error:
        raise OutputError(f"{out} cannot be made ({_reason(error)}); give a folder that you may write to") from error
    try:
        yield work
        try:
            work.chmod(0o777 & ~_umask())
            os.replace(work, out)
        except OSError as error:
            raise OutputError(f"the finished product cannot be moved to {out} ({error.strerror})") from error
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def check_free(out: Path) -> None:
    """Raise OutputExistsError if ``out`` is a file, or a folder that holds something; OutputError if it cannot be."""
    if not is_utf8(str(out)):
        raise OutputError(f"{str(out)!r} is no UTF-8 name, which GDAL needs; give another name")
    try:
        if out.is_dir() and not any(out.iterdir()):
            return
        taken = os.path.lexists(out)
    except (OSError, ValueError) as error:
        raise OutputError(f"{out} cannot be made ({_reason(error)}); give a folder that you may write to") from error
    if taken:
        raise OutputExistsError(f"{out} is there already; nothing was overwritten. Remove it or give another name")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
