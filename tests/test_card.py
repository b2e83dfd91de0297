import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from terradelta.card import ModelCard
from terradelta.errors import BandError, ModelError

CARD = ModelCard(
    name="weights",
    network="mlla_sianet",
    network_args={"in_channels": 2, "dsp": False},
    bands=("red", "nir"),
    mean=(0.4, 0.3),
    std=(0.2, 0.1),
    scale=10_000.0,
    stride=32,
    gsd_m=(0.5, 1.0),
    threshold=0.42,
    temperature=1.3,
    logit_bias=-0.4,
    symmetric=True,
    licence="Ünïcode — licence",
    scores=({"split": "val", "metrics": {"f1": 0.9}}, {"split": "test"}),
    training={"steps": 10},
)


def test_json_round_trip() -> None:
    assert ModelCard.from_json(CARD.to_json()) == CARD
    plain = ModelCard("a", "b", ("x",), (0.0,), (1.0,))
    assert ModelCard.from_json(plain.to_json()) == plain
    assert plain.gsd_m is None


finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)


TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]))  # others are made printable when read


@given(st.lists(st.tuples(TEXTS, finite, positive), min_size=1, max_size=5), positive, TEXTS)
def test_json_round_trip_of_any_numbers(bands: list[tuple[str, float, float]], scale: float, text: str) -> None:
    names, mean, std = (tuple(column) for column in zip(*bands, strict=True))
    card = ModelCard(text, text, names, mean, std, scale=scale, data=text)
    assert ModelCard.from_json(card.to_json()) == card


def test_replace_gives_a_checked_copy() -> None:
    assert CARD.replace(threshold=0.7).threshold == 0.7
    assert CARD.threshold == 0.42
    with pytest.raises(ModelError, match="std, scale and temperature must be above 0"):
        CARD.replace(temperature=0.0)


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"mean": (0.1,)}, "2 bands, 1 means, 2 standard deviations"),
        ({"std": (1.0, 1.0, 1.0)}, "2 bands, 2 means, 3 standard deviations"),
        ({"bands": (), "mean": (), "std": ()}, "0 bands, 0 means, 0 standard deviations"),
    ],
)
def test_one_mean_and_one_deviation_a_band(changes: dict[str, Any], numbers: str) -> None:
    with pytest.raises(ModelError, match=f"model card 'weights': {numbers}; give one mean and one standard deviation"):
        CARD.replace(**changes)


@pytest.mark.parametrize(
    "changes",
    [{"std": (0.2, 0.0)}, {"std": (float("nan"), 1.0)}, {"scale": -1.0}, {"temperature": 0.0}],
)
def test_divisors_are_above_zero(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="model card 'weights': std, scale and temperature must be above 0"):
        CARD.replace(**changes)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"card"', "{}"])
def test_text_that_is_no_card(text: str) -> None:
    with pytest.raises(ModelError, match=r"m.onnx: the model card is not readable; export the model again"):
        ModelCard.from_json(text, "m.onnx")


def _fields(**changes: object) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **changes})


def test_a_newer_card_is_refused() -> None:
    with pytest.raises(ModelError, match=r"m.onnx: model card version 2; this terradelta reads 1"):
        ModelCard.from_json(_fields(card_version=2), "m.onnx")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wings": 2}, "the model card does not have the expected fields"),
        ({"bands": 3}, "'bands' in the model card is 3; it must be a list of texts"),
        ({"std": ["a", "b"]}, "'std' in the model card is .*; it must be a list of finite numbers"),
    ],
)
def test_fields_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=f"m.onnx: {words}"):
        ModelCard.from_json(_fields(**changes), "m.onnx")


def test_a_missing_field_is_refused() -> None:
    fields = json.loads(CARD.to_json())
    del fields["network"]
    with pytest.raises(ModelError, match=r"does not have the expected fields .*network"):
        ModelCard.from_json(json.dumps(fields))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 4), (5, 2, 1, 1)])
def test_normalise_is_its_formula(dtype: type, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    before = values.copy()
    found = CARD.normalise(values)
    mean, std = (np.array(v)[:, None, None] for v in (CARD.mean, CARD.std))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (values.astype(np.float64) / 10_000 - mean) / std, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 4), (2, 4, 5, 5)])
def test_normalise_wants_the_cards_bands(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        BandError, match=r"model 'weights' takes 2 bands \(red, nir\), but the array has shape .*expect"
    ):
        CARD.normalise(np.zeros(shape))
