"""The command line: thin; every command is a function of the package with a progress bar around it."""

import os

# numpy's BLAS is asked for small products only, for which it would wake all cores and let them spin: read when loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from terradelta.cli import area, bench, data, evaluate, figure, figure_heat, importing, info, map, models, train, view
from terradelta.cli._base import app, main

__all__ = [
    "app",
    "area",
    "bench",
    "data",
    "evaluate",
    "figure",
    "figure_heat",
    "importing",
    "info",
    "main",
    "map",
    "models",
    "train",
    "view",
]
