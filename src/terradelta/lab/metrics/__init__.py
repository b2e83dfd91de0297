"""Scores of masks and probabilities against labels; arrays in, numbers out."""

from terradelta.lab.metrics.boundary import BoundaryScores
from terradelta.lab.metrics.calibration import LogitHistogram, LogitScaling
from terradelta.lab.metrics.confusion import METRICS, Confusion, confusion, metrics_of
from terradelta.lab.metrics.objects import SizeScores
from terradelta.lab.metrics.resampling import Interval, bootstrap, permutation_test
from terradelta.lab.metrics.thresholds import ProbabilityHistogram

__all__ = [
    "METRICS",
    "BoundaryScores",
    "Confusion",
    "Interval",
    "LogitHistogram",
    "LogitScaling",
    "ProbabilityHistogram",
    "SizeScores",
    "bootstrap",
    "confusion",
    "metrics_of",
    "permutation_test",
]
