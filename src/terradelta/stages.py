"""Seconds that each stage of a run was busy; stages overlap, so their sum may exceed the wall clock."""

import contextlib
import threading
import time
from collections.abc import Iterator

__all__ = ["StageClock"]


class StageClock:
    """Busy seconds by stage, counted from any thread."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - begin

    def seconds(self) -> dict[str, float]:
        """Busy seconds of every stage in the order of first use, and ``total``: the wall clock so far."""
        with self._lock:
            return {**self._seconds, "total": time.perf_counter() - self._started}
