import json
import math
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.warp import Resampling, calculate_default_transform, reproject
from rio_cogeo import cog_validate
from shapely.geometry import box

from terradelta.errors import BandError, GridError, InputError, ModelError, OutputExistsError, RasterError, ShapeError
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical.cva import Cva
from terradelta.predict.classical.irmad import IrMad

from .conftest import REACH, BoxPredictor, PixelPredictor, Writer

ALL = MapOptions(min_area_m2=0)


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(".") or "partial" in p.name)


def test_product_of_a_known_change(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    ticks: list[tuple[int, int]] = []
    lines: list[str] = []
    made = map_change(
        before,
        after,
        tmp_path / "out",
        PixelPredictor(),
        progress=lambda *t: ticks.append(t),
        announce=lines.extend,
    )
    assert sorted(p.name for p in made.folder.iterdir()) == [
        "change.gpkg",
        "change.qml",
        "change.tif",
        "change.tif.aux.xml",
        "item.json",
        "probability.qml",
        "probability.tif",
        "receipt.json",
        "report.html",
        "thumbnail.jpg",
    ]
    for path in (made.probability, made.change):
        assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(made.change) as change, rasterio.open(made.probability) as probability:
        mask, values = change.read(1), probability.read(1)
        assert change.transform == probability.transform == rasterio.open(before).transform
    truth = np.zeros((300, 420), bool)
    truth[100:160, 200:280] = truth[10:14, 10:14] = True
    assert ((mask == 1) == truth).all()
    assert ((values >= 0.5) == truth).all()

    found = pyogrio.raw.read(made.polygons, layer="change", columns=["area_m2", "pixels"])
    assert found[3][1].tolist() == [60 * 80]  # the 4 x 4 pixels are 4 m²: below the smallest area
    grid_area = 60 * 80 * 0.25
    assert found[3][0][0] == pytest.approx(grid_area, rel=2e-3)  # UTM's scale: at most 0.04 % in length here

    result = json.loads((made.folder / "receipt.json").read_text())["result"]
    assert result["changed_px"] == truth.sum()
    assert result["valid_px"] == truth.size
    assert (result["polygons"], result["small_polygons"]) == (1, 1)
    assert result["changed_area_m2"] == pytest.approx(truth.sum() * 0.25, rel=2e-3)
    assert ticks[-1][0] == ticks[-1][1] == len(ticks)
    assert any("first date" in line for line in lines)
    assert leftovers(tmp_path) == []


def test_receipt_names_inputs_model_and_options(tmp_path, write_tiff: Writer, pair_values):
    import hashlib

    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    made = map_change(
        before, after, tmp_path / "out", PixelPredictor(), MapOptions(threshold=0.75, tile=128, overlap=32)
    )
    receipt = json.loads((made.folder / "receipt.json").read_text())
    assert receipt["inputs"]["before"]["sha256"] == hashlib.sha256(before.read_bytes()).hexdigest()
    assert receipt["inputs"]["after"]["bytes"] == after.stat().st_size
    assert receipt["model"]["name"] == "box"
    assert receipt["options"]["threshold"] == 0.75
    assert (receipt["options"]["tile"], receipt["options"]["overlap"]) == (128, 32)
    assert receipt["grid"]["crs"] == "EPSG:32614"
    assert receipt["grid"]["pixel_area_m2"] == pytest.approx(0.25, rel=2e-3)
    assert {"read", "network", "blend", "rasters", "polygons", "total"} <= receipt["timings"].keys()


@pytest.mark.parametrize(("tile", "overlap"), [(128, 64), (256, 128), (512, 0)])
def test_tiling_is_invisible_where_the_overlap_covers_the_receptive_field(
    tmp_path, write_tiff: Writer, pair_values, tile, overlap
):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    predictor = BoxPredictor()
    whole = predictor.predict(pair_values[0][None], pair_values[1][None])[0]
    made = map_change(before, after, tmp_path / "out", predictor, MapOptions(tile=tile, overlap=overlap))
    with rasterio.open(made.probability) as source:
        tiled = source.read(1)
    gap = np.abs(tiled - whole)
    if overlap == 64:
        # 0.375 of the overlap is trimmed: 24 pixels, less than the reach of 40, so the seam must be seen ...
        assert overlap * 0.375 < REACH
        assert gap.max() > 5e-3
    else:
        assert gap.max() < 6e-4  # ... and not otherwise: half a step of the stored probability


def test_invalid_pixels_are_nodata_everywhere(tmp_path, write_tiff: Writer, pair_values):
    first, second = (v.copy() for v in pair_values)
    first[:, :, :200] = 0  # a collar that covers whole tiles
    second[:, :40] = 0
    before, after = (write_tiff(f"{n}.tif", v, nodata=0) for n, v in zip("ab", (first, second), strict=True))
    predictor = PixelPredictor()
    made = map_change(before, after, tmp_path / "out", predictor, MapOptions(tile=64, overlap=16, min_area_m2=0))
    valid = (first != 0).all(0) & (second != 0).all(0)
    with rasterio.open(made.change) as change, rasterio.open(made.probability) as probability:
        assert ((change.read(1) == 255) == ~valid).all()
        assert (np.isnan(probability.read(1)) == ~valid).all()
        assert ((change.read(1) == 1) == (valid & (second != first).any(0))).all()
    assert made.receipt.result.valid_px == valid.sum()


def test_empty_tiles_are_not_predicted(tmp_path, write_tiff: Writer, pair_values):
    first, second = (v.copy() for v in pair_values)
    first[:, :, :300] = 0
    paths = [write_tiff(f"{n}.tif", v, nodata=0) for n, v in zip("ab", (first, second), strict=True)]
    predictor = BoxPredictor()
    map_change(*paths, tmp_path / "out", predictor, MapOptions(tile=64, overlap=0))
    columns = math.ceil((420 - 300 // 64 * 64) / 64) * math.ceil(300 / 64)
    assert len(predictor.calls) == columns


def test_second_date_in_another_crs_and_resolution(tmp_path, write_tiff: Writer, pair_values):
    before = write_tiff("a.tif", pair_values[0])
    straight = write_tiff("b.tif", pair_values[1])
    with rasterio.open(straight) as source:
        transform, width, height = calculate_default_transform(
            source.crs, "EPSG:4326", source.width, source.height, *source.bounds, resolution=4e-6
        )
        warped = np.zeros((3, height, width), np.uint8)
        reproject(
            source.read(),
            warped,
            src_transform=source.transform,
            src_crs=source.crs,
            dst_transform=transform,
            dst_crs="EPSG:4326",
            resampling=Resampling.bilinear,
        )
    after = write_tiff("c.tif", warped, crs="EPSG:4326", transform=transform, nodata=0)
    made = map_change(before, after, tmp_path / "out", PixelPredictor(), ALL)
    with rasterio.open(made.change) as source:
        mask = source.read(1) == 1
        top, left = (round(v) for v in ((3400000 - source.transform.f) / 0.5, (source.transform.c - 600000) / 0.5))
    truth = np.zeros((300, 420), bool)
    truth[100:160, 200:280] = truth[10:14, 10:14] = True
    truth = truth[top : top + mask.shape[0], left : left + mask.shape[1]]
    assert (mask != truth).sum() < 0.1 * truth.sum()  # a rim of mixed pixels


def test_16_bit_and_four_bands(tmp_path, write_tiff: Writer, pair_values):
    first, second = (np.concatenate([v, v[:1]]).astype(np.uint16) * 40 for v in pair_values)
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", (first, second), strict=True))
    made = map_change(before, after, tmp_path / "out", PixelPredictor(), ALL)
    assert made.receipt.scaling.high[0] > 1000
    assert any("stretched" in line for line in made.receipt.preflight)
    with rasterio.open(made.change) as source:
        found = source.read(1) == 1
    assert found[100:160, 200:280].all()
    assert found.sum() == 60 * 80 + 16


def test_images_without_georeference(tmp_path, pair_values):
    paths = []
    for name, values in zip("ab", pair_values, strict=True):
        paths.append(tmp_path / f"{name}.png")
        with (
            pytest.warns(rasterio.errors.NotGeoreferencedWarning),
            rasterio.open(paths[-1], "w", driver="PNG", count=3, height=300, width=420, dtype="uint8") as target,
        ):
            target.write(values)
    made = map_change(*paths, tmp_path / "out", PixelPredictor())
    result = made.receipt.result
    assert result.unit == "px"
    assert result.changed_area_px == 60 * 80 + 16
    assert made.receipt.largest_polygons[0].area_px == 60 * 80
    assert made.receipt.grid.crs is None


def test_area_of_interest(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    with rasterio.open(before) as source:
        west, south, east, north = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    half = box(west, south, west + (east - west) / 2, north)
    made = map_change(before, after, tmp_path / "out", PixelPredictor(), MapOptions(aoi=half))
    assert 190 < made.receipt.grid.width < 230
    assert made.receipt.options.aoi.startswith("POLYGON")


def test_one_pixel(tmp_path, write_tiff: Writer):
    before = write_tiff("a.tif", np.full((3, 1, 1), 50, np.uint8))
    after = write_tiff("b.tif", np.full((3, 1, 1), 250, np.uint8))
    made = map_change(before, after, tmp_path / "out", PixelPredictor(), ALL)
    assert made.receipt.result.changed_px == 1
    assert made.receipt.result.changed_area_m2 == pytest.approx(0.25, rel=2e-3)


def test_resolution_far_from_the_models_is_said(tmp_path, write_tiff: Writer, pair_values):
    coarse = rasterio.Affine(30, 0, 600000, 0, -30, 3400000)
    before, after = (write_tiff(f"{n}.tif", v, transform=coarse) for n, v in zip("ab", pair_values, strict=True))
    lines: list[str] = []
    map_change(before, after, tmp_path / "out", PixelPredictor(), MapOptions(anyway=True), announce=lines.extend)
    assert any("30 m wide" in line and "0.4 to 0.8 m" in line for line in lines)


def test_no_valid_pixel_leaves_nothing(tmp_path, write_tiff: Writer):
    nothing = np.zeros((3, 100, 100), np.uint8)
    before, after = (write_tiff(n, nothing, nodata=0) for n in ("a.tif", "b.tif"))
    with pytest.raises(RasterError, match="no pixel is valid on both dates"):
        map_change(before, after, tmp_path / "out", PixelPredictor())
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("a defect of ours")])
def test_a_run_that_fails_leaves_no_product(tmp_path, write_tiff: Writer, pair_values, error):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    ticks = 0

    def stop(done: int, total: int) -> None:
        nonlocal ticks
        ticks = done
        if done == total // 2:
            raise error

    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else ValueError):
        map_change(before, after, tmp_path / "out", PixelPredictor(), MapOptions(tile=64, overlap=0), progress=stop)
    assert ticks > 1
    assert not (tmp_path / "out").exists()
    (left,) = leftovers(tmp_path)
    assert sorted(p.name for p in (tmp_path / left).iterdir()) == ["lock", "rows"]


def test_a_run_that_fails_before_the_first_row_leaves_nothing(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_change(before, after, tmp_path / "out", PixelPredictor(), MapOptions(tile=64, overlap=0), progress=stop)
    assert leftovers(tmp_path) == []


def test_existing_out_is_not_touched(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"out is there already; nothing was overwritten\. Remove it or give"):
        map_change(before, after, out, PixelPredictor())
    assert [p.name for p in out.iterdir()] == ["precious.txt"]


def test_too_few_bands(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v[:2]) for n, v in zip("ab", pair_values, strict=True))
    with pytest.raises(BandError, match="red, green, blue"):
        map_change(before, after, tmp_path / "out", PixelPredictor())


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_threshold_out_of_range(threshold):
    with pytest.raises(InputError, match=f"threshold is {threshold}; it must be above 0 and at most 1"):
        MapOptions(threshold=threshold)


def test_tile_that_is_no_multiple_of_the_stride(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    with pytest.raises(ShapeError, match="tile is 100; it must be a multiple of 16"):
        map_change(before, after, tmp_path / "out", PixelPredictor(), MapOptions(tile=100))
    assert not (tmp_path / "out").exists()


LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'


@pytest.mark.parametrize("crs", [LOCAL, "EPSG:4978", "EPSG:5773"])
def test_a_crs_without_areas_is_refused(tmp_path, write_tiff: Writer, pair_values, crs):
    before, after = (write_tiff(f"{n}.tif", v[:, :32, :32], crs=crs) for n, v in zip("ab", pair_values, strict=True))
    with pytest.raises(GridError, match=r"has no (plane|ellipsoid), so areas are unknown"):
        map_change(before, after, tmp_path / "out", PixelPredictor())
    assert leftovers(tmp_path) == []


def test_the_moon_has_areas_but_no_place_on_earth(tmp_path, write_tiff: Writer, pair_values):
    place = rasterio.Affine(1e-5, 0, 10, 0, -1e-5, 20)
    before, after = (
        write_tiff(f"{n}.tif", v, crs="IAU_2015:30100", transform=place) for n, v in zip("ab", pair_values, strict=True)
    )
    made = map_change(before, after, tmp_path / "out", PixelPredictor())
    side = math.radians(1e-5) * 1737400
    assert made.receipt.result.changed_area_m2 == pytest.approx(
        (60 * 80 + 16) * side**2 * math.cos(math.radians(20)), rel=1e-3
    )
    assert None not in (made.receipt.largest_polygons[0].x, made.receipt.largest_polygons[0].y)


def test_areas_beyond_the_projection_are_null(tmp_path, write_tiff: Writer, pair_values):
    far = rasterio.Affine(10, 0, -1000, 0, -10, 1000)
    before, after = (
        write_tiff(f"{n}.tif", v, crs="EPSG:4326", transform=far) for n, v in zip("ab", pair_values, strict=True)
    )
    made = map_change(before, after, tmp_path / "out", PixelPredictor())

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    receipt = json.loads((made.folder / "receipt.json").read_text(), parse_constant=refuse)
    assert "changed_area_m2" not in receipt["result"]
    assert receipt["result"]["changed_px"] == 60 * 80 + 16
    assert "area on the ground is unknown" in made.report.read_text()


@pytest.mark.parametrize("value", [1e300, 1.7e308, -3.4028234663852886e38, np.inf])
@pytest.mark.parametrize("how", [PixelPredictor, IrMad, Cva])
def test_values_that_nothing_can_count_with_are_no_data(tmp_path, write_tiff: Writer, pair_values, value, how):
    before, after = (v.astype("float64") for v in pair_values)
    before[0, 200:, :30] = value
    before, after = (write_tiff(f"{n}.tif", v) for n, v in (("a", before), ("b", after)))
    receipt = map_change(before, after, tmp_path / "out", how()).receipt
    assert receipt.result.valid_px == 300 * 420 - 100 * 30
    warning = f"0.79% of the values of {before} are infinite or beyond 1e+38"
    assert any(warning in line for line in receipt.preflight)


def test_nothing_but_such_values(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v * 1e305) for n, v in zip("ab", pair_values, strict=True))
    with pytest.raises(RasterError, match=r"no pixel is valid on both dates.*beyond 1e\+38"):
        map_change(before, after, tmp_path / "out", PixelPredictor())


def test_a_network_that_gives_nan_is_an_error(tmp_path, write_tiff: Writer, pair_values):
    class Broken(PixelPredictor):
        def logits(self, before, after):
            return super().logits(before, after) * np.float32(np.nan)

    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    with pytest.raises(ModelError, match="gave values that are no numbers at rows 0 to 255, columns 0 to 255"):
        map_change(before, after, tmp_path / "out", Broken())
    assert leftovers(tmp_path) == []


def test_a_scene_too_wide_for_the_machine(tmp_path, write_tiff: Writer, pair_values, monkeypatch):
    monkeypatch.setattr("terradelta.mapping.plan.total_memory", lambda: 420 * 2048 - 1)
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    with pytest.raises(InputError, match=r"420 pixels wide, for which 0\.0 GB are needed.*area of interest"):
        map_change(before, after, tmp_path / "out", PixelPredictor())


def test_tile_0_is_refused(tmp_path, write_tiff: Writer, pair_values):
    before, after = (write_tiff(f"{n}.tif", v) for n, v in zip("ab", pair_values, strict=True))
    with pytest.raises(ShapeError, match="tile is 0"):
        map_change(before, after, tmp_path / "out", PixelPredictor(), MapOptions(tile=0))


def test_a_truncated_png_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(1, 255, (3, 300, 300)).astype(np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        with (
            pytest.warns(rasterio.errors.NotGeoreferencedWarning),
            rasterio.open(path, "w", driver="PNG", count=3, height=300, width=300, dtype="uint8") as target,
        ):
            target.write(noise)
    paths[1].write_bytes(paths[1].read_bytes()[: paths[1].stat().st_size // 2])
    with pytest.raises(RasterError, match=r"b\.png"):
        map_change(*paths, tmp_path / "out", PixelPredictor())
    assert not (tmp_path / "out").exists()


def test_polygons_that_look_like_noise_are_named_with_the_cure(tmp_path, write_tiff: Writer, pair_values):
    noise = pair_values[0].copy()
    changed = np.random.default_rng(3).random((300, 420)) < 0.02
    noise[:, changed] += 140
    said = []
    for name, later, noisy in (("out", noise, True), ("calm", pair_values[1], False)):
        before, after = (write_tiff(f"{name}{n}.tif", v) for n, v in (("a", pair_values[0]), ("b", later)))
        receipt = map_change(before, after, tmp_path / name, PixelPredictor(), announce=said.extend).receipt
        warned = [line for line in receipt.preflight if "this looks like noise" in line]
        assert len(warned) == noisy
        assert set(warned) <= set(said)
    assert any("changes have 1 pixels or fewer" in line and "--sieve N" in line for line in said)
