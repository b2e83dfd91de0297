"""Derivatives of Gaussians, against scipy's."""

import numpy as np
import pytest
from scipy import ndimage

from terradelta.geo import gradients
from terradelta.geo.gradients import gaussian_gradients


@pytest.mark.parametrize("shape", [(70, 41), (1, 1), (3, 200), (9, 2)])
@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.5])
@pytest.mark.parametrize("strip_px", [1, 2000, 1 << 20])
def test_as_scipy(shape: tuple[int, int], sigma: float, strip_px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirrored borders, also where the kernel is longer than the image, whatever the strips."""
    monkeypatch.setattr(gradients, "_STRIP_PX", strip_px)
    image = np.random.default_rng(0).normal(5, 3, shape).astype(np.float32)
    found = gaussian_gradients(image, sigma)
    exact = image.astype(np.float64)
    for one, order in zip(found, ((1, 0), (0, 1)), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, ndimage.gaussian_filter(exact, sigma, order=order), rtol=0, atol=1e-5)


def test_a_plane_has_its_slopes() -> None:
    rows, cols = np.mgrid[:40, :60].astype(np.float32)
    down, right = gaussian_gradients(0.5 * rows - 2 * cols, 1.0)
    inside = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(down[inside], 0.5, atol=2e-3)
    np.testing.assert_allclose(right[inside], -2, atol=5e-3)
