"""The command line: thin; every command is a function of the package with a progress bar around it."""

from terradelta.cli import area, bench, data, evaluation, figures, heat, importing, mapping, models, training
from terradelta.cli._base import app, main

__all__ = [
    "app",
    "area",
    "bench",
    "data",
    "evaluation",
    "figures",
    "heat",
    "importing",
    "main",
    "mapping",
    "models",
    "training",
]
