"""Memory goes back to the system, and results do not depend on it."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio._env import get_gdal_config

from terradelta.area.zonal import zonal_areas
from terradelta.mapping import memory, scene
from terradelta.mapping.plan import MapOptions
from terradelta.mapping.run import map_change
from terradelta.predict.classical.cva import Cva
from terradelta.predict.load import load_predictor
from terradelta.products.change import ChangeRaster
from terradelta.view.probability import Probability

GLIBC = hasattr(ctypes.CDLL(None), "malloc_trim") if sys.platform.startswith("linux") else False

# Many small blocks, of which the last stays in use: so glibc cannot shrink its heap by itself.
CODE = """
import os, sys
from terradelta.mapping.memory import trim
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
blocks = [b"x" * 60_000 for _ in range(1500)]
last = blocks.pop()
del blocks
before = resident()
trim()
print(before - resident())
"""


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_trim_gives_freed_memory_back():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40e6


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    memory.trim()
    memory.keep_little()


def test_a_program_that_maps_loads_no_library_of_tables():
    code = """
import sys
from terradelta.mapping.memory import keep_little
keep_little()
import pyogrio.raw
assert not {"geopandas", "pandas", "pyarrow"} & set(sys.modules)
import importlib.util
assert all(importlib.util.find_spec(name) for name in ("geopandas", "pandas"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_rested_predictor_predicts_the_same():
    predictor = load_predictor("default", threads=1)
    dates = np.random.default_rng(0).integers(0, 255, (2, 1, 3, 64, 64)).astype(np.uint8)
    first, strange = predictor.predict(*dates), predictor.strangeness(*dates)
    assert strange is not None
    predictor.release()
    predictor.release()
    assert np.array_equal(predictor.predict(*dates), first)
    assert np.array_equal(predictor.strangeness(*dates), strange)


def test_memory_is_given_back_as_often_for_wide_scenes_as_for_tall_ones(monkeypatch):
    trimmed: list[int] = []
    written: list[int] = []
    monkeypatch.setattr(scene, "trim", lambda: trimmed.append(sum(written)))
    monkeypatch.setattr(scene, "TRIM_EVERY_PX", 1000)

    class Rows:
        def pieces(self, number: int):
            yield from ((number, np.zeros(shape, np.float32)) for shape in ((4, 100), (3, 100), (4, 100), (10, 100)))

    scene.write_rows(Rows(), lambda _, piece: written.append(piece.size), iter(range(2)))
    assert trimmed == [1100, 2100, 3200, 4200]


def test_gdal_never_keeps_a_whole_scene(monkeypatch, write_tiff, pair_values, tmp_path):
    """Its cache is a twentieth of the machine's memory by default: what is read of a scene would stay until then."""
    seen: dict[str, int] = {}

    def seeing(name: str):
        read = getattr(rasterio.DatasetReader, name)

        def wrapped(source, *arguments, **options):
            seen[source.name] = max(seen.get(source.name, 0), get_gdal_config("GDAL_CACHEMAX"))
            return read(source, *arguments, **options)

        monkeypatch.setattr(rasterio.DatasetReader, name, wrapped)

    seeing("read")
    seeing("read_masks")
    paths = [write_tiff(f"{name}.tif", values) for name, values in zip("ab", pair_values, strict=True)]
    made = map_change(*paths, tmp_path / "out", Cva(), MapOptions(min_area_m2=1))
    with ChangeRaster(made.change) as change:
        zonal_areas(change)
        probability = Probability(made.probability, change.grid)
        probability.read(next(change.tiles()))
        probability.close()
    assert {"a.tif", "b.tif", "change.tif", "probability.tif"} <= {name.rpartition("/")[2] for name in seen}
    assert max(seen.values()) <= 64 << 20
