import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.mapping.conftest import PixelPredictor
from tests.review.conftest import write_dates

from terradelta.card import NO_LIMIT
from terradelta.errors import InputError
from terradelta.mapping.run import MapOptions, map_change
from terradelta.view.product import map_record, open_product


def test_what_is_no_product_says_what_it_is(tmp_path: Path, made: Path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"is no folder that is there; give one that `terradelta map BEFORE AFTER -o"):
        open_product(out)
    with pytest.raises(InputError, match="is no folder that is there"):
        open_product(made / "out" / "change.tif")
    out.mkdir()
    with pytest.raises(InputError, match="it is empty"):
        open_product(out)
    (out / "change.tif").write_bytes((made / "out" / "change.tif").read_bytes())
    with pytest.raises(InputError, match=r"it lacks receipt\.json"):
        open_product(out)
    (out / "receipt.json").write_text("{}")
    with pytest.raises(InputError, match="is no receipt of `terradelta map`"):
        open_product(out)


def test_a_folder_of_a_batch_names_a_product(tmp_path: Path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "receipt.json").touch()
    with pytest.raises(InputError, match=rf"holds 2 products of a batch \(a, b\); give one of them: {tmp_path / 'a'}"):
        open_product(tmp_path)


def test_files_of_different_products(product: Path):
    receipt = product / "receipt.json"
    content = json.loads(receipt.read_text())
    content["grid"]["height"] += 1
    receipt.write_text(json.dumps(content))
    with pytest.raises(InputError, match="are of different products"):
        open_product(product)


@pytest.mark.parametrize(
    ("model", "start", "run", "note"),
    [
        ({"name": "cva", "licence": NO_LIMIT}, "default", "taught", False),
        ({"name": "buildings_int8"}, "buildings", "taught", False),
        ({"name": "my $run"}, "'my $run'", "taught", True),
        ({"name": "taught"}, "taught", "taught2", True),
        ({"name": "taught9"}, "taught9", "taught10", True),
        ({"origin": {"source": "hf:some/one", "revision": "abc", "sha256": "0"}}, "hf:some/one@abc", "taught", False),
        ({"origin": {"source": "https://a.org/m.onnx"}}, "https://a.org/m.onnx", "taught", False),
    ],
)
def test_the_command_that_teaches(product: Path, model: dict[str, Any], start: str, run: str, note: bool):
    opened = open_product(product)
    receipt = replace(opened.receipt, model=replace(opened.receipt.model, **model))
    commands = map_record(replace(opened, receipt=receipt))["commands"]
    assert commands["teach"] == f"terradelta train --from {start} --review {product} -o {run}"
    assert (commands["weights"] is not None) == note


def test_an_unfinished_run_says_how_it_goes_on(tmp_path: Path):
    def stop(done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    before, after = write_dates(tmp_path)
    out = tmp_path / "an out"
    with pytest.raises(KeyboardInterrupt):
        map_change(before, after, out, PixelPredictor(), MapOptions(tile=48, overlap=16), progress=stop)
    with pytest.raises(InputError, match="is not finished") as error:
        open_product(out)
    assert f"terradelta map {before} {after} -o '{out}'" in str(error.value)
    map_change(before, after, out, PixelPredictor(), MapOptions(tile=48, overlap=16))
    assert open_product(out).missing == ()
