"""The tables of docs/speed.md beside other tools are what stands in the receipts of benchmarks/compare_peers.py."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("side", [4096, 8192])
def test_the_table_is_the_receipt(side: int) -> None:
    costs = _costs(side)
    _, _, rest = (DOCS / "speed.md").read_text().partition(f"| tool, at {side:,}² |")
    rows = [_cells(line) for line in rest.split("\n\n")[0].splitlines()[2:]]
    assert [row[1:3] for row in rows] == [
        [f"{cost['cpu_s']:.0f} s", f"{cost['peak_mb']:,.0f} MB"] for cost in costs.values()
    ]
    peers = [peer for peer in ("torchgeo", "geoai") if peer in costs]
    assert peers
    for row, (name, cost) in zip(rows, costs.items(), strict=True):
        if not name.startswith("default"):
            assert row[3:] == [""] * len(peers)
            continue
        for cell, peer in zip(row[3:], peers, strict=True):
            told = re.fullmatch(r"(\d+\.\d), (\d+\.\d)", cell)
            assert told
            found = [costs[peer][part] / cost[part] for part in ("cpu_s", "peak_mb")]
            assert [float(part) for part in told.groups()] == pytest.approx(found, abs=0.051)


def test_the_parts_are_the_receipts() -> None:
    costs = _costs()
    _, _, rest = (DOCS / "speed.md").read_text().partition("| at 4,096², s |")
    head, _, *lines = rest.split("\n\n")[0].splitlines()
    names = _cells(head)[:-2]  # two more: others, and the share
    rows = {cells[0].replace("`", "").replace(",", ""): cells[1:] for cells in map(_cells, lines)}
    assert rows.keys() == {name for name, cost in costs.items() if cost["parts_s"]}
    for name, told in rows.items():
        parts = {part: seconds for part, seconds in costs[name]["parts_s"].items() if part != "total"}
        share = 1 - parts["network"] / sum(parts.values())
        found = [*(parts.pop(part) for part in names), sum(parts.values())]
        assert told == [*(f"{seconds:.1f}" for seconds in found), f"{share:.1%}".replace("%", " %")]


def test_mccrnets_table_is_the_receipt() -> None:
    found = json.loads((DOCS / "receipts" / "mccrnet_speed.json").read_text())["candidates"]
    _, _, rest = (DOCS / "mccrnet.md").read_text().partition("| without AMX |")
    rows = [_cells(line)[1:] for line in rest.split("\n\n")[0].splitlines()[2:]]
    for told, cost in zip(rows, found.values(), strict=True):
        assert told[:3] == [f"{cost[part]:.2f}" for part in ("cpu_s", "ratio", "peak_gib")]
        assert float(told[3] or 0) == pytest.approx(cost["logit_largest"], rel=0.05)


def _costs(side: int = 4096) -> dict[str, Any]:
    receipt = DOCS / "receipts" / f"speed_{side}.json"
    found: dict[str, Any] = json.loads(receipt.read_text())["sides"][str(side)]
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
