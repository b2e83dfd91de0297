"""What a card's JSON may hold; a damaged one is refused with the name of the field."""

import json

import pytest

from terradelta.card import STRETCH, ModelCard
from terradelta.errors import ModelError

CARD = ModelCard("x", "net", ("red", "green", "blue"), (0.5,) * 3, (0.25,) * 3, gsd_m=(0.3, 1.0), scores=({"a": 1},))


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **fields})


def test_round_trip():
    assert ModelCard.from_json(CARD.to_json()) == CARD


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("bands", 5, "a list of texts"),
        ("bands", "red", "a list of texts"),
        ("bands", [None] * 3, "a list of texts"),
        ("mean", ["a", "b", "c"], "a list of finite numbers"),
        ("mean", [[1], [2], [3]], "a list of finite numbers"),
        ("std", [float("nan")] * 3, "a list of finite numbers"),
        ("scale", None, "a finite number"),
        ("temperature", float("inf"), "a finite number"),
        ("logit_bias", float("nan"), "a finite number"),
        ("threshold", "x", "a number above 0 and at most 1"),
        ("threshold", 7, "a number above 0 and at most 1"),
        ("tile", "64", "a whole number, 0 or more"),
        ("tile", 64.5, "a whole number, 0 or more"),
        ("stride", True, "a whole number, 0 or more"),
        ("gsd_m", [1], "null or two finite numbers"),
        ("gsd_m", ["a", "b"], "null or two finite numbers"),
        ("stretch", [99, 1], "null or two percentiles from 0 to 100, the lower one first"),
        ("scores", [1], "a list of objects"),
        ("training", 5, "an object"),
        ("symmetric", 1, "true or false"),
        ("name", None, "a text"),
    ],
)
def test_wrong_fields_are_named(field, value, words):
    with pytest.raises(ModelError, match=rf"file: '{field}' in the model card is .*; it must be {words}"):
        ModelCard.from_json(changed(**{field: value}), "file")


@pytest.mark.parametrize("text", ["", "[]", "5", "{}", "null"])
def test_no_card(text):
    with pytest.raises(ModelError, match="file: the model card is not readable; export the model again"):
        ModelCard.from_json(text, "file")


@pytest.mark.parametrize(("scale", "stretch"), [(255.0, STRETCH), (10000.0, None)])
def test_cards_of_before_the_stretch_are_used_as_they_were(scale, stretch):
    fields = {**json.loads(CARD.to_json()), "scale": scale}
    del fields["stretch"]
    assert ModelCard.from_json(json.dumps(fields)).stretch == stretch
