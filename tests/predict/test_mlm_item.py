"""The card of a model as a STAC item, as pystac and stac-model read it."""

import hashlib
import json

import numpy as np
import pystac
import pytest
from jsonschema import ValidationError
from pystac.validation import JsonSchemaSTACValidator
from stac_model.schema import MLModelExtension, MLModelProperties
from tests.stac_schemas.published import validate
from typer.testing import CliRunner

from terradelta.cli import app
from terradelta.errors import ModelError
from terradelta.predict.load import load_predictor, shipped_models
from terradelta.predict.mlm_item import _mlm_name, model_item


@pytest.mark.parametrize("name", sorted(shipped_models()))
@pytest.mark.filterwarnings("ignore::terradelta.predict.load.PrecisionWarning")
def test_shipped_weights_are_valid_items(name):
    item = model_item(name)
    assert JsonSchemaSTACValidator().validate_core(item, pystac.STACObjectType.ITEM, "1.1.0") is not None
    validate(item)
    known = MLModelProperties(**item["properties"])
    assert known.tasks == {"semantic-segmentation"}
    assert [each.name for each in known.input] == ["before", "after"]
    assert MLModelExtension.get_schema_uri() in item["stac_extensions"]
    asset = item["assets"]["model"]
    content = shipped_models()[name].read_bytes()
    assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert asset["file:size"] == len(content)
    assert "mlm:model" in asset["roles"]


def test_scaling_is_that_of_the_card():
    card, item = load_predictor("default", threads=1).card, model_item("default")
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    scaling = item["properties"]["mlm:input"][0]["value_scaling"]
    scaled = np.stack([(v - s["mean"]) / s["stddev"] for v, s in zip(values, scaling, strict=True)])
    np.testing.assert_allclose(scaled, card.normalise(values), atol=1e-6)
    assert item["properties"]["mlm:hyperparameters"]["threshold"] == card.threshold
    assert item["properties"]["bands"] == [{"name": "red"}, {"name": "green"}, {"name": "blue"}]


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("snunet32_cdd", "snunet32_cdd"),
        ("2019 run+1", "model-2019-run-1"),
        ("é v1.", "model-v1"),
        ("x", "model-x"),
        ("", "model"),
    ],
)
def test_names_are_those_that_the_extension_allows(name, valid):
    item = model_item("default")
    item["properties"]["mlm:name"] = name
    if name != valid:
        with pytest.raises(ValidationError):
            validate(item)
    item["properties"]["mlm:name"] = _mlm_name(name)
    validate(item)
    assert _mlm_name(name) == valid


def test_the_command_prints_the_item():
    done = CliRunner().invoke(app, ["models", "default", "--stac"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == model_item("default")


def test_methods_and_unknown_names_have_no_item():
    with pytest.raises(ModelError, match="the method cva has no weights"):
        model_item("cva")
    with pytest.raises(ModelError, match="there is no model 'gone'"):
        model_item("gone")
    done = CliRunner().invoke(app, ["models", "--stac"])
    assert done.exit_code == 2
