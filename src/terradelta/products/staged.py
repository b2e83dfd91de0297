"""A product that is made over time in a hidden folder, and put in its place whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from terradelta.errors import OutputError

__all__ = ["StagedWriter"]


class StagedWriter(ABC):
    """What the writers of products share: a context manager that ends in `close`, or, if its block fails, in `discard`.

    Args:
        path: where to write; a file there is replaced.
        failures: what else than OSError failed writing raises here.
        bytes_needed: at most, for the message of a full disk; None if that is not known.
        scratch: where the hidden folder is made, on the file system of ``path``; by default beside ``path``.

    Raises:
        OutputError: if the folder cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        failures: tuple[type[Exception], ...] = (),
        bytes_needed: int | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._path = Path(path)
        self._failures: tuple[type[Exception], ...] = (OSError, *failures)
        self._bytes_needed = bytes_needed
        self._files = contextlib.ExitStack()
        with self._guarded():
            folder = tempfile.TemporaryDirectory(prefix=f".{self._path.name}.", dir=scratch or self._path.parent)
            self._folder = Path(self._files.enter_context(folder))

    @abstractmethod
    def _finish(self) -> Path:
        """Complete the product in the hidden folder and check it; gives its file."""

    def close(self) -> None:
        """Finish the file, check it and put it in place.

        Raises:
            OutputError: if writing or the check failed; nothing is left behind then.
        """
        with self._guarded():
            os.replace(self._finish(), self._path)
        self.discard()

    def discard(self) -> None:
        """Remove everything temporary. What was written is lost unless `close` has finished."""
        # A file that could not be written cannot be flushed either; the first error is the one to report.
        with contextlib.suppress(*self._failures):
            self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """On any error remove what is temporary; tell of failed writing in our words."""
        try:
            yield
        except BaseException as error:
            self.discard()
            if isinstance(error, self._failures):
                raise OutputError(self._failure(error)) from error
            raise

    def _failure(self, error: BaseException) -> str:
        folder = self._path.parent
        try:
            room = f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB are free"
        except OSError:
            room = "the folder cannot be used"
        if self._bytes_needed is not None:
            room += f"; at most {self._bytes_needed / 1e6:,.0f} MB are needed"
        return f"{self._path} was not written ({error}). In {folder} {room}. Make room, or write elsewhere"
