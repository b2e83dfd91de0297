"""The page in a browser: Debian's Chromium, driven by Playwright, on a small product that `map` made."""

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import skimage.io
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from terradelta.area.measure import draw
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method
from terradelta.review.store import read_review
from terradelta.view.server import bundle_is_built
from terradelta.view.serving import View
from terradelta.view.view_session import ViewOptions

playwright = pytest.importorskip("playwright.sync_api", reason="the page needs a browser: pip install playwright")
expect = playwright.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here; on Debian: apt-get install chromium"),
    pytest.mark.skipif(not bundle_is_built(), reason="the page is not built; run: python hatch_build.py"),
]

SOFTWARE_GL = ["--enable-unsafe-swiftshader"]
"""WebGL without a graphics card; all else is drawn by the CPU, which is much faster than SwiftShader there."""
SIZE, SIDE = 256, 14
CORNERS = [(20, 30), (60, 150), (120, 40), (130, 200), (200, 90), (210, 180)]
"""Upper left pixels (row, col) of the changed squares; each is a pixel larger than the one before."""
CHANGE = np.array([255, 47, 109])
TRANSFORM = Affine(0.5, 0, 600000, 0, -0.5, 5200000)
PICTURE = {"width": SIZE, "height": SIZE, "count": 3, "dtype": "uint8"}
Open = Callable[..., Any]


def write_images(folder: Path) -> tuple[Path, Path]:
    """A smooth scene of two dates, with bright squares in the second one."""
    rng = np.random.default_rng(5)
    before = (90 + rng.normal(0, 2, (3, SIZE, SIZE))).clip(0, 255)
    after = before + rng.normal(0, 2, before.shape)
    for i, (row, col) in enumerate(CORNERS):
        after[:, row : row + SIDE + i, col : col + SIDE + i] = 220
    paths = folder / "before.tif", folder / "after.tif"
    for path, values in zip(paths, (before, after), strict=True):
        with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32614", transform=TRANSFORM, **PICTURE) as file:
            file.write(values.clip(0, 255).astype(np.uint8))
    return paths


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product whose name is markup."""
    folder = tmp_path_factory.mktemp("view")
    out: Path = folder / "<b>fields & roofs"
    map_change(*write_images(folder), out, load_method("cva"), MapOptions())
    return out


@pytest.fixture
def product(made: Path, tmp_path: Path) -> Path:
    """A copy without a review."""
    return Path(shutil.copytree(made, tmp_path / made.name))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_GL)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens pages; none of them may throw, or ask anything of another server."""
    contexts, faults = [], []

    def opened(url: str, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1000, "height": 640}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(own(url)) else faults.append(asked.url))
        page.goto(url)
        page.wait_for_selector("#page:not([aria-busy])")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def own(url: str) -> tuple[str, ...]:
    return url.split("#", maxsplit=1)[0], "data:", "blob:"


def judged(page: Any, count: int) -> None:
    expect(page.locator(".judged")).to_have_text(re.compile(f"^{count} of {len(CORNERS)} judged"), timeout=60_000)


def drawn(page: Any, count: int) -> None:
    expect(page.locator(".judged")).to_have_text(re.compile(f"{count} drawn$"), timeout=60_000)


def painted(page: Any) -> int:
    """Pixels of the map in the colour of change, as they are seen."""
    page.wait_for_timeout(500)
    with warnings.catch_warnings(), MemoryFile(page.locator(".pane.left").screenshot()) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open() as picture:
            seen = picture.read((1, 2, 3)).astype(int)
    return int((np.abs(seen - CHANGE[:, None, None]).max(axis=0) < 12).sum())


def centre(page: Any) -> tuple[float, float]:
    box = page.locator(".pane.left").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_first_screen_answers_and_text_stays_text(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        assert page.inner_text("h1").startswith("Changed: ")
        assert "cva" in page.inner_text(".answer")
        assert page.inner_text(".top .name") == product.name
        assert page.inner_text(".judged") == f"0 of {len(CORNERS)} judged"
        assert re.fullmatch(r"\d+ m", page.inner_text(".scale"))
        assert re.search(r"\(EPSG:32614\) · 46\.\d{5}° N, 97\.\d{5}° W", page.inner_text(".place"))
        expect(page.locator(".row")).to_have_count(len(CORNERS))
        expect(page.locator(".chip[data-src], .chip.missing")).to_have_count(0)


def test_swipe_blink_and_side_by_side(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        handle = page.get_by_role("slider", name="Swipe between the dates")
        assert handle.get_attribute("aria-valuenow") == "50"
        handle.focus()
        page.keyboard.press("ArrowLeft")
        assert handle.get_attribute("aria-valuenow") == "45"
        box = handle.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2 + 200, box["y"] + 200)
        page.mouse.up()
        cut = int(handle.get_attribute("aria-valuenow"))
        assert 60 < cut < 80
        clip = page.eval_on_selector(".after-layer", "(layer) => getComputedStyle(layer).clipPath")
        assert abs(float(re.findall(r"[\d.]+%", clip)[0][:-1]) - cut) < 1
        hidden = "(layer) => getComputedStyle(layer).visibility"
        page.keyboard.press("b")
        assert page.eval_on_selector(".after-layer", hidden) == "hidden"
        page.keyboard.press("b")
        assert page.eval_on_selector(".before-layer", hidden) == "hidden"
        page.keyboard.press("t")
        page.wait_for_selector(".pane.right .after-layer")
        assert page.locator(".badge:visible").all_inner_texts() == ["Before · before.tif", "After · after.tif"]


def test_the_threshold_repaints_without_asking_the_server(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(f"{view.url}#opacity=1&outlines=0")
        page.wait_for_timeout(1500)
        before = painted(page)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.locator("#threshold").fill("0")
        everything = painted(page)
        page.locator("#threshold").fill("0.5")
        assert painted(page) == before > 0
        assert everything > 5 * before
        page.keyboard.press("c")
        assert painted(page) == 0
        assert not [url for url in asked if "/tiles/" in url]


def test_keys_judge_and_go_on_and_undo(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        for key in ("j", "a", "r", "u"):
            page.keyboard.press(key)
        judged(page, 3)
        largest = page.locator(".row").first
        assert largest.locator(".tag.accept").inner_text() == "accepted"
        page.keyboard.press("z")
        judged(page, 2)
        page.locator("#openOnly").check()
        expect(page.locator(".row")).to_have_count(len(CORNERS) - 2)
        page.reload()
        judged(page, 2)
    rows = [(row.kind, row.verdict, row.undone is None) for row in read_review(product)]
    assert rows == [("judged", "accept", True), ("judged", "reject", True), ("judged", "unsure", False)]


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


def test_a_drawn_change_is_kept_and_exported(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        page.keyboard.press("d")
        x, y = centre(page)
        for dx, dy in ((0, 0), (60, 0), (60, 60)):
            page.mouse.click(x + 100 + dx, y + dy)
            page.wait_for_timeout(350)
        page.keyboard.press("Enter")
        drawn(page, 1)
        page.keyboard.press("Escape")
        page.reload()
        drawn(page, 1)
        page.get_by_role("button", name="Export accepted").click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="GeoPackage").click()
        saved = product.parent / "accepted.gpkg"
        waiting.value.save_as(saved)
    (row,) = read_review(product)
    assert (row.kind, row.verdict) == ("drawn", "accept")
    found = pyogrio.read_dataframe(saved)
    assert found.geometry[0].equals_exact(row.geometry.geoms[0], 1e-6) or found.geometry[0].equals(row.geometry)


def test_a_region_grows_and_a_polygon_is_split(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        page.keyboard.press("j")
        page.wait_for_timeout(500)
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
            page.wait_for_timeout(350)
        page.keyboard.press("Enter")
        drawn(page, 2)
    grown, *pieces = read_review(product)
    table = pyogrio.read_dataframe(product / "change.gpkg").sort_values("area_m2", ascending=False)
    assert grown.geometry.equals(table.geometry.iloc[0])
    assert grown.undone is not None
    assert sum(piece.geometry.area for piece in pieces) == pytest.approx(table.geometry.iloc[0].area)


def test_two_windows_see_one_another(product: Path, open_page: Open) -> None:
    with View(product) as view:
        one, other = open_page(view.url), open_page(view.url)
        judged(one, 0)
        judged(other, 0)
        one.keyboard.press("j")
        one.keyboard.press("a")
        judged(other, 1)


def test_nothing_is_lost_while_the_server_is_away(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        page.keyboard.press("j")
        page.wait_for_selector(".card:visible")
        page.route("**/api/review**", lambda route: route.abort())
        page.keyboard.press("a")
        page.wait_for_selector("text=1 verdict is kept in this browser")
        judged(page, 1)
        page.unroute("**/api/review**")
        expect(page.locator(".messages")).to_be_empty(timeout=60_000)
        judged(page, 1)
    assert [row.verdict for row in read_review(product)] == ["accept"]


def test_a_link_leads_back_to_the_same_sight(product: Path, open_page: Open) -> None:
    with View(product) as view:
        page = open_page(view.url)
        judged(page, 0)
        page.locator("#threshold").fill("0.7")
        page.keyboard.press("j")
        page.keyboard.press("t")
        page.wait_for_url(re.compile("polygon=.*"))
        page.wait_for_timeout(500)
        again = open_page(page.url)
        judged(again, 0)
        again.wait_for_selector(".card:visible")
        assert again.locator("#threshold").input_value() == "0.7"
        assert again.get_by_role("button", name="Side by side").get_attribute("aria-pressed") == "true"
        assert again.url == page.url


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
        page.wait_for_selector(".interval")
        assert "95 %" in page.inner_text(".interval")
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
        assert page.inner_text(".scale").endswith(" px")
        assert page.inner_text(".place") == "Centre: column 128, row 128"
        assert page.locator(".north").is_hidden()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == 390
