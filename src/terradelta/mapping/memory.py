"""The C library's memory: buffers of tiles come and go by the hundred megabytes, and glibc keeps much of them."""

import contextlib
import ctypes
import sys

from terradelta.machine import ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD, set_malloc

__all__ = ["keep_little", "trim"]

_KEPT_BYTES, _LARGE_BYTES = 32 << 20, 32 << 20
_TABLES = ("geopandas", "pandas", "pyarrow")
"""What pyogrio imports where it is installed, for functions that a map does not call."""


def keep_little() -> None:
    """Let this process keep little of freed memory; for programs, since it holds for all that the process does.

    One arena serves all threads, and blocks of 32 MiB or more go back to the system at once. Of smaller ones up to 32
    MiB are kept. With blocks of 8 MiB the pages of each tile were fetched anew, in int8 at 4,096 x 4,096 pixels 196,000
    in place of 126,000 times, and with 8 MiB kept 434,000 times, for 0.7 s of 16. Does nothing of this where the C
    library is not glibc.

    pyogrio comes without its functions on data frames, whose libraries take 66 MB.
    """
    set_malloc(ARENA_MAX, 1)
    set_malloc(MMAP_THRESHOLD, _LARGE_BYTES)
    set_malloc(TRIM_THRESHOLD, _KEPT_BYTES)
    unwanted = [name for name in _TABLES if name not in sys.modules]
    sys.modules.update(dict.fromkeys(unwanted))  # type: ignore[arg-type]  # None: importing it fails
    try:
        import pyogrio  # noqa: F401
    finally:
        for name in unwanted:
            del sys.modules[name]


def trim() -> None:
    """Give back what the C library keeps of freed memory: after the tiles of the default network 150 MB.

    Does nothing where the C library is not glibc.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
