"""Protocols against loops over pixels, with a predictor that says how large its input was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.data import PairList
from terradelta.lab.evaluation import WHOLE, Scoring, evaluate
from terradelta.predict.predictor import Predictor

from .conftest import Brighter

CARD = ModelCard("w", "none", ("grey",), (0.0,), (1.0,), scale=1.0, stride=1)
SIDES = st.integers(1, 70)


class Corner(Predictor):
    """The probability of every pixel is the value of its input's first pixel."""

    shapes: list[tuple[int, ...]]

    def logits(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes = [*getattr(self, "shapes", []), before.shape]
        p = np.broadcast_to(after[:, :, :1, :1], after.shape)
        return np.log(p / (1 - p))


def image(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0.1, 0.9, (1, height, width)).astype(np.float32)


def starts(side: int, patch: int, step: int) -> list[int]:
    found, at = [], 0
    while at + patch < side:
        found.append(at)
        at += step
    return [*found, max(side - patch, 0)]


@given(SIDES, SIDES, st.sampled_from([16, 17, 32]))
def test_patches_side_by_side(height: int, width: int, patch: int) -> None:
    values = image(height, width)
    expected = np.zeros((height, width))
    for r in reversed(starts(height, patch, patch)):  # an earlier patch has the last word
        for c in reversed(starts(width, patch, patch)):
            expected[r : r + patch, c : c + patch] = values[0, r, c]
    found = Scoring("patches", patch).predict(Corner(CARD), values, values)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(SIDES, SIDES, st.sampled_from([16, 17, 32]))
def test_overlapping_patches_are_averaged(height: int, width: int, patch: int) -> None:
    values = image(height, width)
    total, hits = np.zeros((height, width)), np.zeros((height, width))
    for r in starts(height, patch, patch // 2):
        for c in starts(width, patch, patch // 2):
            total[r : r + patch, c : c + patch] += values[0, r, c]
            hits[r : r + patch, c : c + patch] += 1
    found = Scoring("overlap", patch).predict(Corner(CARD), values, values)
    np.testing.assert_allclose(found, total / hits, atol=1e-6)


@given(SIDES, SIDES, st.sampled_from(["whole", "patches", "overlap"]))
def test_a_network_without_neighbours_does_not_notice(height: int, width: int, name: str) -> None:
    values = image(height, width) * 100
    predictor = Brighter(CARD)
    expected = predictor.predict(values[None], values[None] + 1)[0]
    np.testing.assert_allclose(Scoring(name, 16).predict(predictor, values, values + 1), expected, atol=1e-6)


def test_patches_go_in_batches_of_bounded_size() -> None:
    predictor = Corner(CARD)
    Scoring("patches", 256).predict(predictor, image(1024, 1024), image(1024, 1024))
    assert predictor.shapes == [(4, 1, 256, 256)] * 4
    predictor = Corner(CARD)
    WHOLE.predict(predictor, image(40, 30), image(40, 30))
    assert predictor.shapes == [(1, 1, 40, 30)]


def test_the_protocol_is_in_the_evaluation(squares: PairList) -> None:
    card = CARD.replace(bands=("r", "g", "b"), mean=(0.0,) * 3, std=(1.0,) * 3, scale=255.0)
    found = [evaluate(Brighter(card), squares, protocol=Scoring(name, 16)) for name in ("whole", "patches", "overlap")]
    assert found[0].total == found[1].total == found[2].total
    words = [each.protocol.text for each in found]
    assert words[0] == "whole images, one global confusion matrix over all pixels"
    assert words[1].startswith("patches of 16 x 16 pixels side by side")
    assert words[2].startswith("patches of 16 x 16 pixels at every 8, probabilities averaged")


def test_what_is_no_protocol_is_refused() -> None:
    with pytest.raises(InputError, match="there is no protocol 'tiles'; give one of whole, patches, overlap"):
        Scoring("tiles")
    with pytest.raises(InputError, match="a patch of 8 pixels is too small; give 16 or more"):
        Scoring("patches", 8)
