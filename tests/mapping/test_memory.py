"""Memory goes back to the system, and results do not depend on it."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

from terradelta.mapping import memory, scene
from terradelta.predict.load import load_predictor

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


def test_a_rested_predictor_predicts_the_same():
    predictor = load_predictor("default", threads=1)
    dates = np.random.default_rng(0).integers(0, 255, (2, 1, 3, 64, 64)).astype(np.uint8)
    first = predictor.predict(*dates)
    predictor.release()
    predictor.release()
    assert np.array_equal(predictor.predict(*dates), first)


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
