"""terradelta: what changed between two images of the same place.

Importing this package is free: no torch, no GDAL, no OpenVINO until they are used. The names below are imported from
their modules when they are first asked for.

    import terradelta

    predictor = terradelta.load_predictor()  # or terradelta.load_method("irmad"), which needs no weights
    made = terradelta.map_change("before.tif", "after.tif", "out", predictor)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terradelta.card import ModelCard
    from terradelta.errors import TerradeltaError
    from terradelta.geo.grid import Grid
    from terradelta.lab.evaluation import evaluate
    from terradelta.mapping.run import ChangeMap, MapOptions, map_change
    from terradelta.predict.classical import load_method
    from terradelta.predict.load import load_predictor
    from terradelta.predict.predictor import Predictor
    from terradelta.raster.pair import open_pair

__version__ = "0.1.0"

_HOME = {
    "ChangeMap": "mapping.run",
    "Grid": "geo.grid",
    "MapOptions": "mapping.run",
    "ModelCard": "card",
    "Predictor": "predict.predictor",
    "TerradeltaError": "errors",
    "evaluate": "lab.evaluation",
    "load_method": "predict.classical",
    "load_predictor": "predict.load",
    "map_change": "mapping.run",
    "open_pair": "raster.pair",
}

__all__ = [
    "ChangeMap",
    "Grid",
    "MapOptions",
    "ModelCard",
    "Predictor",
    "TerradeltaError",
    "__version__",
    "evaluate",
    "load_method",
    "load_predictor",
    "map_change",
    "open_pair",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  any public name
    if name == "view":  # a room that can be called: terradelta.view("OUT")
        return importlib.import_module("terradelta.view")
    if name not in _HOME:
        raise AttributeError(f"module 'terradelta' has no attribute {name!r}")
    return getattr(importlib.import_module(f"terradelta.{_HOME[name]}"), name)
