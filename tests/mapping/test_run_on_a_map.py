"""What GIS programs show: unchanged ground shines through, and products lie on images without a georeference."""

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from rasterio.errors import NotGeoreferencedWarning
from tests.mapping.conftest import PixelPredictor, Writer

from terradelta.mapping.run import MapOptions, map_change


def test_only_change_is_opaque(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    made = map_change(before, after, tmp_path / "out", PixelPredictor())
    with rasterio.open(made.change) as change:
        colours = change.colormap(1)
        mask = change.read(1)
    assert mask.any()
    assert colours[1] == (255, 0, 0, 255)
    assert all(colour[3] == 0 for value, colour in colours.items() if value != 1)


def test_products_of_plain_images_lie_where_gis_programs_draw_the_images(tmp_path):
    """Row r of an image without a georeference is drawn at y = -r; areas and measures are in pixels all the same."""
    values = np.full((3, 40, 60), 80, np.uint8)
    later = values.copy()
    later[:, 5:15, 30:50] += 140
    paths = []
    for name, each in (("a.png", values), ("b.png", later)):
        paths.append(tmp_path / name)
        with (
            pytest.warns(NotGeoreferencedWarning),
            rasterio.open(paths[-1], "w", driver="PNG", count=3, height=40, width=60, dtype="uint8") as target,
        ):
            target.write(each)
    made = map_change(*paths, tmp_path / "out", PixelPredictor(), MapOptions(min_area_m2=0))
    meta, _, (shape,), fields = pyogrio.raw.read(made.polygons, layer="change")
    polygon = shapely.from_wkb(shape)
    assert polygon.bounds == (30, -15, 50, -5)
    columns = dict(zip(meta["fields"], fields, strict=True))
    assert (columns["area_px"][0], columns["perimeter_px"][0], columns["pixels"][0]) == (200, 60, 200)
    assert columns["before_red"][0] == 80
    assert columns["after_red"][0] == 220
    for path in (made.change, made.probability):
        with rasterio.open(path) as source:
            assert source.crs is None
            assert source.bounds == (0, -40, 60, 0)
            (row, col) = source.index(40, -10)
            assert (source.read(1)[row, col] > 0.5, row, col) == (True, 10, 40)
    (found,) = made.receipt.largest_polygons
    assert (5 < found.row < 15, 30 < found.col < 50) == (True, True)
    assert made.receipt.grid.transform == (1, 0, 0, 0, -1, 0)
