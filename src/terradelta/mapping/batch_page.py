"""The index of many maps: a picture and a number for each pair."""

from collections.abc import Sequence
from urllib.parse import quote

import terradelta
from terradelta.html.page import page, section
from terradelta.html.text import count, text

__all__ = ["MOST_SHOWN", "batch_page", "card"]

MOST_SHOWN = 2000
"""Pairs that the page shows."""


def card(name: str, report: str, thumbnail: str, said: str) -> str:
    """One pair.

    Args:
        name: of the pair.
        report: its report, a path beside the page; empty: it failed.
        thumbnail: its picture.
        said: its answer, or why it failed.
    """
    if not report:
        return f'<div class="pair-card failed"><h3>{text(name)}</h3><p>failed: {text(said)}</p></div>'
    picture = f'<img loading="lazy" alt="Where it changed, over the later image" src="{quote(thumbnail)}">'
    return f'<a class="pair-card" href="{quote(report)}">{picture}<h3>{text(name)}</h3><p>{text(said)}</p></a>'


def batch_page(cards: Sequence[str], pairs: int, failed: int) -> str:
    """The page.

    Args:
        cards: of the first pairs, from `card`.
        pairs: in all.
        failed: of these.
    """
    rest = f" The first {len(cards):,} are shown." if len(cards) < pairs else ""
    lead = f"{count(failed, 'pair')} of {pairs:,} failed.{rest} All are in summary.csv."
    body = section("pairs", "Pairs", f'<div class="pair-cards">{"".join(cards)}</div>')
    made_by = f"Made by terradelta {text(terradelta.__version__)}."
    return page("Change maps", count(pairs, "pair"), [body], made_by, lead=lead, styles=("pairs.css",))
