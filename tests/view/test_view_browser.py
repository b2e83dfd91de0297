"""The page in a browser: what it shows, how the dates are compared, labelling."""

import http.server
import re
import shlex
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import skimage.io

from terradelta.area.measure import draw
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method
from terradelta.review.store import read_review
from terradelta.view.serving import View
from terradelta.view.view_session import ViewOptions

from .in_browser import (
    CORNERS,
    Open,
    Outage,
    at_rest,
    browser,
    expect,
    judged,
    made,
    needs_browser,
    open_page,
    painted,
    product,
    until,
    write_images,
)

__all__ = ["browser", "made", "open_page", "product"]

pytestmark = needs_browser
NOT_JUDGED = np.array([255, 217, 46])
DOT_PX = 25
ALL_CHIPS = """() => { const chips = [...document.querySelectorAll(".chip")];
  return chips.length > 0 && chips.every((chip) => chip.complete && chip.naturalWidth === 192); }"""


def test_the_first_screen_answers_and_text_stays_text(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        assert page.inner_text("h1").startswith("Changed: ")
        assert "cva" in page.inner_text(".answer")
        assert page.inner_text(".top .name") == product.name
        assert page.inner_text(".judged") == f"0 of {len(CORNERS)} judged"
        expect(page.locator(".scale")).to_have_text(re.compile(r"^\d+ m$"))
        expect(page.locator(".place")).to_have_text(re.compile(r"\(EPSG:32614\) · 46\.\d{5}° N, 97\.\d{5}° W"))
        expect(page.locator(".row")).to_have_count(len(CORNERS))
        page.locator(".list").evaluate("(list) => list.scrollTo(0, list.scrollHeight)")
        page.wait_for_function(ALL_CHIPS)


def test_swipe_blink_and_side_by_side(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        handle = page.get_by_role("slider", name="Swipe between the dates")
        expect(handle).to_have_attribute("aria-valuenow", "50")
        handle.focus()
        page.keyboard.press("ArrowLeft")
        expect(handle).to_have_attribute("aria-valuenow", "45")
        box = handle.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2 + 200, box["y"] + 200)
        page.mouse.up()
        expect(handle).to_have_attribute("aria-valuenow", re.compile(r"^(6[1-9]|7\d)$"))
        cut = int(handle.get_attribute("aria-valuenow"))
        before, after = page.locator(".pane.left .before-layer"), page.locator(".pane.left .after-layer")
        expect(after).to_have_css("clip-path", re.compile(rf"inset\(0px 0px 0px ({cut - 1}|{cut})\b"))
        page.keyboard.press("b")
        expect(after).to_have_css("visibility", "hidden")
        page.keyboard.press("b")
        expect(before).to_have_css("visibility", "hidden")
        page.keyboard.press("t")
        expect(page.locator(".pane.right .after-layer")).to_be_visible()
        expect(page.locator(".badge:visible")).to_have_text(["Before · before.tif", "After · after.tif"])


def test_the_threshold_repaints_without_asking_the_server(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(f"{view.url}#opacity=1&outlines=0")
        before = until(page, lambda: painted(page), lambda count: count > 0)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.locator("#threshold").fill("0")
        until(page, lambda: painted(page), lambda count: count > 5 * before)
        page.locator("#threshold").fill("0.5")
        until(page, lambda: painted(page), lambda count: count == before)
        page.keyboard.press("c")
        until(page, lambda: painted(page), lambda count: count == 0)
        assert not [url for url in asked if "/tiles/" in url]


def test_the_list_sorts_and_filters(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        table = pyogrio.read_dataframe(product / "change.gpkg", read_geometry=False)
        listed, largest_first = page.locator(".facts .number"), table.sort_values("area_m2", ascending=False)["id"]
        expect(listed).to_have_text([f"no. {number}" for number in largest_first])
        page.get_by_label("Largest first; turn round").click()
        expect(listed).to_have_text([f"no. {number}" for number in largest_first[::-1]])
        page.locator("#minArea").fill("99")
        kept = table[table["area_m2"] >= float(page.locator("output[for=minArea]").inner_text().removesuffix(" m²"))]
        expect(page.locator(".row")).to_have_count(len(kept))
        assert len(kept) < len(CORNERS)


def test_a_link_leads_back_to_the_same_sight(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        page.locator("#threshold").fill("0.7")
        page.keyboard.press("j")
        page.keyboard.press("t")
        page.wait_for_url(re.compile(r"mode=side.*threshold=0\.7.*polygon=\d"))
        again = open_page(page.url)
        judged(again, 0)
        expect(again.locator(".card")).to_be_visible()
        assert again.locator("#threshold").input_value() == "0.7"
        expect(again.get_by_role("button", name="Side by side")).to_have_attribute("aria-pressed", "true")
        until(again, lambda: again.url, lambda url: url == page.url)


def test_samples_are_labelled_without_the_answer(product: Path, open_page: Open) -> None:
    samples = product.parent / "samples.gpkg"
    draw(product, 8, samples)
    with View(product, ViewOptions(task=samples)) as view:
        page = open_page(view.url)
        page.wait_for_selector("text=0 of 8 samples labelled")
        assert page.locator(".listing, .layers").count() == 0
        assert "hanged: " not in page.inner_text(".panel")
        for i in range(8):
            page.wait_for_selector(f"text={i} of 8 samples labelled")
            page.keyboard.press("10"[i % 2])
        expect(page.locator(".interval")).to_contain_text("95 %")
    labels = pyogrio.read_dataframe(samples, read_geometry=False)["label"].tolist()
    assert sorted(labels) == [0] * 4 + [1] * 4


def test_images_without_a_place_on_a_phone_in_the_dark(tmp_path: Path, open_page: Open) -> None:
    images = write_images(tmp_path)
    plain = [path.with_suffix(".png") for path in images]
    for image, path in zip(images, plain, strict=True):
        with rasterio.open(image) as file:
            skimage.io.imsave(path, np.moveaxis(file.read(), 0, -1), check_contrast=False)
    out = tmp_path / "plain"
    map_change(*plain, out, load_method("cva"), MapOptions())
    with View(out) as view:
        page = open_page(view.url, color_scheme="dark")
        judged(page, 0)
        expect(page.locator(".scale")).to_have_text(re.compile(" px$"))
        expect(page.locator(".place")).to_have_text("Centre: column 128, row 128")
        expect(page.locator(".north")).to_be_hidden()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_function("() => innerWidth === 390 && document.documentElement.scrollWidth === 390")


def test_images_that_were_moved_are_asked_for_and_shown_again(product: Path, made: Path, open_page: Open) -> None:
    moved = {}
    for name in ("before", "after"):
        moved[name] = str(product.parent / f"{name}_moved.tif")
        (made.parent / f"{name}.tif").rename(moved[name])
    try:
        with View(product) as view:
            page = open_page(f"{view.url}#opacity=1")
            expect(page.locator(".problem")).to_have_count(2)
            for name, problem in zip(moved, page.locator(".problem").all_inner_texts(), strict=True):
                assert str(made.parent / f"{name}.tif") in problem
                assert problem.endswith(f"Start it again with --{name} FILE, where the image lies now.")
            expect(page.locator(".badge:visible")).to_have_text(["Before cannot be shown", "After cannot be shown"])
            expect(page.locator(".pane.left .before-layer, .pane.left .after-layer")).to_have_count(0)
            until(page, lambda: painted(page), lambda count: count > 0)
            judged(page, 0)
            page.keyboard.press("j")  # what was found can be judged all the same
            page.keyboard.press("a")
            judged(page, 1)
        with View(product, ViewOptions(**moved)) as view:
            page = open_page(view.url)
            judged(page, 1)
            expect(page.locator(".problem")).to_have_count(0)
            expect(page.locator(".badge:visible")).to_have_text(
                ["Before · before_moved.tif", "After · after_moved.tif"]
            )
            page.wait_for_function(ALL_CHIPS)
    finally:
        for name, path in moved.items():
            Path(path).rename(made.parent / f"{name}.tif")


def test_an_image_that_is_gone_leaves_the_other_one(product: Path, made: Path, open_page: Open) -> None:
    after = made.parent / "after.tif"
    kept = after.rename(product.parent / "kept.tif")
    try:
        with View(product) as view:
            page = open_page(view.url)
            expect(page.locator(".problem")).to_have_text(re.compile(r"--after FILE, where the image lies now\.$"))
            expect(page.locator(".badge:visible")).to_have_text(["Before · before.tif", "After cannot be shown"])
            expect(page.locator(".pane.left .before-layer")).to_be_visible()
            page.locator(".list").evaluate("(list) => list.scrollTo(0, list.scrollHeight)")
            expect(page.locator(".chip.missing")).to_have_count(len(CORNERS))
    finally:
        kept.rename(after)


def test_another_image_in_the_place_of_one_is_told(product: Path, made: Path, open_page: Open) -> None:
    with View(product, ViewOptions(after=str(made.parent / "before.tif"))) as view:
        page = open_page(view.url)
        expect(page.locator(".problem")).to_contain_text("is not the file that was mapped")
        judged(page, 0)


def test_outlines_of_a_view_that_was_left_replace_no_others(product: Path, browser: Any, open_page: Open) -> None:
    held: list[Any] = []
    near: list[bool] = []

    def hold_the_first_of_near(route: Any) -> None:
        if near and not held:
            held.append(route)
        else:
            route.continue_()

    context = browser.new_context(viewport={"width": 1000, "height": 640})
    context.route("**/api/polygons/geojson**", hold_the_first_of_near)
    with View(product) as view:
        page = open_page(f"{view.url}#change=0", context=context)
        judged(page, 0)
        whole = until(page, lambda: painted(page, NOT_JUDGED), lambda count: count > len(CORNERS) * DOT_PX)
        near.append(True)
        page.keyboard.press("j")  # so near that finer outlines are asked for
        until(page, lambda: len(held), lambda count: count == 1)
        page.keyboard.press("Escape")
        page.keyboard.press("f")
        page.wait_for_url(lambda url: "polygon=" not in url)
        until(page, lambda: painted(page, NOT_JUDGED), lambda count: count == whole)
        with page.expect_response("**/api/polygons/geojson**"):
            held[0].continue_()
        page.keyboard.press("o")
        until(page, lambda: painted(page, NOT_JUDGED), lambda count: count == 0)
        page.keyboard.press("o")
        until(page, lambda: painted(page, NOT_JUDGED), lambda count: count == whole)
        context.close()


def test_a_product_without_polygons_says_so_once(product: Path, open_page: Open) -> None:
    (product / "change.gpkg").unlink()
    with View(product) as view:
        page = open_page(view.url)
        expect(page.locator(".problem")).to_have_text("The file change.gpkg is missing. Map the pair again.")
        expect(page.locator(".empty")).to_have_text("Without change.gpkg nothing can be listed or judged.")
        at_rest(page)
        expect(page.locator(".messages")).to_be_empty()


def tiles_fail(browser: Any) -> tuple[Any, Outage]:
    """A context in which no tile comes while the outage is on."""
    outage, context = Outage(), browser.new_context(viewport={"width": 1000, "height": 640})
    outage.on = True
    context.route("**/tiles/**", outage)
    return context, outage


def test_tiles_that_failed_come_without_anybody_moving_the_map(product: Path, browser: Any, open_page: Open) -> None:
    context, outage = tiles_fail(browser)
    with View(product) as view:
        page = open_page(f"{view.url}#opacity=1&outlines=0", context=context)
        judged(page, 0)
        assert painted(page) == 0
        outage.on = False
        until(page, lambda: painted(page), lambda count: count > 0)
        context.close()


def test_tiles_that_are_refused_are_not_asked_for_again(product: Path, browser: Any, open_page: Open) -> None:
    asked: list[str] = []

    def refuse(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=404 if "/after/" in route.request.url else 503, json={"error": "there is none"})

    context = browser.new_context()
    context.route("**/tiles/**", refuse)
    with View(product) as view:
        open_page(view.url, context=context)
        until(context.pages[0], lambda: len(asked), lambda count: count >= 7)
        context.close()
    assert sum("/after/" in url for url in asked) == 1
    assert sum("/before/" in url for url in asked) > 1


def test_a_page_goes_on_when_the_server_is_started_again(product: Path, open_page: Open) -> None:
    lasting = ViewOptions(lasting=True)
    with View(product, lasting) as view:
        page = open_page(f"{view.url}#opacity=1&outlines=0&change=0")
        judged(page, 0)
        assert painted(page) == 0
        port = int(view.url.split(":")[2].split("/")[0])
    page.keyboard.press("c")  # the probability is asked for only now
    page.keyboard.press("j")
    page.keyboard.press("a")
    said = f"does not answer. Run “{shlex.join(['terradelta', 'view', str(product)])}” again, and this page goes on."
    expect(page.locator(".messages")).to_contain_text(said)
    expect(page.locator(".messages")).to_contain_text("1 verdict is kept in this browser until then.")
    assert painted(page) == 0
    with View(product, lasting, port=port):
        expect(page.locator(".messages")).to_be_empty()
        until(page, lambda: painted(page), lambda count: count > 0)
        expect(page.locator(".card")).to_contain_text("All fields")
        until(page, lambda: [row.verdict for row in read_review(product)], lambda rows: rows == ["accept"])


def test_a_task_says_that_the_server_does_not_answer_and_goes_on(product: Path, browser: Any, open_page: Open) -> None:
    samples = product.parent / "samples.gpkg"
    draw(product, 8, samples)
    context, outage = tiles_fail(browser)
    with View(product, ViewOptions(task=samples)) as view:
        page = open_page(view.url, context=context)
        expect(page.locator(".messages")).to_contain_text(f"--task {shlex.quote(str(samples))}")
        outage.on = False
        expect(page.locator(".messages")).to_be_empty()
        at_rest(page)
        context.close()


FOREIGN = """async ([url, row]) => {
  const asked = (path, options) => fetch(url + path, options).then((answer) => answer.status, () => "refused");
  const text = { method: "POST", body: row, mode: "no-cors", headers: { "Content-Type": "text/plain" } };
  const json = { method: "POST", body: row, headers: { "Content-Type": "application/json" } };
  const image = await new Promise((done) => { const made = new Image(); made.onload = () => done("shown");
    made.onerror = () => done("refused"); made.src = url + "tiles/before/0/0/0.png"; });
  return [await asked("api/scene"), await asked("api/review", text), await asked("api/review", json), image]; }"""


def test_a_page_of_another_site_reads_and_writes_nothing_even_with_the_token(product: Path, browser) -> None:
    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<p>another site</p>")

        def log_message(self, *_: object) -> None:
            pass

    context = browser.new_context()
    with View(product) as view, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{other.server_address[1]}/")
        found = page.evaluate(FOREIGN, [view.url, '{"polygon": 1, "verdict": "accept"}'])
        context.close()
        other.shutdown()
    assert found == ["refused"] * 4
    assert read_review(product) == []
