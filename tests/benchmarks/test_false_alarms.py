"""The table of false alarms in docs/evaluation.md is the one that was measured."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

ROOT = Path(__file__).parents[2]
RECEIPT = ROOT / "docs" / "receipts" / "false_alarms.csv"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("false_alarms", ROOT / "benchmarks" / "false_alarms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with RECEIPT.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_documentation_has_the_table_of_the_receipt(benchmark, rows) -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text()
    lines = benchmark.markdown(rows)
    assert len(lines) == sum(map(len, benchmark.LEVELS.values()))
    for line in lines:
        assert line in text
    assert f"{max(int(row['windows']) for row in rows)} windows" in text


def test_what_is_said_of_all_is_that_of_the_folders_together(benchmark, rows) -> None:
    for row in rows:
        same = [each for each in rows if all(each[key] == row[key] for key in ("disturbance", "level", "method"))]
        parts = [each for each in same if each["images"] != "all"]
        (whole,) = (each for each in same if each["images"] == "all")
        for key in ("windows", "alarms"):
            assert int(whole[key]) == sum(int(each[key]) for each in parts)
        found = binomtest(int(row["alarms"]), int(row["windows"])).proportion_ci(method="wilson")
        assert [float(row["low"]), float(row["high"])] == pytest.approx([found.low, found.high], abs=1e-4)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_windows_are_whole_and_spread_over_the_images(benchmark, tmp_path) -> None:
    values = np.random.default_rng(0).integers(1, 255, (3, 128 * 3, 128 * 2)).astype(np.uint8)
    for name in "ab":
        Image.fromarray(np.moveaxis(values, 0, -1)).save(tmp_path / f"{name}.png")
    Image.fromarray(values[0]).save(tmp_path / "label.png")
    chosen = benchmark.windows(tmp_path, 4)
    assert [key for key, _ in chosen] == ["a 0 1", "a 2 0", "b 0 1", "b 2 0"]
    np.testing.assert_array_equal(chosen[1][1], values[:, 256:384, :128])
    assert len(benchmark.windows(tmp_path, 99)) == 12
