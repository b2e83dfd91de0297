"""The core never loads torch: each of its modules is imported in a fresh interpreter."""

import pkgutil
import subprocess
import sys

import terradelta

TRAINING = (
    "terradelta.lab.networks",
    "terradelta.lab.losses",
    "terradelta.lab.training",
    "terradelta.lab.export",
    "terradelta.lab.bench",
)
WITH_TORCH = ("terradelta.lab.figures.layer_maps",)
HEAVY = ("torch", "lightning_fabric", "kornia", "onnx", "onnxscript", "onnxruntime")


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
    assert not set(HEAVY) & loaded


def test_the_check_can_fail() -> None:
    assert "torch" in _loaded_after("import terradelta.lab.inference.torch_predictor")
