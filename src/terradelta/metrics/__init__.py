"""Scores of masks and probabilities against labels; arrays in, numbers out."""

from terradelta.metrics.boundary import BoundaryScores
from terradelta.metrics.calibration import LogitHistogram, LogitScaling
from terradelta.metrics.confusion import METRICS, Confusion, confusion, metrics_of
from terradelta.metrics.objects import SizeScores
from terradelta.metrics.resampling import Interval, bootstrap, permutation_test
from terradelta.metrics.thresholds import ProbabilityHistogram

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
