"""Two pairs of different sizes and a predictor whose answers are known."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from terradelta.card import ModelCard
from terradelta.data.folder import PairFolder
from terradelta.errors import BandError
from terradelta.evaluation import Evaluation, evaluate
from terradelta.metrics import Confusion, ProbabilityHistogram
from terradelta.runtime.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
CARD = ModelCard("w", "none", ("grey",), (0.0,), (1.0,), threshold=0.75, stride=2)
# Probabilities in percent, as the value of the second image; label; size 2 x 2 and 1 x 3.
PAIRS = {"a": ([[90, 80], [60, 10]], [[1, 0], [1, 0]]), "b": ([[10, 20, 70]], [[0, 0, 0]])}


class Spoken(Predictor):
    """The second image is the probability in percent."""

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        p = after * 2.55
        return np.log(p / (1 - p))


@pytest.fixture
def pairs(tmp_path: Path) -> PairFolder:
    for name, (percent, label) in PAIRS.items():
        for part, values in (("A", np.zeros_like(percent)), ("B", percent), ("label", label)):
            band = np.array(values, np.uint8)[None]
            path = tmp_path / "test" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = {"count": 1, "height": band.shape[1], "width": band.shape[2]}
            with rasterio.open(path, "w", driver="PNG", dtype="uint8", **size) as target:
                target.write(band)
    return PairFolder(tmp_path, "test")


def test_counts_by_hand_at_the_cards_threshold(pairs: PairFolder) -> None:
    found = evaluate(Spoken(CARD), pairs)
    assert found.threshold == 0.75
    assert found.images == [("a", Confusion(tp=1, fp=1, fn=1, tn=1)), ("b", Confusion(tn=3))]
    assert found.total == Confusion(tp=1, fp=1, fn=1, tn=4)
    assert found.histogram.confusion(0.75) == found.total


def test_another_threshold(pairs: PairFolder) -> None:
    assert evaluate(Spoken(CARD), pairs, threshold=0.5).total == Confusion(tp=2, fp=2, fn=0, tn=3)
    assert evaluate(Spoken(CARD), pairs, threshold=0.0).total == Confusion(tp=2, fp=5)


def test_the_histogram_gives_every_other_threshold(pairs: PairFolder) -> None:
    histogram = evaluate(Spoken(CARD), pairs).histogram
    for threshold in (0.15, 0.5, 0.75, 0.85, 0.95):
        assert histogram.confusion(threshold) == evaluate(Spoken(CARD), pairs, threshold=threshold).total


def test_means_over_images_are_of_those_with_change(pairs: PairFolder) -> None:
    receipt = evaluate(Spoken(CARD), pairs).receipt()
    assert receipt["per_image"] == pytest.approx(
        {
            "images": 2,
            "mean_f1_of_images_with_change": 0.5,
            "mean_iou_of_images_with_change": 1 / 3,
            "mean_oa": (0.5 + 1) / 2,
        }
    )
    assert receipt["metrics"]["oa"] == pytest.approx(5 / 7)
    assert receipt["confusion_px"] == {"tp": 1, "fp": 1, "fn": 1, "tn": 4}
    assert receipt["threshold"] == 0.75
    assert "one global confusion matrix" in receipt["protocol"]
    assert json.loads(json.dumps(receipt)) == receipt


def test_no_image_at_all() -> None:
    receipt = Evaluation(0.5, ProbabilityHistogram()).receipt()
    assert set(receipt["metrics"].values()) == {0}
    assert receipt["per_image"]["images"] == 0


def test_progress_and_maps_are_handed_out(pairs: PairFolder) -> None:
    done: list[tuple[int, int]] = []
    maps: dict[str, NDArray[np.float32]] = {}
    evaluate(Spoken(CARD), pairs, progress=lambda *n: done.append(n), on_image=maps.__setitem__)
    assert done == [(1, 2), (2, 2)]
    assert {name: p.shape for name, p in maps.items()} == {"a": (2, 2), "b": (1, 3)}
    np.testing.assert_allclose(maps["b"], [[0.1, 0.2, 0.7]], atol=1e-6)


def test_images_with_other_bands_than_the_models(pairs: PairFolder) -> None:
    card = CARD.replace(bands=("r", "g"), mean=(0.0, 0.0), std=(1.0, 1.0))
    with pytest.raises(BandError, match="takes 2 bands"):
        evaluate(Spoken(card), pairs)
