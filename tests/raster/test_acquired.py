import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from terradelta.geo.grid import Grid
from terradelta.raster.acquired import acquired
from terradelta.raster.array_source import array_source
from terradelta.raster.source import read_source

UTC = datetime.UTC


def named(name: str, stated: str = ""):
    grid = Grid(None, Affine.identity(), (2, 3))
    source = array_source(np.zeros((1, 2, 3), np.uint8), grid, label=name, dtype="uint8")
    return dataclasses.replace(source, acquired=stated)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("dir_1999-01-01/naip_2009-08-18.tif", (2009, 8, 18), (2009, 8, 18, 23, 59, 59)),
        ("T31UFU_20200101T105321_B04.jp2", (2020, 1, 1, 10, 53, 21), (2020, 1, 1, 10, 53, 21)),
        ("LC08_L2SP_033033_20210502_20210517_02_T1_SR_B4.TIF", (2021, 5, 2), (2021, 5, 2, 23, 59, 59)),
        ("a_2020_02_29.tif", (2020, 2, 29), (2020, 2, 29, 23, 59, 59)),
    ],
)
def test_a_name_may_say_when(name, first, last):
    found = acquired(named(name))
    assert (found.first, found.last) == (datetime.datetime(*first, tzinfo=UTC), datetime.datetime(*last, tzinfo=UTC))
    assert found.known_from == "file name"


@pytest.mark.parametrize(
    "name",
    ["before.tif", "taizhou_2000.tif", "a_2021-02-30.tif", "1202101015.tif", "a_2021-0101.tif", "x_20211301.tif"],
)
def test_a_name_may_say_nothing(name):
    assert acquired(named(name)) is None


@pytest.mark.parametrize("text", ["2020-03-02T10:00:00Z", "2020-03-02 10:00:00", "2020-03-02T12:00:00.5+02:00"])
def test_metadata_go_before_the_name(text):
    found = acquired(named("a_1999-01-01.tif", text))
    assert found.first == found.last == datetime.datetime(2020, 3, 2, 10, tzinfo=UTC)
    assert found.known_from == "metadata"


def test_metadata_that_are_no_time_do_not_count():
    assert acquired(named("a.tif", "yesterday")) is None


def test_a_product_says_it_in_its_metadata(tmp_path: Path):
    path = tmp_path / "a.tif"
    profile = {"count": 1, "height": 2, "width": 3, "dtype": "uint8", "crs": "EPSG:3857", "transform": Affine.scale(2)}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2018-07-04 09:30:00")
    assert acquired(read_source(path)).first == datetime.datetime(2018, 7, 4, 9, 30, tzinfo=UTC)
