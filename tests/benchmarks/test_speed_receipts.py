"""The tables of docs/speed.md beside other tools are what stands in the receipts of benchmarks/compare_peers.py."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("side", [4096, 8192])
def test_the_table_is_the_receipt(side: int) -> None:
    costs = json.loads((DOCS / "receipts" / f"speed_{side}.json").read_text())["sides"][str(side)]
    _, _, rest = (DOCS / "speed.md").read_text().partition(f"| tool, at {side:,}² |")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in rest.split("\n\n")[0].splitlines()[2:]]
    assert [row[1:3] for row in rows] == [
        [f"{cost['cpu_s']:.0f} s", f"{cost['peak_mb']:,.0f} MB"] for cost in costs.values()
    ]
    for row, (name, cost) in zip(rows, costs.items(), strict=True):
        if not name.startswith(("default", "fast")):
            assert row[3:] == ["", ""]
            continue
        for cell, peer in zip(row[3:], ("torchgeo", "geoai"), strict=True):
            told = re.fullmatch(r"(\d+\.\d), (\d+\.\d)", cell)
            assert told
            found = [costs[peer][part] / cost[part] for part in ("cpu_s", "peak_mb")]
            assert [float(part) for part in told.groups()] == pytest.approx(found, abs=0.051)
