"""Tests mirror the source: each file of a room's tests is named for a module of that room."""

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "terradelta"
ELSEWHERE = {"benchmarks", "fuzz", "integrations"}
"""Folders of tests that belong to no room."""
SAME = {"__init__", "page", "mccrnet", "mlla_sianet"}
"""File names that may stand more than once: every room has a page, and a network its recipe."""


def _modules(folder: Path) -> set[str]:
    """What tests of a folder may be named for: its modules, and the package itself."""
    return {path.stem.strip("_") for path in folder.glob("*.py")} | {folder.name}


def test_every_file_of_tests_is_named_for_a_module() -> None:
    for path in sorted(TESTS.rglob("test_*.py")):
        room = path.parent.relative_to(TESTS)
        if room == Path(".") or room.parts[0] in ELSEWHERE:
            continue
        name = path.stem.removeprefix("test_")
        names = _modules(SOURCE / room)
        assert any(name == module or name.startswith(f"{module}_") for module in names), f"{path}: no such module"


def test_a_file_name_stands_once() -> None:
    counts = Counter(path.stem for path in SOURCE.rglob("*.py"))
    assert {name: count for name, count in counts.items() if count > 1 and name not in SAME} == {}
