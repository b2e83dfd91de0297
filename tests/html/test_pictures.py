"""Pictures as files: what is written is what is read, from any number of threads."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from terradelta.html.pictures import file_content


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_png_gives_back_every_value(bands: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (5, 7, bands), np.uint8)
    read = np.asarray(Image.open(io.BytesIO(file_content(picture, "PNG"))))
    np.testing.assert_array_equal(read.reshape(picture.shape), picture)


@pytest.mark.parametrize(("kind", "bands", "options"), [("JPEG", 3, {"quality": 88}), ("WEBP", 4, {"quality": 85})])
def test_a_smooth_picture_survives_what_loses(kind: str, bands: int, options: dict[str, int]) -> None:
    rows, cols = np.mgrid[:64, :48]
    picture = np.stack([rows + cols, 2 * rows, 3 * cols, np.full_like(rows, 128)][:bands], axis=2).astype(np.uint8)
    read = np.asarray(Image.open(io.BytesIO(file_content(picture, kind, **options))))
    assert read.shape == picture.shape
    assert np.abs(read.astype(int) - picture).max() < 16


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_no_other_thread_hears_of_it(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A block that ignores warnings ends those of other threads when it ends, and their warnings become errors."""
    monkeypatch.setattr(warnings, "catch_warnings", None)
    assert file_content(np.zeros((8, 8, 3), np.uint8), kind)
