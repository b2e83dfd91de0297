"""Scores of any predictor on labelled pairs: counted by a stated protocol, with intervals, in a receipt."""

from terradelta.lab.evaluation.calibrate import calibrated_card, sweep
from terradelta.lab.evaluation.comparison import Comparison, against_record, compare, read_images
from terradelta.lab.evaluation.details import Details, Example
from terradelta.lab.evaluation.evaluator import Evaluation, evaluate, thinned
from terradelta.lab.evaluation.robustness import Robustness, robustness, robustness_record
from terradelta.lab.evaluation.score_receipt import evaluation_receipt, with_receipt
from terradelta.lab.evaluation.scoring import PROTOCOLS, WHOLE, Scoring

__all__ = [
    "PROTOCOLS",
    "WHOLE",
    "Comparison",
    "Details",
    "Evaluation",
    "Example",
    "Robustness",
    "Scoring",
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
