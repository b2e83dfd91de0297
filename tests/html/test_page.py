"""Templates: every value is escaped, on every page, and a name that does not exist is an error."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

import terradelta
from terradelta.area.page import area_page
from terradelta.html.page import render
from terradelta.html.pictures import Quicklooks
from terradelta.html.text import sentence, shown
from terradelta.lab.bench.tables import Column, Table, html
from terradelta.lab.data.pairs import LabelledPair
from terradelta.lab.doctor import Checkup, Finding, Severity
from terradelta.lab.doctor.page import render_checkup
from terradelta.lab.evaluation import Details
from terradelta.lab.evaluation.page import render_evaluation
from terradelta.mapping.batch_page import PairCard, batch_page
from terradelta.mapping.report import render_report
from terradelta.receipt import AreaReceipt, CheckupReceipt, EvaluationReceipt, MapReceipt

BAD = "\"><script>alert(1)</script>'&\x00\x1b\u202e\ufeff[31m{{ 7 * 7 }} --draw"
SAFE = "\"><script>alert(1)</script>'&\\x00\\x1b\\u202e\\ufeff[31m{{ 7 * 7 }} --draw"
"""What a reader sees of it."""


def hostile(kind: Any, text: str = BAD) -> Any:
    """A value of a type whose every text, in names of keys too, is hostile."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        types_of = typing.get_type_hints(kind)
        return kind(**{f.name: hostile(types_of[f.name], text) for f in dataclasses.fields(kind) if f.init})
    if origin in (typing.Union, types.UnionType):
        return hostile(next(each for each in parts if each is not type(None)), text)
    if origin is Literal:
        return parts[0]
    if origin is tuple:
        parts = (parts[0],) * 4 if parts[-1] is Ellipsis else parts
        return tuple(hostile(each, text) for each in parts)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {text: hostile(parts[1], text)}
    return {bool: True, int: 3, float: 0.25}.get(kind, text)


def map_report(text: str) -> str:
    dates = np.zeros((2, 4, 6, 3), np.uint8)
    quicklooks = Quicklooks(*dates, np.zeros((4, 6), np.float32), np.ones((4, 6), bool), np.zeros((4, 6), bool))
    return render_report(hostile(MapReceipt, text), quicklooks)


def evaluation(text: str) -> str:
    details = Details(examples=1)
    label = np.eye(8, dtype=bool)
    pair = LabelledPair(text, *np.zeros((2, 3, 8, 8), np.uint8), label)
    details.add(pair, (1 - label).astype(np.float32), 0.5, None)
    return render_evaluation(hostile(EvaluationReceipt, text), details)


def checkup(text: str) -> str:
    findings = [Finding(severity, text, text, text, ((text, text),)) for severity in Severity]
    records: list[Any] = [types.SimpleNamespace(split=text, name=text, index=0)]
    sources: dict[str, Any] = {text: None}
    receipt = hostile(CheckupReceipt, text)
    pictures = [np.zeros((2, 2, 3), np.uint8)] * 3
    with mock.patch.multiple(
        "terradelta.lab.doctor.page", checkup_receipt=lambda found: receipt, _pictures=lambda pairs, index: pictures
    ):
        return render_checkup(Checkup(text, text, None, sources, records=records, findings=findings))


def table(text: str) -> str:
    return html(Table(text, (Column(text),), ((text,),), (text,)))


def index(text: str) -> str:
    cards = [PairCard(text, f"{text}/report.html", f"{text}/thumbnail.jpg", text), PairCard(text, "", "", text)]
    return batch_page(cards, 3, 1)


PAGES: dict[str, Callable[[str], str]] = {
    "map": map_report,
    "evaluation": evaluation,
    "area": lambda text: area_page(hostile(AreaReceipt, text)),
    "checkup": checkup,
    "table": table,
    "index": index,
}


class Elements(HTMLParser):
    """Elements with the names of their attributes, the text between, and the ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.text, self.ids = "", []
        self.labels: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))
        self.ids += [value for name, value in attrs if name == "id"]
        self.labels |= {value or "" for name, value in attrs if name == "aria-labelledby"}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", PAGES)
def test_hostile_text_stays_text(name: str) -> None:
    """It makes no element and no attribute that harmless text does not make, and is shown in full."""
    page, harmless = (PAGES[name](text) for text in (BAD, "harmless --draw"))
    assert "alert(1)" in page
    assert not set("\x00\x1b\u202e\ufeff") & set(page)
    assert Elements(page).tags == Elements(harmless).tags
    assert SAFE in Elements(page).text


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_offline_and_names_its_parts(name: str) -> None:
    page = PAGES[name]("harmless")
    assert page.startswith("<!DOCTYPE html>\n<html lang=")
    assert page.endswith("</html>\n")
    assert page.count("<html") == page.count("<style>") == 1
    outward = {"link", "iframe", "object"} | ({"a"} if name != "index" else set())  # the index leads to the reports
    assert not outward & {tag for tag, _ in Elements(page).tags}
    assert "http" not in page.replace("http://www.w3.org", "")
    found = Elements(page)
    assert len(found.ids) == len(set(found.ids))
    assert found.labels <= set(found.ids)


def test_every_template_of_a_page_is_tried() -> None:
    root = Path(terradelta.__file__).parent
    pages = [path for path in root.rglob("*.j2") if "extends" in path.read_text(encoding="utf-8")]
    assert len(pages) == len(PAGES)


def test_a_value_that_was_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'receipt' is undefined"):
        render("area/page.html.j2")


def test_what_is_shown() -> None:
    assert shown(None) == "–"
    assert shown("a\tb\n\x7f\x9b") == "a\tb\n\\x7f\\x9b"
    assert shown(Markup("<b>")) == "<b>"
    assert sentence("<b> (--x)") == Markup('&lt;b&gt; <span class="nobreak">(--x)</span>')
    assert sentence(None) == "–"
