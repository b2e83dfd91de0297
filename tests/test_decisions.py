"""Decisions have numbers of their own, say when and why, and are found from DESIGN.md."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*"))


def test_numbers_are_given_once():
    names = [re.fullmatch(r"(\d{3})-[a-z0-9-]+\.md", path.name) for path in DECISIONS]
    assert names
    assert all(names), [path.name for path, name in zip(DECISIONS, names, strict=True) if name is None]
    assert [number for number, count in Counter(name[1] for name in names if name).items() if count > 1] == []


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_a_title_a_date_and_a_status(path):
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# \S", text)
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", text)
    assert re.search(r"\bstatus\b", text, re.IGNORECASE)


def test_every_decision_is_linked_and_every_link_leads_to_one():
    linked = re.findall(r"\]\((docs/decisions/[^)]+)\)", (ROOT / "DESIGN.md").read_text(encoding="utf-8"))
    assert sorted(linked) == [path.relative_to(ROOT).as_posix() for path in DECISIONS]
