"""Loggers of libraries."""

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(name: str | None, level: int = logging.ERROR) -> Iterator[None]:
    """Keep what a library logs below a level from the user; None is the root logger."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
