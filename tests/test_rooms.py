"""The picture of the rooms says what the imports say."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import grimp
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "draw_rooms"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("draw_rooms", str(SCRIPT))
    spec = importlib.util.spec_from_loader("draw_rooms", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["draw_rooms"] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


@pytest.fixture
def graph() -> grimp.ImportGraph:
    """a, b and c are packages of one file, in this order from the top; d is a file that all may use."""
    graph = grimp.ImportGraph()
    for name in ("terradelta", "terradelta.d", *(f"terradelta.{room}{file}" for room in "abc" for file in ("", ".x"))):
        graph.add_module(name)
    for one, other in ("ab", "bc", "ac", "ad", "cd"):
        target = f"terradelta.{other}" if other == "d" else f"terradelta.{other}.x"
        graph.add_import(importer=f"terradelta.{one}.x", imported=target)
    return graph


@pytest.fixture
def rows(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    rows = [["a"], ["b"], ["c"], ["d"]]
    monkeypatch.setattr(script, "layers", lambda container: rows if container == "terradelta" else [])
    return rows


def names(rooms: list) -> list[str]:
    return [room.name for room in rooms]


def test_arrows_that_follow_from_others_are_left_out(script, graph, rows) -> None:
    a, b, c, files = script.rooms_of(graph)
    assert names([a, b, c, files]) == ["a", "b", "c", "files that everything may use"]
    assert [names(room.down) for room in (a, b, c)] == [["b"], ["c"], []]  # a uses c through b
    assert [names(room.up) for room in (a, b, c)] == [[], [], []]
    assert (a.lines, files.lines) == (["x"], ["d"])


def test_an_import_upwards_is_a_door(script, graph, rows) -> None:
    graph.add_import(importer="terradelta.c.x", imported="terradelta.a.x")
    rooms = script.rooms_of(graph)
    assert [names(room.up) for room in rooms] == [[], [], ["a"], []]
    script.place(rooms)
    drawn = list(script.arrows(rooms))
    assert [("dasharray" in arrow) for arrow in drawn] == [False, False, True]


def test_boxes_do_not_overlap_and_lie_in_the_picture(script, graph, rows) -> None:
    rows[1:3] = [["b", "c"]]
    rooms = script.rooms_of(graph)
    height = script.place(rooms)
    for number, room in enumerate(rooms):
        assert 0 <= room.x <= script.WIDTH - room.width
        assert 0 <= room.y <= height - room.height
        for other in rooms[:number]:
            apart_x = room.x >= other.x + other.width or other.x >= room.x + room.width
            assert apart_x or room.y >= other.y + other.height or other.y >= room.y + room.height


def test_a_room_without_a_layer_is_refused(script, graph, rows) -> None:
    rows.remove(["b"])
    with pytest.raises(SystemExit, match=r"no layer holds b; add them to the contract in pyproject\.toml"):
        script.rooms_of(graph)


def test_check_compares_and_writes_nothing(script, monkeypatch, tmp_path) -> None:
    picture = tmp_path / "rooms.svg"
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "PICTURE", picture)
    monkeypatch.setattr(script, "draw", lambda: "<svg/>")
    monkeypatch.setattr(sys, "argv", ["draw_rooms", "--check"])
    with pytest.raises(SystemExit, match=r"rooms\.svg is not what the imports say; run scripts/draw_rooms"):
        script.main()
    assert not picture.exists()
    monkeypatch.setattr(sys, "argv", ["draw_rooms"])
    script.main()
    monkeypatch.setattr(sys, "argv", ["draw_rooms", "--check"])
    script.main()
    picture.write_text("<svg></svg>")
    with pytest.raises(SystemExit):
        script.main()
