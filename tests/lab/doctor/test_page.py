"""The page of the doctor: one file, nothing from the network, every finding with its cure, names escaped."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from terradelta.errors import OutputError
from terradelta.lab.doctor import Checkup, check_dataset, checkup_receipt
from terradelta.lab.doctor.page import render_checkup, write_checkup

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def checkup(tmp_path: Path) -> Checkup:
    """A leak, a label of classes, and a name that is markup."""
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 255, (2, 3, 70, 70)).astype(np.uint8)
    label = np.zeros((1, 70, 70), np.uint8)
    label[0, 5:20, 5:20] = 255
    for split, name, values in (("train", "a", label), ("test", "<b>", label), ("train", "c", label // 85)):
        noise = rng.integers(0, 255, (2, 3, 70, 70)).astype(np.uint8)
        for part, image in (
            ("A", noise[0] if name == "c" else one),
            ("B", noise[1] if name == "c" else two),
            ("label", values),
        ):
            path = tmp_path / "data" / split / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = {"count": len(image), "height": 70, "width": 70, "dtype": "uint8"}
            with rasterio.open(path, "w", driver="PNG", **size) as target:
                target.write(image)
    return check_dataset(tmp_path / "data")


def test_the_page_names_every_finding_and_its_cure(checkup: Checkup) -> None:
    page = render_checkup(checkup)
    assert "Mend the errors before training." in page
    assert "Leak: pair in two splits (1)" in page
    assert "Label with classes in place of change (1)" in page
    for finding in checkup.findings:
        assert finding.cure.split("'")[0] in page
    assert "scale=255," in page
    assert f"mean=({round(checkup_receipt(checkup).splits['train'].mean[0], 4)}, " in page


def test_the_page_stands_alone_and_escapes_names(checkup: Checkup) -> None:
    page = render_checkup(checkup)
    assert "<b>" not in page
    assert "test/&lt;b&gt;" in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count('src="data:image/jpeg;base64,') == 2 * 3 + 2
    assert "<script" not in page


def test_the_file_appears_whole(checkup: Checkup, tmp_path: Path) -> None:
    write_checkup(tmp_path / "sub/page.html", checkup)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["page.html"]
    with pytest.raises(OutputError, match=r"page.html/x.html cannot be written .*; give a place that can be"):
        write_checkup(tmp_path / "sub/page.html/x.html", checkup)


def test_a_healthy_data_set(checkup: Checkup) -> None:
    checkup.findings.clear()
    page = render_checkup(checkup)
    assert "Nothing here would spoil training or scores." in page
    assert "What to do" not in page
