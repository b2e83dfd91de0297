"""The same files by the same model get the same numbers, whoever asks: map, evaluate, or the ranges of int8."""

from dataclasses import replace

import numpy as np
import pytest

from terradelta.errors import BandError
from terradelta.lab.data import open_pairs
from terradelta.lab.evaluation import evaluate
from terradelta.lab.export.int8_crops import read_calibration
from terradelta.mapping.run import map_change

from .conftest import BoxPredictor


class Watching(BoxPredictor):
    """Keeps what its network gets, in raw values as the card has them."""

    def __init__(self, **changes) -> None:
        super().__init__()
        self.card = replace(self.card, **changes)
        self.seen = []

    def logits(self, before, after):
        back = [x[0, :, :32, :48] * 0.25 + 0.5 for x in (before, after)]
        self.seen.append(np.stack(back) * self.card.scale)
        return super().logits(before, after)


@pytest.fixture
def pair(tmp_path, write_tiff):
    rng = np.random.default_rng(0)
    before = rng.integers(400, 3000, (3, 32, 48)).astype("uint16")
    files = {}
    for part, values in (("A", before), ("B", before + 120), ("label", np.zeros((1, 32, 48), "uint8"))):
        (tmp_path / "data" / "train" / part).mkdir(parents=True)
        files[part] = write_tiff(f"data/train/{part}/a.tif", values)
    return files["A"], files["B"], tmp_path / "data"


@pytest.mark.parametrize("changes", [{"scale": 10000.0, "stretch": None}, {}])
def test_map_evaluate_and_calibration_agree(pair, tmp_path, changes):
    model = Watching(**changes)
    map_change(pair[0], pair[1], tmp_path / "out", model)
    evaluate(model, open_pairs(pair[2], "train"))
    mapped, evaluated = model.seen
    np.testing.assert_array_equal(mapped, evaluated)
    for location in (f"{pair[0]},{pair[1]}", str(pair[2])):
        crop = read_calibration(location, model.card, 1, 48).crops[0]
        np.testing.assert_allclose(np.stack(crop), mapped, atol=0.02)
    raw = np.clip(mapped[1].mean() - mapped[0].mean(), 0, None)
    assert raw == pytest.approx(120 if "scale" in changes else 120 / 2600 * 255, rel=0.1)


def test_a_network_of_pictures_refuses_larger_integers(pair):
    values = np.full((1, 3, 16, 16), 4000, "uint16")
    with pytest.raises(BandError, match=r"reach 4000, but model 'box' knows 0 to 255 only: stretch .*choose_scaling"):
        Watching().predict(values, values)
    Watching(scale=10000.0, stretch=None).predict(values, values)
