"""What the docs say of the speed of `terradelta view` is what stands in the receipt of benchmarks/view_page.py."""

import json
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_docs_tell_the_receipt() -> None:
    found = json.loads((DOCS / "receipts" / "view_page.json").read_text())
    medians, frames = found["medians"], found["frames"]
    loads = [each["load_average"] for each in (*found["openings"], *frames.values())]
    told = " ".join((DOCS / "decisions" / "086-the-page-of-view.md").read_text().split())
    drag = frames["drag, 10,000 polygons in view"]
    for words in (
        f"load average {min(loads):.0f} to {max(loads):.0f}",
        f"First paint after {medians['first_paint_ms'] / 1000:.1f} s",
        f"list is there after {medians['list_ms'] / 1000:.1f} s, the map after {medians['map_ms'] / 1000:.1f} s",
        f"{medians['cpu_ms'] / 1000:.2f} s of CPU",
        f"server, from its start to its end, {medians['server_cpu_ms'] / 1000:.1f} s",
        f"{medians['transferred_mb']:.2f} MB in {medians['answers']:.0f} answers",
        f"{drag['cpu_ms']:.0f} ms of CPU while the map is dragged",
        f"{frames['wheel in and out']['cpu_ms']:.0f} ms while it is zoomed",
        f"{found['bundle']['kb']:.0f} kB, {found['bundle']['gzip_kb']:.0f} kB compressed",
    ):
        assert words in told, words
    view = " ".join((DOCS / "view.md").read_text().split())
    assert f"first paint after {medians['first_paint_ms'] / 1000:.1f} s" in view
    assert f"{drag['cpu_ms']:.0f} ms of CPU" in view
