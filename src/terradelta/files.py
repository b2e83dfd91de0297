"""Files that appear whole or not at all: written beside their place under another name, then renamed."""

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from terradelta.errors import OutputError
from terradelta.strangers import read_json

__all__ = ["cannot_write", "hidden_file", "settle", "sha256_of", "take_lock", "unfinished", "whole_file", "write_whole"]

ADVICE = "give a place that can be, or make room there"
_NAME_CHARS = 40
"""Of the file's name in the temporary one: that must not be too long where the file's own is not."""
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.part(\.\w+)?")


@contextlib.contextmanager
def hidden_file(path: Path, *, keep_suffix: bool = False, durable: bool = False) -> Iterator[Path]:
    """Give the name of a hidden file to write; when the block ends well, it is renamed to ``path``.

    If the block fails, the hidden file vanishes and what was under ``path`` is untouched. No other process gets the
    same hidden name, not even one on another machine.

    Args:
        path: the file to write; replaced if it exists.
        keep_suffix: let the hidden name end as ``path`` does, for libraries that go by it. Otherwise it ends in
            ``.part``, so that nothing that looks for files of a kind finds it.
        durable: have the content on the disk before it gets its name, so that not even a power cut leaves half of it.
    """
    temporary = path.with_name(f".{path.name[:_NAME_CHARS]}.{uuid.uuid4().hex}.part{path.suffix * keep_suffix}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it must not hide the error that is on its way
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(
    path: Path,
    *,
    advice: str = ADVICE,
    failures: tuple[type[Exception], ...] = (),
    make_folder: bool = False,
    keep_suffix: bool = False,
    durable: bool = False,
) -> Iterator[Path]:
    """Give the name of a hidden file to write; when the block ends well, it is renamed to ``path``.

    As `hidden_file`, but every OSError of the block is told as one of writing: put nothing else into it.

    Args:
        path: the file to write; replaced if it exists.
        advice: what to do if it cannot be written; ends the message.
        failures: what else than OSError a failed writer raises, such as the errors of GDAL.
        make_folder: make the folders above ``path``.
        keep_suffix: as for `hidden_file`.
        durable: as for `hidden_file`.

    Raises:
        OutputError: if it cannot be written.
    """
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        with hidden_file(path, keep_suffix=keep_suffix, durable=durable) as temporary:
            yield temporary
    except Exception as error:
        if isinstance(error, (OSError, *failures)):
            raise cannot_write(path, error, advice) from error
        raise


def write_whole(
    path: Path, content: str | bytes, *, advice: str = ADVICE, make_folder: bool = False, durable: bool = False
) -> None:
    """Write text, as UTF-8 and with line ends as they are, or bytes by `whole_file`, which see.

    Raises:
        OutputError: if it cannot be written.
    """
    with whole_file(path, advice=advice, make_folder=make_folder, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def take_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed, unless another process has; False if so. The lock goes with the process."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the second is what Windows says
        return False
    return True


def settle(
    path: Path, content: Mapping[str, Any], refusal: Callable[[Sequence[str]], Exception], *, advice: str = ADVICE
) -> None:
    """Say in a folder what its work depends on: written the first time, compared from then on.

    Args:
        path: the file, JSON; folders above it are made.
        content: JSON-ready values by name.
        refusal: gives the error to raise from the names of what differs.
        advice: as for `whole_file`.

    Raises:
        OutputError: if it cannot be written, or what is there is damaged.
    """
    text = json.dumps(content, sort_keys=True, indent=1)
    if not path.is_file():
        write_whole(path, text, advice=advice, make_folder=True)
        return
    try:
        then, now = dict(read_json(path.read_bytes(), ours=True)), read_json(text, ours=True)
    except (ValueError, TypeError) as error:
        raise OutputError(f"{path} is damaged ({error}); remove the folder that it is in, or name another") from error
    differing = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    if differing:
        raise refusal(differing)


def unfinished(folder: Path, *, below: bool = False) -> list[Path]:
    """What `whole_file` left in a folder, or anywhere below it, when its process was killed; sorted."""
    found = folder.rglob(".*") if below else folder.glob(".*")
    return sorted(path for path in found if _TEMPORARY.fullmatch(path.name) and path.is_file())


def cannot_write(path: Path, error: Exception, advice: str = ADVICE) -> OutputError:
    """The error for a file that cannot be written: its name and the cause, not the hidden name; then the advice."""
    reason = (isinstance(error, OSError) and error.strerror) or error
    return OutputError(f"{path} cannot be written ({reason}); {advice}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
