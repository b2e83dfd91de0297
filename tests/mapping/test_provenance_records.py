"""The records of a map's receipt: what was read, how it lies, what was made of it."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from terradelta.card import ModelCard
from terradelta.geo.grid import Grid
from terradelta.geo.shift import ShiftField
from terradelta.mapping.provenance import (
    field_record,
    grid_record,
    input_record,
    model_record,
    paired_record,
    scaling_record,
)
from terradelta.mapping.run import MapOptions, map_change
from terradelta.raster.pair import open_pair
from terradelta.raster.scaling import Scaling
from terradelta.receipt import MapReceipt, read_receipt
from terradelta.receipt.map_record import (
    BandRecord,
    FieldRecord,
    GridRecord,
    PlacementRecord,
    ScalingRecord,
    ValuesRecord,
)

from .conftest import PixelPredictor, Writer

UTM = CRS.from_epsg(32614)


def write(path, values, transform, **profile):
    profile = {"count": 1, "height": 40, "width": 50, "dtype": values.dtype, "crs": UTM, **profile}
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as file:
        file.write(values)
    return path


def test_inputs_and_what_they_have_in_common(tmp_path):
    """Two dates, the second a quarter of a pixel right of and half a pixel below the first."""
    values = np.full((1, 40, 50), 9, "uint8")
    values[0, 1:21] = 0
    first = write(tmp_path / "a.tif", values, Affine(4, 0, 500000, 0, -4, 5200000), nodata=0)
    second = write(tmp_path / "b.tif", values.astype("float32"), Affine(4, 0, 500001, 0, -4, 5199998), nodata=np.nan)
    with open_pair(first, second) as pair:
        before, after = (input_record(*each) for each in zip(pair.sources, pair.preflight.placements, strict=True))
        common = paired_record(pair.preflight)
    assert (before.path, before.bytes, before.driver) == (str(first), first.stat().st_size, "GTiff")
    assert (before.grid.crs, before.grid.height, before.grid.width) == ("EPSG:32614", 40, 50)
    assert before.grid.transform == (4.0, 0.0, 500000.0, 0.0, -4.0, 5200000.0)
    assert (before.dtypes, before.bands, before.alpha_bands) == (("uint8",), ("band 1",), ())
    assert (before.nodata, before.masks, after.nodata) == ((0.0,), ("nodata",), ("nan",))
    assert before.values == ValuesRecord(None, None)
    assert before.placement == PlacementRecord(False, (1.0, 1.0), 1.0, 39 * 49 / 2000, None)
    assert (after.placement.warped, after.placement.resampling) == (True, "bilinear")
    assert after.placement.shift_px == pytest.approx((0.5, 0.75))
    assert common.bands == BandRecord(("band 1",), (1,), (1,))
    assert (common.valid_fraction, common.sampled_px) == (19 / 39, 39 * 49)
    assert "different dtypes (uint8 and float32)" in common.warnings[0]


def test_a_grid_without_a_place():
    grid = Grid(None, Affine(1, 0, 0, 0, 1, 0), (3, 4))
    assert grid_record(grid) == GridRecord(None, (1, 0, 0, 0, 1, 0), 3, 4, None)


def test_values_that_are_not_finite_are_none():
    assert scaling_record(Scaling((float("-inf"), 1.0), (2.0, 3.0))) == ScalingRecord((None, 1.0), (2.0, 3.0), 255.0)


def test_a_field_by_its_nodes():
    field = ShiftField((30, 40), np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]))
    nodes = (((1.0, 2.0), (3.0, 4.0)), ((5.0, 6.0), (7.0, 8.0)))
    assert field_record(field) == FieldRecord((30, 40), nodes)


def test_the_model_is_its_card_and_what_ran_it():
    card = ModelCard("w", "net", ("red", "nir"), (0.0, 0.0), (1.0, 1.0), threshold=0.25, gsd_m=(0.5, 1.0))
    found = model_record(card, "here, f32")
    assert (found.summary, found.runtime) == ("net on red, nir", "here, f32")
    assert {name: getattr(found, name) for name in vars(card)} == vars(card)


def test_the_file_holds_the_receipt_that_the_run_gave(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    made = map_change(before, after, tmp_path / "out", PixelPredictor(), MapOptions(aoi=None, tile=128, overlap=32))
    assert read_receipt(MapReceipt, made.folder / "receipt.json") == made.receipt
