"""How quick the page of `terradelta view` is in Chromium: first paint, frames, bytes.

    python benchmarks/view_page.py [--side 32768] [--browser /usr/bin/chromium] [--keep FOLDER]
        [-o docs/receipts/view_page.json]

The product is sparse: 40 neighbourhoods of 1024 x 1024 pixels with 250 polygons each, whose outlines follow the pixels,
lie in a scene that holds nothing else; its rasters have overviews. The page is opened OPENINGS times, each by a server
that has just started and with an empty cache. Needs playwright. Chromium runs without a graphics card: WebGL by
SwiftShader, the rest drawn by the CPU. Where other programs take the CPU, the CPU time of the page's thread tells more
than the wall clock; the receipt holds both, with the load average of that moment.
"""

import argparse
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.features
import shapely.geometry
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.windows import Window

from terradelta.geo.grid import Grid
from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.machine import cores, cpu_name
from terradelta.mapping.provenance import file_sha256
from terradelta.mapping.run import map_change
from terradelta.predict.classical import load_method
from terradelta.products.gpkg import GpkgWriter
from terradelta.products.polygons import ChangePolygon
from terradelta.receipt import MapReceipt, read_receipt, write_receipt
from terradelta.receipt.map_record import InputRecord
from terradelta.view.server import BUNDLE

OPENINGS, UNIT, PLACES, CELL, PER_PLACE = 5, 1024, 40, 64, 250
UTM, TRANSFORM = CRS.from_epsg(32614), Affine(0.5, 0, 600000, 0, -0.5, 5200000)
LAYOUT = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
AT_REST = "() => document.querySelector('.pane.left .map')?.getAttribute('aria-busy') === 'false'"
MARKS = """window.marks = {}; new MutationObserver(() => {
  if (!marks.row && document.querySelector(".row")) marks.row = performance.now();
  if (!marks.map && document.querySelector(".map[aria-busy=false]")) marks.map = performance.now(); })
  .observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-busy"] });"""
OPENING = """() => { const ended = (part) => performance.getEntriesByType("resource")
    .find((entry) => entry.name.includes(part)).responseEnd;
  const first = performance.getEntriesByType("paint").map((entry) => entry.startTime);
  return { html_ms: performance.getEntriesByType("navigation")[0].responseEnd, css_ms: ended(".css"),
    script_ms: ended(".js"), first_paint_ms: Math.min(...first), scene_ms: ended("api/scene"), list_ms: marks.row,
    map_ms: marks.map }; }"""
FRAMES = """() => { window.frames = []; let last = performance.now();
  const frame = (now) => { window.frames.push(now - last); last = now; window.timer = requestAnimationFrame(frame); };
  window.timer = requestAnimationFrame(frame); }"""


def blobs(rng: np.random.Generator) -> NDArray[np.bool_]:
    """``(UNIT, UNIT)``: PER_PLACE rough discs, one a cell."""
    row, col = np.mgrid[:CELL, :CELL] - CELL / 2
    mask = np.zeros((UNIT, UNIT), bool)
    for i in range(PER_PLACE):
        top, left = (CELL * part for part in divmod(i, UNIT // CELL))
        bumps, angle = rng.normal(0, 1, 8), np.arctan2(row, col)
        radius = rng.uniform(6, 22) * (1 + 0.08 * sum(b * np.cos(k * angle + b) for k, b in enumerate(bumps, 2)))
        mask[top : top + CELL, left : left + CELL] = np.hypot(row, col) < radius.clip(3, CELL / 2 - 1)
    return mask


def write_sparse(path: Path, side: int, values: NDArray[Any], at: list[tuple[int, int]], nodata: float | None) -> None:
    """A tiled GeoTIFF with overviews that holds ``values`` (bands, UNIT, UNIT) at some places."""
    profile = {"count": len(values), "dtype": values.dtype, "width": side, "height": side, "nodata": nodata}
    with rasterio.Env(GDAL_CACHEMAX=256 << 20, SPARSE_OK_OVERVIEW="ON", COMPRESS_OVERVIEW="DEFLATE"):
        with rasterio.open(path, "w", **profile, **LAYOUT, sparse_ok=True, crs=UTM, transform=TRANSFORM) as file:
            for row, col in at:
                file.write(values, window=Window(col, row, UNIT, UNIT))
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2**k for k in range(1, 8)], Resampling.nearest)


def outlines(mask: NDArray[np.bool_], at: list[tuple[int, int]]) -> Iterator[ChangePolygon]:
    """The polygons of all neighbourhoods."""
    rng = np.random.default_rng(1)
    for row, col in at:
        there = TRANSFORM @ Affine.translation(col, row)
        for outline, _ in rasterio.features.shapes(mask.view(np.uint8), mask=mask, transform=there):
            shape = shapely.geometry.shape(outline)
            pixels = round(shape.area / TRANSFORM.a**2)
            yield ChangePolygon(shape, shape.area, shape.length, rng.uniform(0.5, 1), 1.0, pixels)


def make_product(folder: Path, side: int) -> Path:
    """The product, its images beside it; the receipt is that of a small map, made to fit."""
    rng = np.random.default_rng(0)
    mask, units = blobs(rng), side // UNIT
    at = [(UNIT * (n // units), UNIT * (n % units)) for n in rng.choice(units**2, PLACES, replace=False).tolist()]
    scene = make_scene(SceneConfig(height=UNIT, width=UNIT), 3)
    small, images = ([folder / f"{size}{date}.tif" for date in ("before", "after")] for size in ("small_", ""))
    for path, large, image in zip(small, images, (scene.before, scene.after), strict=True):
        write_sparse(path, UNIT, image, [(0, 0)], None)
        write_sparse(large, side, image, at, 0)
    template = map_change(small[0], small[1], folder / "small", load_method("cva")).folder
    out = folder / "product"
    out.mkdir()
    write_sparse(out / "probability.tif", side, np.where(mask, 0.8, 0.1).astype(np.float32)[None], at, np.nan)
    write_sparse(out / "change.tif", side, mask.astype(np.uint8)[None], at, 255)
    with GpkgWriter(out / "change.gpkg", Grid(UTM, TRANSFORM, (side, side))) as writer:
        writer.add(outlines(mask, at))

    def record(path: Path, known: InputRecord) -> InputRecord:
        grid = replace(known.grid, height=side, width=side)
        return replace(known, path=str(path), bytes=path.stat().st_size, sha256=file_sha256(path), grid=grid)

    told = read_receipt(MapReceipt, template / "receipt.json")
    before, after = (record(p, k) for p, k in zip(images, (told.inputs.before, told.inputs.after), strict=True))
    inputs, grid = replace(told.inputs, before=before, after=after), replace(told.grid, height=side, width=side)
    result = replace(told.result, polygons=PLACES * PER_PLACE)
    write_receipt(replace(told, inputs=inputs, grid=grid, result=result), out / "receipt.json")
    return out


def frames(page: Any, session: Any, act: Callable[[], None]) -> dict[str, float]:  # noqa: ANN401  of playwright
    """The times between frames while something is done, and the CPU time that the page's thread takes for one."""
    page.evaluate(FRAMES)
    before = cpu_ms(session)
    act()
    page.wait_for_function(AT_REST)
    spent = cpu_ms(session) - before
    times = np.array(page.evaluate("() => { cancelAnimationFrame(window.timer); return window.frames.slice(1); }"))
    median, high = np.percentile(times, [50, 95])
    found = {"median_ms": median, "p95_ms": high, "longest_ms": times.max(), "cpu_ms": spent / len(times)}
    return {"frames": len(times), **{name: round(float(value), 1) for name, value in found.items()}} | load()


def cpu_ms(session: Any) -> float:  # noqa: ANN401  of playwright
    """CPU time of the page's thread so far: what other programs take meanwhile does not count."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1000 * next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")


def drag(page: Any, what: str, at: tuple[float, float], reach: tuple[int, int]) -> None:  # noqa: ANN401  of playwright
    """Drag something to and fro, from a place given as shares of its width and height, by so many pixels."""
    box = page.locator(what).bounding_box()
    x, y = box["x"] + box["width"] * at[0], box["y"] + box["height"] * at[1]
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(60):
        page.mouse.move(x + reach[0] * np.sin(i / 8), y + reach[1] * np.cos(i / 8))
    page.mouse.up()


def opened(browser: Any, url: str) -> tuple[Any, Any, dict[str, float]]:  # noqa: ANN401  of playwright
    """A page with an empty cache, its session of the DevTools, and what it took until all was drawn."""
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.set_default_timeout(600_000)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.add_init_script(MARKS)
    page.goto(url)
    page.wait_for_function(f"() => window.marks?.row && ({AT_REST})()")
    page.wait_for_load_state("networkidle")
    found = page.evaluate(OPENING)
    found |= {"cpu_ms": cpu_ms(session), "answers": len(sizes), "transferred_mb": sum(sizes) / 1e6}
    return page, session, {name: round(value, 2) for name, value in found.items()} | load()


@contextmanager
def served(product: Path) -> Iterator[str]:
    """The address of a page whose server, `terradelta view`, has just started."""
    command = [sys.executable, "-m", "terradelta", "view", str(product), "--no-open", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.send_signal(signal.SIGINT)
    server.communicate()


def load() -> dict[str, float]:
    """The load average of the last minute: programs that want the CPU, this one among them."""
    return {"load_average": round(os.getloadavg()[0], 1)}


def measure(product: Path, browser: str) -> dict[str, Any]:
    """Open the page again and again, then use it; what that takes."""
    from playwright.sync_api import sync_playwright

    openings: list[dict[str, float]] = []
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=browser, args=["--enable-unsafe-swiftshader"])
        for left in reversed(range(OPENINGS)):
            spent = sum(os.times()[2:4])
            with served(product) as url:
                page, session, found = opened(launched, url)
                used = {} if left else use(page, session)
                page.context.close()
            openings.append(found | {"server_cpu_ms": round(1000 * (sum(os.times()[2:4]) - spent))})
            print(openings[-1], flush=True)
        launched.close()
    medians = {name: round(float(np.median([each[name] for each in openings])), 2) for name in openings[0]}
    files = [path.read_bytes() for path in BUNDLE.rglob("*") if path.suffix in (".html", ".js", ".css")]
    sizes = {"kb": sum(map(len, files)), "gzip_kb": sum(len(gzip.compress(content, 6)) for content in files)}
    bundle = {name: round(size / 1000, 1) for name, size in sizes.items()}
    return {"openings": openings, "medians": medians, "frames": used, "bundle": bundle}


def use(page: Any, session: Any) -> dict[str, Any]:  # noqa: ANN401  of playwright
    """What frames take while the page is used in all ways."""

    def wheel() -> None:
        box = page.locator(".pane.left").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
        for by in [-120] * 12 + [120] * 12:
            page.mouse.wheel(0, by)
            page.wait_for_timeout(30)

    def thresholds() -> None:
        for i in range(40):
            page.locator("#threshold").fill(f"{0.5 + 0.4 * np.sin(i / 6):.2f}")

    def press(key: str) -> None:
        for _ in range(10):
            page.keyboard.press(key)
            page.wait_for_timeout(100)

    acts: dict[str, Callable[[], None]] = {
        "drag, 10,000 polygons in view": lambda: drag(page, ".pane.left", (1 / 3, 1 / 2), (150, 100)),
        "wheel in and out": wheel,
        "swipe": lambda: drag(page, ".handle", (1 / 2, 1 / 4), (300, 0)),
        "threshold": thresholds,
        "next polygon, 10 times": lambda: press("j"),
        "drag, at a polygon": lambda: drag(page, ".pane.left", (1 / 3, 1 / 2), (150, 100)),
        "accept, 10 times": lambda: press("a"),
    }
    return {name: frames(page, session, act) for name, act in acts.items()}


def main() -> None:
    """Make the product, serve it, open its page."""
    parser = argparse.ArgumentParser(description="How quick the page of `terradelta view` is in Chromium.")
    parser.add_argument("--side", type=int, default=32768, help="pixels along the scene")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium")
    parser.add_argument("--keep", type=Path, help="folder for the product, used again if it is there")
    parser.add_argument("-o", "--out", type=Path, help="receipt to write, JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        product = folder / "product"
        if not (product / "receipt.json").is_file():
            make_product(folder, options.side)
        (product / "review.gpkg").unlink(missing_ok=True)  # of an earlier run
        facts = {"cpu": cpu_name(), "cores": cores(), "side_px": options.side, "polygons": PLACES * PER_PLACE}
        found = {**facts, **measure(product, options.browser)}
        print(json.dumps(found["medians"]), flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
