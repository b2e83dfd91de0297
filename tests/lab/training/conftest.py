from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor, nn

from terradelta.card import ModelCard
from terradelta.lab.data import PairList, open_pairs
from terradelta.lab.networks import ChangeNetwork, _registry
from terradelta.lab.networks.checkpoint import save_network


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_thread: None) -> None:
    """For all tests of training."""


def _write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", driver="PNG", dtype="uint8", **size) as target:
        target.write(values)


@pytest.fixture(scope="session")
def write_pair() -> Callable[..., None]:
    """``write_pair(root, split, name, before, after, label)``: label ``(H, W)``, 0 or 255."""

    def write(root: Path, split: str, name: str, *arrays: np.ndarray) -> None:
        for part, values in zip(("A", "B", "label"), arrays, strict=True):
            _write(root / split / part / f"{name}.png", values if values.ndim == 3 else values[None])

    return write


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory, write_pair: Callable[..., None]) -> Callable[[str], PairList]:
    """Grey noise of 96 x 96 pixels in which bright squares appear: 6 training pairs, 2 for validation."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for split, pairs in (("train", 6), ("val", 2)):
        for k in range(pairs):
            before, after = (rng.integers(70, 110, (3, 96, 96)).astype(np.uint8) for _ in range(2))
            label = np.zeros((96, 96), np.uint8)
            for _ in range(4):
                row, col = rng.integers(0, 76, 2)
                label[row : row + 20, col : col + 20] = 255
            after[:, label > 0] += 120
            write_pair(root, split, f"{k}", before, after, label)
    return lambda split: open_pairs(root, split)


class Small(ChangeNetwork):
    """Two layers on the difference of the dates, with batch normalisation between."""

    stride = 4

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward_with_aux(self, before: Tensor, after: Tensor) -> list[Tensor]:
        return [self.head(self.norm(self.stem(after - before)).relu())]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkpoint of a registered network that calls bright changes changed, but not from its threshold on."""
    info = _registry.NetworkInfo("small", "no paper", 2026, "For tests.", Small)
    monkeypatch.setitem(_registry._NETWORKS, "small", info)
    network = Small()
    nn.init.constant_(network.stem.weight, 0.02)
    nn.init.zeros_(network.stem.bias)
    nn.init.constant_(network.head.weight, 0.5)
    nn.init.constant_(network.head.bias, -2.0)
    bands = ("red", "green", "blue")
    facts = {"finds": "bright squares", "data": "Noise", "licence": "Any.", "training": {"loss": "ce"}}
    facts |= {"stride": 4, "threshold": 0.9, "gsd_m": (1.0, 2.0)}
    card = ModelCard("parent", "small", bands, (0.4,) * 3, (0.2,) * 3, **facts)
    save_network(network, card, tmp_path / "parent.ckpt")
    return tmp_path / "parent.ckpt"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{_dotted(NotGeoreferencedWarning)}"))


def _dotted(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
