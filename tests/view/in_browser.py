"""What tests of the page share: Debian's Chromium, driven by Playwright, and a small product that `map` made.

A slow machine must not fail them: nothing waits for a time, all wait for what they need, up to three minutes.
"""

import re
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method
from terradelta.view.server import bundle_is_built

__all__ = [
    "CORNERS",
    "SIZE",
    "Open",
    "Outage",
    "at_rest",
    "browser",
    "centre",
    "drawn",
    "expect",
    "judged",
    "made",
    "needs_browser",
    "open_page",
    "painted",
    "product",
    "until",
    "write_images",
]

playwright = pytest.importorskip("playwright.sync_api", reason="the page needs a browser: pip install playwright")
expect = playwright.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here; on Debian: apt-get install chromium"),
    pytest.mark.skipif(not bundle_is_built(), reason="the page is not built; run: python hatch_build.py"),
]

PATIENCE_S = 180
expect.set_options(timeout=1000 * PATIENCE_S)
# WebGL without a graphics card; all else is drawn by the CPU, which is much faster than SwiftShader there. The name of
# this machine leads here, too: by it, the page is one of another machine to the browser.
CHROMIUM_OPTIONS = ["--enable-unsafe-swiftshader", f"--host-resolver-rules=MAP {socket.gethostname()} 127.0.0.1"]
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
    """A product whose name is markup, its images beside it."""
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
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS, timeout=1000 * PATIENCE_S)
        yield launched
        launched.close()


class Outage:
    """While `on`, what a page asks of a route fails, as if the server were away.

    It takes hold before the page is opened: a route that is added to an open page misses what the page sends next.
    """

    def __init__(self) -> None:
        self.on = False

    def __call__(self, route: Any) -> None:
        if self.on:
            route.abort()
        else:
            route.continue_()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens pages, in a context of their own or in one that is given; none may throw, or ask anything elsewhere."""
    contexts, faults = [], []

    def opened(url: str, review: Callable[[Any], None] | None = None, context: Any = None, **options: Any) -> Any:
        if context is None:
            context = browser.new_context(viewport={"width": 1000, "height": 640}, **options)
            contexts.append(context)
        if review is not None:
            context.route("**/api/review**", review)
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
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


def until(page: Any, found: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """Ask again and again until what is found is what is wanted; returns it."""
    end = time.monotonic() + PATIENCE_S
    while not wanted(now := found()):
        assert time.monotonic() < end, now
        page.wait_for_timeout(50)
    return now


def judged(page: Any, count: int) -> None:
    expect(page.locator(".judged")).to_have_text(re.compile(f"^{count} of {len(CORNERS)} judged"))


def drawn(page: Any, count: int) -> None:
    expect(page.locator(".judged")).to_have_text(re.compile(f"{count} drawn$"))


def at_rest(page: Any) -> None:
    """Wait until the map shows all that it is to show."""
    expect(page.locator(".pane.left .map")).to_have_attribute("aria-busy", "false")


def painted(page: Any, colour: np.ndarray = CHANGE) -> int:
    """Pixels of the map in a colour, by default that of change, as they are seen."""
    at_rest(page)
    with warnings.catch_warnings(), MemoryFile(page.locator(".pane.left").screenshot()) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open() as picture:
            seen = picture.read((1, 2, 3)).astype(int)
    return int((np.abs(seen - colour[:, None, None]).max(axis=0) < 12).sum())


def centre(page: Any) -> tuple[float, float]:
    """Of the map, once what it shows is what clicks refer to."""
    at_rest(page)
    box = page.locator(".pane.left").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
