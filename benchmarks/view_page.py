"""How quick the page of `terradelta view` is in Chromium: first paint, frames, bytes.

    python benchmarks/view_page.py [--side 32768] [--browser /usr/bin/chromium] [--keep FOLDER]

The product is sparse: 40 neighbourhoods of 1024 x 1024 pixels with 250 polygons each, whose outlines follow the pixels,
lie in a scene that holds nothing else; its rasters have overviews. Needs playwright. Chromium runs without a graphics
card: WebGL by SwiftShader, the rest drawn by the CPU.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
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
from terradelta.mapping.provenance import file_sha256
from terradelta.mapping.run import map_change
from terradelta.predict.classical import load_method
from terradelta.products.gpkg import GpkgWriter
from terradelta.products.polygons import ChangePolygon
from terradelta.receipt import MapReceipt, read_receipt, write_receipt
from terradelta.receipt.map_record import InputRecord
from terradelta.view.serving import View

LAST_TILE = """() => Math.max(...performance.getEntriesByType("resource")
  .filter((entry) => entry.name.includes("/tiles/")).map((entry) => entry.responseEnd))"""
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


def frames(page: Any, session: Any, name: str, act: Callable[[], None]) -> None:  # noqa: ANN401  of playwright
    """Print the times between frames while something is done, and the CPU time that the page's thread takes for one."""
    page.evaluate(FRAMES)
    before = cpu_ms(session)
    act()
    page.wait_for_timeout(300)
    spent = cpu_ms(session) - before
    times = np.array(page.evaluate("() => { cancelAnimationFrame(window.timer); return window.frames.slice(1); }"))
    low, high = np.percentile(times, [50, 95])
    found = f"median {low:.0f} ms, 95th percentile {high:.0f} ms, longest {times.max():.0f} ms"
    print(f"{name}: {len(times)} frames, {found}; {spent / len(times):.1f} ms of CPU each", flush=True)


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


def measure(url: str, browser: str) -> None:
    """Open the page and print what it takes."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=browser, args=["--enable-unsafe-swiftshader"])
        page = launched.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(180_000)
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        sizes: list[float] = []
        session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        page.goto(url)
        page.wait_for_selector(".row")
        listed = page.evaluate("performance.now()")
        paint = page.evaluate("performance.getEntriesByType('paint').map((entry) => entry.startTime)")
        page.wait_for_load_state("networkidle")
        tiles = page.evaluate(LAST_TILE)
        print(f"first paint {min(paint):.0f} ms, list {listed:.0f} ms, last tile {tiles:.0f} ms", flush=True)
        print(f"CPU of the page's thread so far {cpu_ms(session):.0f} ms; load average {os.getloadavg()[0]:.1f}")
        print(f"transferred until all is drawn: {sum(sizes) / 1e6:.2f} MB in {len(sizes)} answers")
        frames(page, session, "drag, 10,000 polygons in view", lambda: drag(page))
        frames(page, session, "wheel in and out", lambda: wheel(page))
        frames(page, session, "swipe", lambda: swipe(page))
        frames(page, session, "threshold", lambda: thresholds(page))
        frames(page, session, "next polygon, 10 times", lambda: steps(page, "j"))
        page.wait_for_timeout(1500)
        frames(page, session, "drag, at a polygon", lambda: drag(page))
        frames(page, session, "accept, 10 times", lambda: steps(page, "a"))
        print(f"transferred in all: {sum(sizes) / 1e6:.2f} MB in {len(sizes)} answers")
        launched.close()


def main() -> None:
    """Make the product, serve it, open its page."""
    parser = argparse.ArgumentParser(description="How quick the page of `terradelta view` is in Chromium.")
    parser.add_argument("--side", type=int, default=32768, help="pixels along the scene")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium")
    parser.add_argument("--keep", type=Path, help="folder for the product, used again if it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        product = folder / "product"
        if not (product / "receipt.json").is_file():
            make_product(folder, options.side)
        with View(product) as view:
            measure(view.url, options.browser)


if __name__ == "__main__":
    main()
