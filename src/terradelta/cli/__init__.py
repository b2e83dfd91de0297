"""The command line: thin; every command is a function of the package with a progress bar around it."""

from terradelta.cli import bench, data, mapping, models, training
from terradelta.cli._base import app, main

__all__ = ["app", "bench", "data", "main", "mapping", "models", "training"]
