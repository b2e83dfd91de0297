"""terradelta: what changed between two images of the same place.

Importing this package is free: no torch, no GDAL, no OpenVINO until they are used. The names below are imported from
their modules when they are first asked for.

    import terradelta as td

    made = td.map_change("before.tif", "after.tif", "out", td.load_model("default"))  # files to a folder of products
    ds = td.detect_change("before.tif", "after.tif")  # or arrays of xarray, dask and numpy; gives a Dataset
    gdf = td.change_polygons(ds, min_area_m2=20)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terradelta.arrays.change_polygons import change_polygons
    from terradelta.arrays.detect import detect_change
    from terradelta.card import ModelCard
    from terradelta.errors import TerradeltaError
    from terradelta.geo.grid import Grid
    from terradelta.lab.data.opening import open_pairs
    from terradelta.lab.evaluation import evaluate
    from terradelta.mapping.run import ChangeMap, MapOptions, map_change
    from terradelta.predict.choice import load_model, models
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
    "change_polygons": "arrays.change_polygons",
    "detect_change": "arrays.detect",
    "evaluate": "lab.evaluation",
    "load_method": "predict.classical",
    "load_model": "predict.choice",
    "load_predictor": "predict.load",
    "map_change": "mapping.run",
    "models": "predict.choice",
    "open_pair": "raster.pair",
    "open_pairs": "lab.data.opening",
}

__all__ = [
    "ChangeMap",
    "Grid",
    "MapOptions",
    "ModelCard",
    "Predictor",
    "TerradeltaError",
    "__version__",
    "change_polygons",
    "detect_change",
    "evaluate",
    "load_method",
    "load_model",
    "load_predictor",
    "map_change",
    "models",
    "open_pair",
    "open_pairs",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  any public name
    if name == "view":  # a room that can be called: terradelta.view("OUT")
        return importlib.import_module("terradelta.view")
    if name not in _HOME:
        raise AttributeError(f"module 'terradelta' has no attribute {name!r}")
    return getattr(importlib.import_module(f"terradelta.{_HOME[name]}"), name)
