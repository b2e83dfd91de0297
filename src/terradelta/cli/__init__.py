"""The command line: thin; every command is a function of the package with a progress bar around it."""

from terradelta.cli import area, bench, data, evaluate, figure, figure_heat, importing, map, models, train
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
    "main",
    "map",
    "models",
    "train",
]
