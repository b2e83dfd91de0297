"""Judging in a browser: verdicts, drawings, exports, and what becomes of them while the server is away."""

import json
import shlex
import socket
from pathlib import Path
from typing import Any

import pyogrio
import pytest
from typer.main import get_command

from terradelta.cli import app
from terradelta.predict.load import find_checkpoint
from terradelta.review.store import read_review
from terradelta.view.serving import View
from terradelta.view.view_session import ViewOptions

from .in_browser import (
    CORNERS,
    Open,
    Outage,
    browser,
    centre,
    drawn,
    expect,
    judged,
    made,
    needs_browser,
    open_page,
    product,
    until,
)

__all__ = ["browser", "made", "open_page", "product"]

pytestmark = needs_browser


def kept(page: Any) -> list[str]:
    """Names of what the browser keeps of unsent verdicts."""
    return page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('terradelta.unsent'))")


def saved(page: Any) -> None:
    """Wait until the server has all that was said."""
    until(page, lambda: kept(page), lambda names: names == [])


def draw_triangle(page: Any, tool: str) -> None:
    """Draw with a tool on the right of the map's centre, and put it away."""
    x, y = centre(page)
    page.keyboard.press(tool)
    for dx, dy in ((0, 0), (60, 0), (60, 60)):
        page.mouse.click(x + 100 + dx, y + dy)
    page.keyboard.press("Enter")


def test_keys_judge_and_go_on_and_undo(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        for key in ("j", "a", "r", "u"):
            page.keyboard.press(key)
        judged(page, 3)
        expect(page.locator(".row").first.locator(".tag.accept")).to_have_text("accepted")
        page.keyboard.press("z")
        judged(page, 2)
        page.locator("#openOnly").check()
        expect(page.locator(".row")).to_have_count(len(CORNERS) - 2)
        page.reload()
        judged(page, 2)
        saved(page)
    rows = [(row.kind, row.verdict, row.undone is None) for row in read_review(product)]
    assert rows == [("judged", "accept", True), ("judged", "reject", True), ("judged", "unsure", False)]


@pytest.mark.parametrize(("label", "name"), [("GeoPackage", "gpkg"), ("GeoJSON", "geojson")])
def test_a_drawn_change_is_kept_and_exported(product: Path, open_page: Open, label: str, name: str) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        draw_triangle(page, "d")
        drawn(page, 1)
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.keyboard.press("a")
        page.keyboard.press("r")
        judged(page, 2)
        page.reload()
        drawn(page, 1)
        saved(page)
        page.get_by_role("button", name="Export accepted").click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name=label).click()
        assert waiting.value.suggested_filename.endswith(f"fields & roofs-accepted.{name}")
        target = product.parent / f"accepted.{name}"
        waiting.value.save_as(target)
        expect(page.locator("dialog")).to_have_count(0)
    row, accepted, rejected = read_review(product)
    assert (row.kind, row.verdict, accepted.verdict, rejected.verdict) == ("drawn", "accept", "accept", "reject")
    found = pyogrio.read_dataframe(target).to_crs("EPSG:32614")
    assert sorted(found["polygon"].fillna(0)) == [0, accepted.polygon]
    geometry = found.set_index(found["polygon"].fillna(0)).geometry
    assert geometry[0].symmetric_difference(row.geometry).area < 1e-3 * row.geometry.area
    assert geometry[accepted.polygon].symmetric_difference(accepted.geometry).area < 1e-3 * accepted.geometry.area


def test_what_is_drawn_as_unchanged_is_erased_and_can_be_removed(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        draw_triangle(page, "e")
        drawn(page, 1)
        page.keyboard.press("Escape")
        x, y = centre(page)
        page.mouse.click(x + 145, y + 15)
        card = page.locator(".card")
        expect(card.locator("strong")).to_have_text("Drawn as unchanged")
        expect(card.get_by_role("button")).to_have_count(1)  # it has no verdict but this
        judged(page, 0)
        page.reload()
        drawn(page, 1)
        saved(page)
        (row,) = read_review(product)
        assert (row.kind, row.verdict, row.polygon, row.undone) == ("erased", "reject", None, None)
        centre(page)
        page.mouse.click(x + 145, y + 15)
        expect(card.locator("strong")).to_have_text("Drawn as unchanged")
        page.keyboard.press("Delete")
        expect(page.locator(".judged")).to_have_text(f"0 of {len(CORNERS)} judged")
        expect(card).to_be_hidden()
    (row,) = read_review(product)
    assert row.undone is not None


def test_a_region_grows_and_a_polygon_is_split(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        page.keyboard.press("j")
        x, y = centre(page)
        page.keyboard.press("g")
        page.mouse.click(x, y)
        page.get_by_role("button", name="Keep as change").click()
        drawn(page, 1)
        page.keyboard.press("Escape")
        page.keyboard.press("z")
        page.keyboard.press("x")
        for at in (-250, 250):
            page.mouse.click(x + at, y)
        page.keyboard.press("Enter")
        drawn(page, 2)
    grown, *pieces = read_review(product)
    table = pyogrio.read_dataframe(product / "change.gpkg").sort_values("area_m2", ascending=False)
    assert grown.geometry.equals(table.geometry.iloc[0])
    assert grown.undone is not None
    assert sum(piece.geometry.area for piece in pieces) == pytest.approx(table.geometry.iloc[0].area)


def test_the_dialog_shows_a_command_that_trains_on_the_verdicts(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        page.keyboard.press("j")
        page.keyboard.press("a")
        judged(page, 1)
        page.get_by_role("button", name="Try again with what I taught").click()
        expect(page.locator("dialog")).to_contain_text("1 judged polygon and 0 drawings become labels")
        command = page.locator("dialog .command code").inner_text()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == command
    program, name, *arguments = shlex.split(command)
    context = get_command(app).commands[name].make_context(name, arguments)
    assert program == "terradelta"
    assert name == "train"
    assert context.params["review"] == [product]
    assert context.params["run"] == Path("taught")
    assert find_checkpoint(context.params["start"]).is_file()


def test_undo_takes_back_what_was_said_before_it_however_slow_the_server(product: Path, open_page: Open) -> None:
    held: list[Any] = []

    def hold_the_first(route: Any) -> None:
        if route.request.method == "POST" and not held:
            held.append(route)
        else:
            route.continue_()

    with View(product) as view:
        page = open_page(view.url, hold_the_first)
        judged(page, 0)
        for key in "jazr":
            page.keyboard.press(key)
        judged(page, 2)
        until(page, lambda: len(held), lambda count: count == 1)
        held[0].continue_()
        judged(page, 1)
        saved(page)
    assert [(row.verdict, row.undone is None) for row in read_review(product)] == [("accept", False), ("reject", True)]


def test_two_windows_see_one_another(product: Path, open_page: Open) -> None:
    with View(product) as view:
        one, other = open_page(view.url), open_page(view.url)
        judged(one, 0)
        judged(other, 0)
        one.keyboard.press("j")
        one.keyboard.press("a")
        judged(other, 1)


def test_nothing_is_lost_while_the_server_is_away(product: Path, open_page: Open) -> None:
    away = Outage()
    with View(product) as view:
        page = open_page(view.url, away)
        judged(page, 0)
        away.on = True
        page.keyboard.press("j")
        page.keyboard.press("a")
        page.wait_for_selector("text=1 verdict is kept in this browser")
        judged(page, 1)
        assert read_review(product) == []
        away.on = False
        expect(page.locator(".messages")).to_be_empty()
        judged(page, 1)
        saved(page)
        assert [row.verdict for row in read_review(product)] == ["accept"]


def test_two_windows_lose_nothing_while_the_server_is_away(product: Path, open_page: Open) -> None:
    away = Outage()
    with View(product) as view:
        one = open_page(view.url, away)
        other = open_page(view.url, context=one.context)
        judged(one, 0)
        judged(other, 0)
        away.on = True
        for page, keys in ((one, "jar"), (other, "kjjjju")):  # the first two; the fifth
            for key in keys:
                page.keyboard.press(key)
        one.wait_for_selector("text=2 verdicts are kept in this browser")
        other.wait_for_selector("text=1 verdict is kept in this browser")
        assert len(kept(one)) == len(kept(other)) == 3
        away.on = False
        for page in (one, other):
            expect(page.locator(".messages")).to_be_empty()
            judged(page, 3)
        saved(one)
    order = pyogrio.read_dataframe(product / "change.gpkg").sort_values("area_m2", ascending=False)["id"].tolist()
    rows = read_review(product)
    assert sorted((row.polygon, row.verdict) for row in rows) == sorted(
        zip([order[0], order[1], order[4]], ["accept", "reject", "unsure"], strict=True)
    )
    assert [row.verdict for row in rows if row.verdict != "unsure"] == ["accept", "reject"]  # in the order of saying


def test_a_server_that_comes_back_gets_what_open_and_closed_windows_said(product: Path, open_page: Open) -> None:
    lasting = ViewOptions(lasting=True)
    with View(product, lasting) as view:
        one = open_page(view.url)
        other = open_page(view.url, context=one.context)
        judged(one, 0)
        judged(other, 0)
        port = int(view.url.split(":")[2].split("/")[0])
    for page, keys in ((one, "ja"), (other, "jjr")):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_selector("text=1 verdict is kept in this browser")
    other.close()
    with View(product, lasting, port=port):
        expect(one.locator(".messages")).to_be_empty()
        judged(one, 2)
        saved(one)
    assert [row.verdict for row in read_review(product)] == ["accept", "reject"]


def test_a_page_that_is_opened_later_sends_what_earlier_ones_could_not(product: Path, open_page: Open) -> None:
    with View(product) as view:
        one = open_page(view.url)
        judged(one, 0)
        port = int(view.url.split(":")[2].split("/")[0])
    one.keyboard.press("j")
    one.keyboard.press("a")
    one.wait_for_selector("text=1 verdict is kept in this browser")
    with View(product, port=port) as view:  # with another token
        other = open_page(view.url, context=one.context)
        judged(other, 1)
        expect(one.locator(".messages")).not_to_contain_text("kept in this browser")
        saved(one)
        assert [row.verdict for row in read_review(product)] == ["accept"]


def test_verdicts_on_an_earlier_map_are_not_given_on_its_successor(product: Path, open_page: Open) -> None:
    with View(product) as view:
        one = open_page(view.url)
        judged(one, 0)
        port = int(view.url.split(":")[2].split("/")[0])
    one.keyboard.press("j")
    one.keyboard.press("a")
    one.wait_for_selector("text=1 verdict is kept in this browser")
    receipt = json.loads((product / "receipt.json").read_text())
    (product / "receipt.json").write_text(json.dumps({**receipt, "created": "2031-01-01T00:00:00+00:00"}))
    with View(product, port=port) as view:
        other = open_page(view.url, context=one.context)
        judged(other, 0)
        assert len(kept(one)) == 1
    assert read_review(product) == []


def test_what_is_refused_keeps_back_nothing_else(product: Path, open_page: Open) -> None:
    def refuse(route: Any) -> None:
        if '"verdict":"reject"' in (route.request.post_data or ""):
            route.fulfill(status=422, json={"error": "this one is refused"})
        else:
            route.continue_()

    with View(product) as view:
        page = open_page(view.url, refuse)
        judged(page, 0)
        for key in "jra":
            page.keyboard.press(key)
        expect(page.locator(".messages")).to_contain_text("This one is refused. 2 verdicts are kept in this browser")
        judged(page, 2)
        page.get_by_role("button", name="Discard").click()
        expect(page.locator(".messages")).to_be_empty()
        judged(page, 1)
        saved(page)
        assert [row.verdict for row in read_review(product)] == ["accept"]


def test_a_request_that_is_never_answered_holds_up_none_that_come_later(
    product: Path, browser: Any, open_page: Open
) -> None:
    held: list[Any] = []

    def hold_the_second(route: Any) -> None:
        held.append(route)
        if len(held) != 2:
            route.continue_()

    context = browser.new_context()
    context.clock.install()
    with View(product) as view:
        page = open_page(view.url, hold_the_second, context)
        judged(page, 0)
        until(page, lambda: len(held), lambda count: count == 2)
        page.clock.fast_forward(61_000)
        expect(page.locator(".messages")).to_be_empty()
        page.keyboard.press("j")
        page.keyboard.press("a")
        judged(page, 1)
        until(page, lambda: len(held), lambda count: count > 4)
        expect(page.locator(".messages")).to_be_empty()
        context.close()


def test_a_page_from_another_machine_judges_too(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url.replace("127.0.0.1", socket.gethostname()))
        assert not page.evaluate("isSecureContext")  # so that the browser keeps some functions back
        judged(page, 0)
        page.keyboard.press("j")
        page.keyboard.press("a")
        expect(page.locator(".row").first.locator(".tag.accept")).to_have_text("accepted")
        page.reload()
        judged(page, 1)
        saved(page)
    assert [row.verdict for row in read_review(product)] == ["accept"]
