"""What docs/bench/README.md says of the tables beside it is what stands in them, in all four formats."""

import csv
import html
import re
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "docs" / "bench"
WORDS = (BENCH / "README.md").read_text()
FOLDERS = sorted(path.parent.name for path in BENCH.glob("*/table.csv"))


def scores(folder: str) -> dict[str, tuple[float, float | None, str]]:
    """Row -> F1 and its standard deviation in per cent, and whether it learnt."""
    with (BENCH / folder / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {row["network"]: (float(row["F1 %"]), float(row["F1 % sd"] or 0) or None, row["learnt"]) for row in rows}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("suffix", ["md", "html", "tex"])
def test_all_formats_hold_the_same_scores(folder: str, suffix: str) -> None:
    text = html.unescape((BENCH / folder / f"table.{suffix}").read_text()).replace(r"\_", "_")
    for name, (f1, _, _) in scores(folder).items():
        (line,) = re.findall(rf"^.*{re.escape(name)}\W.*{f1:.2f}.*$", re.sub(r"</td>\s*<td", "</td><td", text), re.M)
        assert line


def test_the_words_on_the_synthetic_table() -> None:
    rows = scores("synthetic")
    baselines = [f1 for f1, _, learnt in rows.values() if not learnt]
    networks = {name: f1 for name, (f1, _, learnt) in rows.items() if learnt}
    assert f"best: CVA with a chosen threshold, F1 {max(baselines):.2f}" in WORDS
    assert rows["CVA, tuned"][0] == max(baselines) < min(networks.values())
    assert "All fourteen networks are above all baselines" in WORDS
    assert len(networks) == 14
    assert f"F1 {networks['dasnet width=0.25']:.2f} in the table" in WORDS


def test_the_words_on_the_table_of_real_images() -> None:
    told = [float(cell) for cell in re.findall(r"^\|[^|]+\| (\d+\.\d\d) \|$", WORDS, re.M)]
    rows = scores("levir_subset")
    networks = [f1 for f1, _, learnt in rows.values() if learnt == "yes"]
    assert len(networks) == 5
    expected = [*networks, rows["CVA"][0], rows["all changed"][0]]
    assert told == [round(f1, 2) for f1 in sorted(expected, reverse=True)]


def test_the_words_on_the_ablation() -> None:
    rows = scores("ablation_mlla")
    (all_three, its_sd, _), (none, their_sd, _) = rows["all three"], rows["none"]
    text = " ".join(WORDS.split())
    assert f"F1 is {all_three:.1f} ± {its_sd:.1f} with all three and {none:.1f} ± {their_sd:.1f} without any" in text
    assert f"{rows['without MLA'][0]:.1f} without the auxiliary losses" in text
    assert all(f1 >= all_three for name, (f1, _, _) in rows.items() if name.startswith("without"))
