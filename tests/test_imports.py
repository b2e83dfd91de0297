"""The core never loads torch: each of its modules is imported in a fresh interpreter. No circle among files."""

import graphlib
import pkgutil
import subprocess
import sys

import grimp
import pytest

import terradelta

TRAINING = (
    "terradelta.lab.networks",
    "terradelta.lab.losses",
    "terradelta.lab.training",
    "terradelta.lab.export",
    "terradelta.lab.bench",
)
WITH_TORCH = (
    "terradelta.lab.inference.fused",
    "terradelta.lab.inference.torch_predictor",
    "terradelta.lab.figures.layer_maps",
)
HEAVY = ("torch", "lightning_fabric", "kornia", "onnx", "onnxscript", "onnxruntime")
ARRAYS = ("xarray", "rioxarray", "pystac")  # pyogrio looks for geopandas, pandas and pyarrow by itself


def _core() -> list[str]:
    names = [m.name for m in pkgutil.walk_packages(terradelta.__path__, "terradelta.", onerror=lambda name: None)]
    return ["terradelta", *(n for n in names if not n.startswith(TRAINING) and n not in WITH_TORCH)]


def _loaded_after(imports: str) -> set[str]:
    code = f"import sys\n{imports}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_core_is_found() -> None:
    names = ["card", "geo.grid", "predict.openvino", "predict.load", "lab.evaluation", "html", "lab.data.folder"]
    assert {f"terradelta.{name}" for name in names} <= set(_core())


def test_importing_the_package_loads_nothing_else() -> None:
    assert not {*HEAVY, "numpy", "rasterio", "openvino"} & _loaded_after("import terradelta")


def test_importing_the_whole_core_loads_no_torch() -> None:
    imports = "\n".join(f"import {name}" for name in _core())
    loaded = _loaded_after(imports)
    assert set(_core()) <= loaded
    assert not {*HEAVY, *ARRAYS} & loaded


def test_the_check_can_fail() -> None:
    assert "torch" in _loaded_after("import terradelta.lab.inference.torch_predictor")


def _order(imports: dict[str, set[str]]) -> list[str]:
    return list(graphlib.TopologicalSorter(imports).static_order())


def test_no_files_import_one_another_in_a_circle() -> None:
    """Imports inside of functions count too, those for annotations alone do not."""
    graph = grimp.build_graph("terradelta", exclude_type_checking_imports=True, cache_dir=None)
    order = _order({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    assert order.index("terradelta.lab.networks.mccrnet") < order.index("terradelta.lab.inference.fused")
    with pytest.raises(graphlib.CycleError):
        _order({"a": {"b"}, "b": {"a"}})
