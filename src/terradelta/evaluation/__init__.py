"""Scores of any predictor on labelled pairs: counted by a stated protocol, with intervals, in a receipt."""

from terradelta.evaluation.calibrate import calibrated_card, sweep
from terradelta.evaluation.comparison import Comparison, against_record, compare, read_images
from terradelta.evaluation.details import Details, Example
from terradelta.evaluation.protocol import PROTOCOLS, WHOLE, Protocol
from terradelta.evaluation.receipt import evaluation_receipt, with_receipt
from terradelta.evaluation.robustness import Robustness, robustness, robustness_record
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
    "against_record",
    "calibrated_card",
    "compare",
    "evaluate",
    "evaluation_receipt",
    "read_images",
    "robustness",
    "robustness_record",
    "sweep",
    "thinned",
    "with_receipt",
]
