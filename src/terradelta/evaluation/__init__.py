"""Scores of any predictor on labelled pairs: counted by a stated protocol, with intervals, in a receipt."""

from terradelta.evaluation.calibrate import calibrated_card, sweep
from terradelta.evaluation.comparison import Comparison, compare, read_images
from terradelta.evaluation.details import Details, Example
from terradelta.evaluation.protocol import PROTOCOLS, WHOLE, Protocol
from terradelta.evaluation.receipt import evaluation_receipt, receipt_text, with_receipt
from terradelta.evaluation.robustness import Robustness, robustness
from terradelta.evaluation.run import Evaluation, evaluate, thinned

__all__ = [
    "PROTOCOLS",
    "WHOLE",
    "Comparison",
    "Details",
    "Evaluation",
    "Example",
    "Protocol",
    "Robustness",
    "calibrated_card",
    "compare",
    "evaluate",
    "evaluation_receipt",
    "read_images",
    "receipt_text",
    "robustness",
    "sweep",
    "thinned",
    "with_receipt",
]
