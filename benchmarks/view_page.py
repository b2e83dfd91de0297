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
import shapely
import shapely.affinity
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

OPENINGS = 5
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
UNIT, PLACES, CELL = 1024, 40, 64
PER_PLACE = 250
TRANSFORM = Affine(0.5, 0, 600000, 0, -0.5, 5200000)
FRAMES = """() => { window.frames = []; let last = performance.now();
  const frame = (now) => { window.frames.push(now - last); last = now; window.timer = requestAnimationFrame(frame); };
  window.timer = requestAnimationFrame(frame); }"""


def blobs(rng: np.random.Generator) -> NDArray[np.bool_]:
    """``(UNIT, UNIT)``: PER_PLACE rough discs, one a cell."""
    row, col = np.mgrid[:CELL, :CELL] - CELL / 2
    mask = np.zeros((UNIT, UNIT), bool)
    for i in range(PER_PLACE):
        top, left = (CELL * part for part in divmod(i, UNIT // CELL))
        bumps = rng.normal(0, 1, 8)
        angle = np.arctan2(row, col)
        radius = rng.uniform(6, 22) * (1 + 0.08 * sum(b * np.cos(k * angle + b) for k, b in enumerate(bumps, 2)))
        mask[top : top + CELL, left : left + CELL] = np.hypot(row, col) < radius.clip(3, CELL / 2 - 1)
    return mask


def places(side: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Upper left corners of the neighbourhoods, (row, col)."""
    chosen = rng.choice((side // UNIT) ** 2, PLACES, replace=False).tolist()
    return [(UNIT * (number // (side // UNIT)), UNIT * (number % (side // UNIT))) for number in chosen]


def write_sparse(path: Path, side: int, values: NDArray[Any], at: list[tuple[int, int]], nodata: float | None) -> None:
    """A tiled GeoTIFF with overviews that holds ``values`` (bands, UNIT, UNIT) at some places."""
    profile = {"driver": "GTiff", "count": len(values), "dtype": values.dtype, "width": side, "height": side}
    layout = {
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "zlevel": 1,
        "sparse_ok": True,
    }
    place = {"crs": CRS.from_epsg(32614), "transform": TRANSFORM, "nodata": nodata}
    with rasterio.Env(GDAL_CACHEMAX=256 << 20, SPARSE_OK_OVERVIEW="ON", COMPRESS_OVERVIEW="DEFLATE"):
        with rasterio.open(path, "w", **profile, **layout, **place) as file:
            for row, col in at:
                file.write(values, window=Window(col, row, UNIT, UNIT))
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2**k for k in range(1, 8)], Resampling.nearest)


def outlines(mask: NDArray[np.bool_], at: list[tuple[int, int]]) -> Iterator[ChangePolygon]:
    """The polygons of all neighbourhoods."""
    rng = np.random.default_rng(1)
    shapes = [shapely.geometry.shape(s) for s, v in rasterio.features.shapes(mask.view(np.uint8), mask=mask) if v]
    for row, col in at:
        for shape in shapes:
            a, b, c, d, e, f, *_ = TRANSFORM @ Affine.translation(col, row)
            moved = shapely.affinity.affine_transform(shape, [a, b, d, e, c, f])
            yield ChangePolygon(moved, moved.area, moved.length, rng.uniform(0.5, 1), 1.0, int(shape.area))


def make_product(folder: Path, side: int) -> Path:
    """The product, its images beside it."""
    rng = np.random.default_rng(0)
    mask, at = blobs(rng), places(side, rng)
    scene = make_scene(SceneConfig(height=UNIT, width=UNIT), 3)
    small = [folder / "small_before.tif", folder / "small_after.tif"]
    images = [folder / "before.tif", folder / "after.tif"]
    for path, large, image in zip(small, images, (scene.before, scene.after), strict=True):
        write_sparse(path, UNIT, image, [(0, 0)], None)
        write_sparse(large, side, image, at, 0)
    template = map_change(small[0], small[1], folder / "small", load_method("cva")).folder
    out = folder / "product"
    out.mkdir()
    probability = np.where(mask, 0.8, 0.1).astype(np.float32)[None]
    write_sparse(out / "probability.tif", side, probability, at, np.nan)
    write_sparse(out / "change.tif", side, mask.astype(np.uint8)[None], at, 255)
    grid = Grid(CRS.from_epsg(32614), TRANSFORM, (side, side))
    with GpkgWriter(out / "change.gpkg", grid) as writer:
        writer.add(outlines(mask, at))
    write_receipt(receipt_of(read_receipt(MapReceipt, template / "receipt.json"), images, side), out / "receipt.json")
    return out


def receipt_of(small: MapReceipt, images: list[Path], side: int) -> MapReceipt:
    """A receipt of a small map, for the large one."""

    def record(path: Path, known: InputRecord) -> InputRecord:
        grid = replace(known.grid, height=side, width=side)
        return replace(known, path=str(path), bytes=path.stat().st_size, sha256=file_sha256(path), grid=grid)

    before, after = (record(p, k) for p, k in zip(images, (small.inputs.before, small.inputs.after), strict=True))
    result = replace(small.result, polygons=PLACES * PER_PLACE)
    inputs = replace(small.inputs, before=before, after=after)
    return replace(small, inputs=inputs, grid=replace(small.grid, height=side, width=side), result=result)


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
    return {"frames": len(times), **{name: round(float(value), 1) for name, value in found.items()}}


def cpu_ms(session: Any) -> float:  # noqa: ANN401  of playwright
    """CPU time of the page's thread so far: what other programs take meanwhile does not count."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1000 * next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")


def drag(page: Any, steps: int = 60) -> None:  # noqa: ANN401  of playwright
    """Drag the map to and fro."""
    box = page.locator(".pane.left").bounding_box()
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(steps):
        page.mouse.move(x + 150 * np.sin(i / 8), y + 100 * np.cos(i / 8))
    page.mouse.up()


def wheel(page: Any, steps: int = 12) -> None:  # noqa: ANN401  of playwright
    """Zoom in and out again with the mouse's wheel."""
    box = page.locator(".pane.left").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    for by in (-120, 120):
        for _ in range(steps):
            page.mouse.wheel(0, by)
            page.wait_for_timeout(30)


def swipe(page: Any, steps: int = 60) -> None:  # noqa: ANN401  of playwright
    """Drag the line between the dates."""
    box = page.locator(".handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(steps):
        page.mouse.move(x + 300 * np.sin(i / 8), y)
    page.mouse.up()


def thresholds(page: Any) -> None:  # noqa: ANN401  of playwright
    """Move the threshold to and fro."""
    for i in range(40):
        page.locator("#threshold").fill(f"{0.5 + 0.4 * np.sin(i / 6):.2f}")


def steps(page: Any, key: str, count: int = 10) -> None:  # noqa: ANN401  of playwright
    """Press a key again and again."""
    for _ in range(count):
        page.keyboard.press(key)
        page.wait_for_timeout(100)


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
            with served(product) as url:
                page, session, found = opened(launched, url)
                openings.append(found)
                print(found, flush=True)
                used = {} if left else use(page, session)
                page.context.close()
        launched.close()
    return {"openings": openings, "medians": medians(openings), "frames": used, "bundle": bundle_sizes()}


def use(page: Any, session: Any) -> dict[str, Any]:  # noqa: ANN401  of playwright
    """What frames take while the page is used in all ways."""
    acts: dict[str, Callable[[], None]] = {
        "drag, 10,000 polygons in view": lambda: drag(page),
        "wheel in and out": lambda: wheel(page),
        "swipe": lambda: swipe(page),
        "threshold": lambda: thresholds(page),
        "next polygon, 10 times": lambda: steps(page, "j"),
        "drag, at a polygon": lambda: drag(page),
        "accept, 10 times": lambda: steps(page, "a"),
    }
    found = {}
    for name, act in acts.items():
        found[name] = frames(page, session, act) | load()
        print(name, found[name], flush=True)
    return found


def medians(openings: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure over all openings."""
    return {name: round(float(np.median([each[name] for each in openings])), 2) for name in openings[0]}


def bundle_sizes() -> dict[str, float]:
    """Of the page's own files, kB."""
    files = [path.read_bytes() for path in BUNDLE.rglob("*") if path.suffix in (".html", ".js", ".css")]
    packed = [len(gzip.compress(content, 6)) for content in files]
    return {"kb": round(sum(map(len, files)) / 1000, 1), "gzip_kb": round(sum(packed) / 1000, 1)}


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
