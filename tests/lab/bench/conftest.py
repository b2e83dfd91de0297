"""A miniature data set: grey noise in which bright squares appear."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.errors import NotGeoreferencedWarning

from terradelta.lab.synthetic.image_bytes import encode


def write_split(root: Path, split: str, pairs: int, side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for k in range(pairs):
        before, after = (rng.integers(70, 110, (3, side, side)).astype(np.uint8) for _ in range(2))
        label = np.zeros((1, side, side), np.uint8)
        for _ in range(4):
            row, col = rng.integers(0, side - 16, 2)
            label[0, row : row + 16, col : col + 16] = 255
        after[:, label[0] > 0] += 120
        for part, image in (("A", before), ("B", after), ("label", label)):
            folder = root / split / part
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{k}.png").write_bytes(encode(image, "PNG"))


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 3 pairs of 64 x 64 pixels to train on, 2 to choose on, 2 to score."""
    root = tmp_path_factory.mktemp("squares")
    for split, pairs, seed in (("train", 3, 0), ("val", 2, 1), ("test", 2, 2)):
        write_split(root, split, pairs, 64, seed)
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    dotted = f"{NotGeoreferencedWarning.__module__}.{NotGeoreferencedWarning.__qualname__}"
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{dotted}"))
