"""A warning before the run where a date looks unlike the training images."""

import dataclasses

import numpy as np
import pytest

from terradelta.mapping.strangeness import domain_warnings
from terradelta.raster.pair import open_pair

from .conftest import BoxPredictor


class Looking(BoxPredictor):
    """Whose strangeness is the mean brightness of a date, in tens."""

    def __init__(self, limit: float | None) -> None:
        super().__init__()
        self.card = dataclasses.replace(self.card, domain_limit=limit)
        self.shapes: list[tuple[int, ...]] = []

    def strangeness(self, before, after):
        self.shapes.append(before.shape)
        return np.array([[before.mean()], [after.mean()]], np.float32) / 10


@pytest.fixture
def opened(write_tiff):
    """A first date of brightness 50, a second of 90; 300 x 700 pixels."""
    paths = [write_tiff(f"{v}.tif", np.full((3, 300, 700), v, np.uint8)) for v in (50, 90)]
    with open_pair(*paths) as pair:
        yield pair


def test_the_date_that_is_further_off_is_named(opened):
    predictor = Looking(6.0)
    (warning,) = domain_warnings(opened, predictor, None)
    assert warning.startswith(
        "Warning: to the model box the second date looks unlike what it was trained on (9.0; 19 of"
    )
    assert "within 6.0)" in warning
    assert predictor.shapes == [(1, 3, 256, 256)] * 9


def test_within_the_limit_and_without_one_nothing_is_said(opened):
    assert domain_warnings(opened, Looking(9.5), None) == []
    silent = Looking(None)
    assert domain_warnings(opened, silent, None) == []
    assert silent.shapes == []


def test_windows_without_data_do_not_count(write_tiff):
    values = np.full((3, 256, 700), 50, np.uint8)
    values[:, :, 200:] = 0
    paths = [write_tiff(f"{name}.tif", values, nodata=0) for name in "ab"]
    predictor = Looking(1.0)
    with open_pair(*paths) as pair:
        assert len(domain_warnings(pair, predictor, None)) == 1
    assert len(predictor.shapes) == 1
