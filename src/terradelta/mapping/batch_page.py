"""The index of many maps: a picture and a number for each pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import terradelta
from terradelta.html.page import render

__all__ = ["MOST_SHOWN", "PairCard", "batch_page"]

MOST_SHOWN = 2000
"""Pairs that the page shows."""


@dataclass(frozen=True)
class PairCard:
    """One pair."""

    name: str
    report: str
    """Its report, a path beside the page; empty: it failed."""
    thumbnail: str
    """Its picture."""
    said: str
    """Its answer, or why it failed."""


def batch_page(cards: Sequence[PairCard], pairs: int, failed: int) -> str:
    """The page.

    Args:
        cards: of the first pairs.
        pairs: in all.
        failed: of these.
    """
    return render("mapping/index.html.j2", cards=cards, pairs=pairs, failed=failed, version=terradelta.__version__)
