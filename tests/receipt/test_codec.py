"""Receipts to JSON and back: nothing is lost, nothing is guessed, and what does not fit is named."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import terradelta
from terradelta.errors import InputError, OutputError
from terradelta.receipt import (
    SCHEMA,
    AreaReceipt,
    CheckupReceipt,
    EvaluationReceipt,
    finite,
    from_json,
    plain,
    read_receipt,
    to_json,
    write_receipt,
)
from terradelta.receipt.area_record import ClassAreas, ClassPixels, RegionRecord
from terradelta.receipt.checkup_record import CheckupSummary, FindingRecord, SplitRecord
from terradelta.receipt.evaluation_record import CurveRecord
from terradelta.receipt.map_record import ScalingRecord
from terradelta.receipt.schema import KINDS

from .conftest import records

REGION = RegionRecord(
    name="whole map",
    pixels=ClassPixels(7, 3),
    area_m2=ClassAreas(1.75, None),
    no_data_px=0,
    samples=None,
    changed_area=None,
    note="See above",
)
AREA = AreaReceipt(map="out", unit="m", basis=None, whole_map=REGION, regions=(), accuracy=None, notes=("one [ x",))
CHECKUP = CheckupReceipt(
    data="d",
    archive=None,
    licence=None,
    citation=None,
    splits={
        "train": SplitRecord(2, 2, ((4, 5, 2),), (3,), ("uint8",), {"0 and 1": 2}, 40, 0.5, 1, 255.0, (0.5,), (0.1,))
    },
    summary=CheckupSummary(1, 0, 0),
    findings=(FindingRecord("error", "k", "m", "c", (("train", "a"),), 0.5),),
)


def changed(receipt: Any, **fields: Any) -> str:
    return json.dumps(json.loads(to_json(receipt)) | fields)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read(kind, data):
    receipt = data.draw(records(kind))
    assert from_json(kind, to_json(receipt)) == receipt


def test_the_keys_are_the_fields_and_none_is_left_out_where_it_is_the_default():
    found = json.loads(to_json(AREA))
    assert [*found][:4] == ["schema", "kind", "created", "version"]
    assert (found["schema"], found["kind"], found["version"]) == (SCHEMA, "area", terradelta.__version__)
    assert found["basis"] is None
    assert found["whole_map"]["area_m2"] == {"unchanged": 1.75, "changed": None}
    assert "area_px" not in found["whole_map"]
    assert from_json(AreaReceipt, changed(AREA, whole_map={**found["whole_map"], "area_px": None})) == AREA


def test_a_list_of_plain_values_stays_on_one_line():
    text = to_json(CHECKUP)
    assert '"sizes": [\n        [4, 5, 2]\n      ],' in text
    assert '"notes": ["one [ x"]' in to_json(AREA)  # brackets in texts are no lists
    assert '"regions": [],' in to_json(AREA)


def test_numbers_that_json_does_not_have_are_null():
    assert plain(ScalingRecord((float("nan"), 1.0), (float("inf"), 2.0), 255.0))["high"] == [None, 2.0]
    assert plain({"a": np.float32(0.5), "b": np.int64(3), "c": (True, None, float("-inf"))}) == {
        "a": 0.5,
        "b": 3,
        "c": [True, None, None],
    }
    assert [finite(value) for value in (1, float("nan"), None, 10**400)] == [1.0, None, None, None]


def test_what_is_nested_too_deeply_is_refused_without_recursion():
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InputError, match="nested more than 64 deep do not fit into a receipt"):
        plain({"a": deep})
    with pytest.raises(InputError, match=r"\(it is nested more than 64 deep\); make one with -o FILE\.json"):
        from_json(AreaReceipt, changed(AREA, notes=deep))
    with pytest.raises(InputError, match="the text is no receipt of `terradelta area`: it cannot be read as JSON"):
        from_json(AreaReceipt, "[" * 100_000)


@pytest.mark.parametrize(
    "text", ["", "nothing", "NaN", '{"a": Infinity}', "1" * 5000, "{", f'{{"scale": 1{"0" * 400}}}']
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(InputError, match=r"it cannot be read as JSON \(.+\); make one with -o"):
        from_json(EvaluationReceipt, text, "r.json")


@pytest.mark.parametrize(
    ("text", "why"), [("[]", "no JSON object"), ("3", "no JSON object"), ("{}", "no schema version")]
)
def test_other_json_is_refused(text, why):
    with pytest.raises(InputError, match=f"r.json is no receipt of `terradelta evaluate`: it (is|has) {why}; make one"):
        from_json(EvaluationReceipt, text, "r.json")


def test_receipts_of_older_and_newer_schemas_are_refused():
    old = {"created": "2026-11-25", "version": "0.1.0", "map": "out"}
    words = (
        r"r.json was written by an older terradelta, before receipts had a schema version; this one reads schema 1: "
    )
    with pytest.raises(InputError, match=f"{words}make one with -o FILE.json"):
        from_json(AreaReceipt, json.dumps(old), "r.json")
    for schema in (0, 2, "1", True, [1]):
        with pytest.raises(InputError, match=r"has schema .*, but this terradelta reads schema 1: .*that wrote it"):
            from_json(AreaReceipt, changed(AREA, schema=schema))
    with pytest.raises(InputError, match=r"is no receipt of `terradelta data check`: its kind is 'area'"):
        from_json(CheckupReceipt, to_json(AREA))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"map": 3}, "map is 3, but must be a text"),
        ({"map": None}, "map is null, but must be a text"),
        ({"map": {"a": 1}}, "map is an object, but must be a text"),
        ({"unit": "ft"}, 'unit is "ft", but must be "m" or "px"'),
        ({"unit": ["m"]}, 'unit is a list, but must be "m" or "px"'),
        ({"basis": 1}, "basis is 1, but must be a text"),
        ({"notes": "x"}, 'notes is "x", but must be a list'),
        ({"notes": ["a", 2]}, r"notes\[1\] is 2, but must be a text"),
        ({"more": 1}, "more is 1, but must be absent, for there is no such field"),
        ({"whole_map": []}, "whole_map is a list, but must be an object"),
        ({"whole_map": {}}, "whole_map.name is missing, but must be a text"),
        ({"regions": [{**plain(REGION), "no_data_px": 1.0}]}, r"regions\[0\].no_data_px is 1.0, but must be a whole"),
        ({"regions": [{**plain(REGION), "no_data_px": True}]}, "no_data_px is true, but must be a whole number"),
        (
            {"regions": [{**plain(REGION), "no_data_px": 2**63}]},
            "no_data_px is 9223372036854775808, but must be a whole",
        ),
        ({"regions": [{**plain(REGION), "samples": "3"}]}, r'samples is "3", but must be a whole number; make one'),
        (
            {"whole_map": {**plain(REGION), "area_m2": {"unchanged": "a" * 99, "changed": 1}}},
            r"whole_map.area_m2.unchanged is .a{59}, but must be a finite number",
        ),
    ],
)
def test_the_field_that_does_not_fit_is_named(fields, words):
    with pytest.raises(InputError, match=words):
        from_json(AreaReceipt, changed(AREA, **fields))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sizes": [[1, 2]]}, r"splits.train.sizes\[0\] is a list, but must be one of 3 values, not 2"),
        ({"changed_fraction": True}, "splits.train.changed_fraction is true, but must be a finite number"),
        ({"labels": [1]}, "splits.train.labels is a list, but must be an object"),
        ({"labels": {"x": "y"}}, 'splits.train.labels.x is "y", but must be a whole number'),
    ],
)
def test_fields_of_all_types_are_checked(change, words):
    split = {**plain(CHECKUP.splits["train"]), **change}
    with pytest.raises(InputError, match=words):
        from_json(CheckupReceipt, changed(CHECKUP, splits={"train": split}))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_no_field_may_be_missing_or_of_another_type(kind, data):
    whole = json.loads(to_json(data.draw(records(kind))))
    key = data.draw(st.sampled_from([name for name in whole if whole[name] is not None]))
    with pytest.raises(InputError):
        from_json(kind, json.dumps({**whole, key: object.__name__ if not isinstance(whole[key], str) else 5}))


def test_numbers_may_be_written_without_a_point():
    text = json.dumps({"columns": ["a"], "curve": [[1, 2]]})
    split = json.loads(changed(CHECKUP))
    split["splits"]["train"]["scale"] = 255
    assert from_json(CheckupReceipt, json.dumps(split)) == CHECKUP
    assert plain(CurveRecord(("a",), ((1.0, 2.0),))) == json.loads(text)


def test_files(tmp_path: Path):
    path = tmp_path / "sub" / "r.json"
    write_receipt(AREA, path, make_folder=True)
    assert read_receipt(AreaReceipt, path) == AREA
    with pytest.raises(OutputError, match=r"none/r.json cannot be written \(No such file"):
        write_receipt(AREA, tmp_path / "none" / "r.json")
    with pytest.raises(
        InputError, match=r"none.json is no receipt of `terradelta area`: No such file or directory; make"
    ):
        read_receipt(AreaReceipt, tmp_path / "none.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"r.json is no receipt of `terradelta area`: it is no text; make one"):
        read_receipt(AreaReceipt, path)


def test_a_file_too_large_to_be_one_is_not_read(tmp_path: Path):
    path = tmp_path / "r.json"
    with path.open("wb") as stream:
        stream.truncate(256 * 2**20 + 1)
    with pytest.raises(InputError, match="it is larger than 256 MiB"):
        read_receipt(AreaReceipt, path)


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "receipt.json")
    with pytest.raises(InputError, match="it is no ordinary file"):
        read_receipt(AreaReceipt, tmp_path / "receipt.json")
