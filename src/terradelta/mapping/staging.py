"""A product folder that appears whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from terradelta.errors import OutputError, OutputExistsError

__all__ = ["staged_folder"]


@contextlib.contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` to work in; it becomes ``out`` when the block ends well and vanishes otherwise.

    Args:
        out: the folder to make; it must not exist, or be empty.

    Raises:
        OutputExistsError: if ``out`` is there already.
        OutputError: if the folder cannot be made or moved into place.
    """
    out = out.absolute()
    check_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise OutputError(f"{out} cannot be made ({error.strerror}); give a folder that you may write to") from error
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
    """Raise OutputExistsError if ``out`` is a file, or a folder that holds something."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise OutputExistsError(f"{out} is there already; nothing was overwritten. Remove it or give another name")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
