"""JSON and text from strangers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terradelta.card import ModelCard
from terradelta.cli._base import PrintableConsole
from terradelta.errors import InputError, ModelError, RasterError
from terradelta.lab.evaluation.comparison import read_images
from terradelta.lab.evaluation.score_receipt import with_receipt
from terradelta.raster.aoi import parse_area
from terradelta.raster.stac import read_input
from terradelta.strangers import printable, read_json

HOSTILE = {
    "nested arrays": "[" * 10**5 + "]" * 10**5,
    "nested objects": '{"a":' * 10**5 + "1" + "}" * 10**5,
    "half open": "[" * 10**5,
    "an integer of 5,000 digits": '{"a": ' + "9" * 5000 + "}",
    "a number beyond float64": '{"a": 1e999}',
    "no text": b"\xff\xfe\x00",
    "cut off": '{"a": "b',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_beyond_the_limits_is_a_value_error(name):
    with pytest.raises(ValueError, match=r"."):
        read_json(HOSTILE[name])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(10**20), 10**20)
    | st.text(st.characters(codec="ascii", exclude_categories=["Cc"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_all_other_json_is_what_python_makes_of_it(value):
    assert read_json(json.dumps(value)) == value


def test_brackets_in_strings_are_no_nesting():
    text = json.dumps({"a": "[" * 1000 + '"{\\'})
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("a\rb\x9bc\u202ed\ud800e", "a\\rb\\x9bc\\u202ed\\ud800e"),
        ("tabs\tlines\nä 字 🛰", "tabs\tlines\nä 字 🛰"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown
    printable(text).encode()
    assert read_json(json.dumps({text: [text]})) == {shown: [shown]}
    assert read_json(json.dumps([text], ensure_ascii=False)) == [shown] if "\n" not in text else True


def test_the_terminal_gets_nothing_to_act_upon(capsys):
    console = PrintableConsole(highlight=False)
    console.print("[red]error:[/red]", "a\x1b[31mb\x07", markup=False)
    assert "\x1b" not in (out := capsys.readouterr().out)
    assert "a\\x1b[31mb\\x07" in out


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "no text"])
def test_cards_items_areas_and_receipts_end_in_one_message(tmp_path, name):
    text = HOSTILE[name]
    path = tmp_path / "a.json"
    path.write_text(text)
    card = ModelCard("x", "n", ("grey",), (0.5,), (0.2,))
    with pytest.raises(ModelError, match="not readable"):
        ModelCard.from_json(text)
    with pytest.raises(InputError):
        parse_area(str(path))
    with pytest.raises(RasterError):
        read_input(path, None)
    with pytest.raises(InputError):
        read_images(path, "sha256", "whole images")
    with pytest.raises(InputError):
        with_receipt(card, path)
