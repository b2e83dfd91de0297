"""The JSON Schema in the package is the one of the dataclasses, and says of receipts what the reader says."""

import json
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terradelta.receipt import to_json
from terradelta.receipt.schema import KINDS, schema_text

from .conftest import records

STORED = (files("terradelta.receipt") / "schema.json").read_text(encoding="utf-8")


def test_the_stored_schema_is_current():
    assert schema_text() == STORED, "run: python -m terradelta.receipt.schema > src/terradelta/receipt/schema.json"


def test_it_is_a_valid_schema_that_explains_every_record():
    content = json.loads(STORED)
    jsonschema.Draft202012Validator.check_schema(content)
    assert len(content["oneOf"]) == len(KINDS)
    assert all(each["description"].endswith((".", ":")) for each in content["$defs"].values())
    assert content["$defs"]["MapReceipt"]["properties"]["grid"]["description"] == "Of the rasters."
    assert content["$defs"]["ModelRecord"]["properties"]["tile"]["description"] == "Default side of a tile."


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_another_validator_takes_what_is_written_and_nothing_more(kind, data):
    found = json.loads(to_json(data.draw(records(kind))))
    validator = jsonschema.Draft202012Validator(json.loads(STORED))
    validator.validate(found)
    for wrong in ({**found, "more": 1}, {**found, "schema": 2}, {k: v for k, v in found.items() if k != "created"}):
        assert not validator.is_valid(wrong)
