"""The page of an evaluation: complete, offline, in agreement with the receipt."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from terradelta.card import ModelCard
from terradelta.lab.data.pairs import LabelledPair
from terradelta.lab.evaluation import (
    Details,
    Evaluation,
    Robustness,
    against_record,
    compare,
    evaluation_receipt,
    robustness_record,
    sweep,
)
from terradelta.lab.evaluation.calibrate import sweep_curve
from terradelta.lab.evaluation.page import render_evaluation
from terradelta.lab.evaluation.perturbations import KINDS
from terradelta.lab.evaluation.scoring import WHOLE
from terradelta.lab.metrics import ProbabilityHistogram, confusion
from terradelta.receipt import EvaluationReceipt
from terradelta.receipt.evaluation_record import MetricsRecord, ProtocolRecord, SweepRecord

CARD = ModelCard("weights <1>", "net", ("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3)


class Source:
    """Stands for a data set of four pairs."""

    name, split = "a & b", "val"

    def __len__(self) -> int:
        return 4

    def checksum(self) -> str:
        return "c0ffee"


@pytest.fixture(scope="module")
def made() -> tuple[EvaluationReceipt, Details]:
    rng = np.random.default_rng(0)
    details, found = Details(examples=1), Evaluation(0.5, ProbabilityHistogram())
    found.details = details
    for k in range(4):
        label = np.zeros((40, 40), bool)
        label[5 : 15 + 4 * k, 8:20] = True
        probability = np.where(rng.random((40, 40)) < 0.1, rng.random((40, 40)), label).astype(np.float32)
        dates = [rng.integers(0, 255, (3, 40, 40)).astype(np.uint8) for _ in range(2)]
        pair = LabelledPair(f"pair{k}", *dates, label)
        found.histogram.add(probability, label)
        found.images.append((pair.name, confusion(probability >= 0.5, label)))
        details.add(pair, probability, 0.5, None)
    receipt = evaluation_receipt(found, CARD, Source(), weights="abc")
    scores = receipt.metrics
    rows = (
        ProtocolRecord("whole", "whole images", scores),
        ProtocolRecord("patches", "patches of 64", scores, MetricsRecord(*[-0.0123] * 7)),
    )
    curve = sweep_curve(found)
    images = {name: counts.as_tuple() for name, counts in found.images}
    card = Robustness(KINDS[:2], {"season": "needs bands"}, 0.5, WHOLE, 0, {("none", 0.0): images})
    card.counts |= {(kind.name, level): images for kind in KINDS[:2] for level in kind.levels}
    receipt = replace(
        receipt,
        protocols=rows,
        sweep=SweepRecord(sweep(found), curve.columns, curve.curve),
        against=against_record(compare(images, images), "<other>", None),
        robustness=robustness_record(card),
    )
    return receipt, details


def render(receipt: EvaluationReceipt, details: Details | None = None) -> str:
    """The page in one line."""
    return " ".join(render_evaluation(receipt, details).split())


class Balanced(HTMLParser):
    """Collects the ids and checks that tags close in order."""

    VOID = frozenset({"meta", "img", "br", "input", "circle", "rect", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_all_sections_are_there_and_close(made) -> None:
    page = render(*made)
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    expected = ["answer", "scores", "curves", "sizes", "boundary", "protocols", "sweep", "against", "robustness"]
    assert [each for each in parser.ids if each != "colours"] == [*expected, "images", "how"]


def test_numbers_are_those_of_the_receipt(made) -> None:
    receipt, _ = made
    page = render(*made)
    low, high = receipt.intervals.metrics["f1"]
    for words in (
        f"{100 * receipt.metrics.f1:.1f} %",
        f"{receipt.metrics.kappa:.4f}",
        f"{low:.4f} to {high:.4f}",
        f"ECE {receipt.calibration.ece:.4f}",
        "-0.0123",
        "p = 1.0000",
        "c0ffee",
        "<code>abc</code>",
    ):
        assert words in page
    assert page.count("<svg") == 4 + 2  # curves, sizes, sweep, two kinds of disturbance


def test_nothing_is_fetched_and_names_are_escaped(made) -> None:
    page = render(*made)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "weights &lt;1&gt; on a &amp; b, val" in page
    assert "&lt;other&gt;" in page
    assert "<other>" not in page


def test_pictures_come_in_both_palettes(made) -> None:
    page = render(*made)
    assert page.count('<img class="paper"') == page.count('<img class="safe"') == 2
    assert page.count('alt="Before: pair') == page.count('alt="After: pair') == 2
    assert "(most errors)" in page
    assert "(best F1)" in page


def test_without_extras_the_page_is_shorter(made) -> None:
    receipt, _ = made
    extras = dict.fromkeys(("protocols", "sweep", "against", "robustness", "intervals"))
    page = render(replace(receipt, **extras))
    for name in ("protocols", "sweep", "against", "robustness", "images"):
        assert f'id="{name}"' not in page
    assert "95 % interval" in page


def test_without_details_it_is_shorter_still(made) -> None:
    receipt, _ = made
    counted = dict.fromkeys(("precision_recall", "calibration", "by_size", "boundary", "images", "average_precision"))
    page = render(replace(receipt, **counted))
    for name in ("curves", "sizes", "boundary"):
        assert f'id="{name}"' not in page
    assert f"{receipt.metrics.f1:.4f}" in page
