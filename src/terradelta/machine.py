"""What a measurement was made on, and how the C library is told what to keep of freed memory."""

import contextlib
import ctypes
import os
import platform
from importlib.metadata import version
from pathlib import Path

__all__ = [
    "ARENA_MAX",
    "CPUINFO",
    "MMAP_MAX",
    "MMAP_THRESHOLD",
    "TRIM_THRESHOLD",
    "cores",
    "cpu_flags",
    "cpu_name",
    "describe_machine",
    "set_malloc",
    "total_memory",
]

GIB = 2**30
CPUINFO = Path("/proc/cpuinfo")
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
"""Parameters of glibc's mallopt."""


def describe_machine() -> str:
    """CPU, cores, memory and versions in one line, for the notes of a table."""
    memory = total_memory()
    size = "" if memory is None else f", {memory / GIB:.0f} GiB of memory"
    return f"{cpu_name()}, {cores()} cores{size}, torch {version('torch')}, Python {platform.python_version()}"


def cpu_name() -> str:
    """The CPU's name as the system tells it."""
    lines = _read(CPUINFO).splitlines()
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return " ".join((named or platform.processor() or platform.machine() or "unknown CPU").split())


def cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str] | None:
    """Names of the instructions that the CPU has, as Linux tells them; None where the system does not tell."""
    lines = _read(cpuinfo).splitlines()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), None)
    return None if flags is None else frozenset(flags)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_memory() -> int | None:
    """Bytes of memory of the machine; None where the system does not tell."""
    return _memory("MemTotal") or _sysconf("SC_PHYS_PAGES")


def set_malloc(parameter: int, value: int) -> None:
    """Set a parameter of the C library's malloc for the whole process; does nothing where it is not glibc's."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(parameter, value)


def _memory(name: str) -> int | None:
    """A line of /proc/meminfo, in bytes."""
    for line in _read(Path("/proc/meminfo")).splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            return int(rest.split()[0]) * 1024
    return None


def _sysconf(pages: str) -> int | None:
    if pages not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
