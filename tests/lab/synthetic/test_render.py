import dataclasses
import json
import math

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from scipy.ndimage import binary_dilation, gaussian_filter, label

from terradelta.errors import DataError, InputError, OutputError, ShapeError
from terradelta.lab.synthetic import (
    SceneConfig,
    make_scene,
    other_grid,
    vary_config,
    write_dataset,
    write_pair,
)
from terradelta.lab.synthetic.drawing import Sun
from terradelta.lab.synthetic.frame import make_frame
from terradelta.lab.synthetic.light import cast_shadows
from terradelta.lab.synthetic.noise import smooth_noise, stream

SMALL = SceneConfig(height=160, width=192)


@pytest.fixture(scope="module")
def scene():
    return make_scene(SceneConfig(height=320, width=352, change_rate=0.06), 5)


def test_same_seed_same_bytes(scene):
    again = make_scene(scene.config, scene.seed)
    for name in ("before", "after", "label"):
        assert getattr(scene, name).tobytes() == getattr(again, name).tobytes()
    assert again.grid == scene.grid


def test_other_seed_other_scene(scene):
    other = make_scene(scene.config, scene.seed + 1)
    assert (other.label != scene.label).any()
    assert (other.before != scene.before).mean() > 0.5


def test_shapes_types_and_values(scene):
    assert scene.before.shape == scene.after.shape == (3, 320, 352)
    assert scene.before.dtype == scene.after.dtype == np.uint8
    assert scene.label.shape == (320, 352)
    assert scene.label.dtype == bool
    assert scene.valid is None
    assert min(scene.before.min(), scene.after.min()) >= 1
    assert scene.grid.shape == (320, 352)


def test_grid_is_utm_with_the_sampling_distance(scene):
    grid = scene.grid
    assert grid.crs == CRS.from_epsg(32614)
    assert (grid.transform.a, grid.transform.e) == (0.5, -0.5)
    lon, lat, _, _ = transform_bounds(
        grid.crs, "EPSG:4326", grid.transform.c, grid.transform.f, grid.transform.c + 1, grid.transform.f + 1
    )
    assert -99 < lon < -97
    assert 30 < lat < 31


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_nuisance_only_buildings_and_shadows_differ(seed):
    config = dataclasses.replace(SMALL, change_rate=0.08).without_nuisance()
    scene = make_scene(config, seed)
    changed = (scene.before != scene.after).any(axis=0)
    assert changed[scene.label].mean() > 0.95
    # The tallest building is 12 m; the sun stands at 38 degrees or more; 6 pixels for blur and sharpening.
    reach = math.ceil(12 / math.tan(math.radians(38)) / config.gsd_m) + 6
    assert not changed[~binary_dilation(scene.label, iterations=reach, structure=np.ones((3, 3)))].any()
    # Shadows fall to one side: most of the change is on the footprints and next to them.
    assert changed[~scene.label].sum() < 1.5 * scene.label.sum()


def test_no_change_and_no_nuisance_is_the_same_picture():
    scene = make_scene(dataclasses.replace(SMALL, change_rate=0.0).without_nuisance(), 4)
    assert not scene.label.any()
    assert np.array_equal(scene.before, scene.after)


@pytest.mark.parametrize(
    "name",
    [
        "season",
        "sun",
        "illumination",
        "cars",
        "haze",
        "compression",
        "misregistration_px",
        "parallax",
        "noise",
        "blur_px",
    ],
)
def test_each_nuisance_changes_the_picture_but_not_the_label(name):
    base = dataclasses.replace(SMALL, height=128, width=128, change_rate=0.0).without_nuisance()
    plain = make_scene(base, 12)
    scene = make_scene(dataclasses.replace(base, **{name: 0.9}), 12)
    assert not scene.label.any()
    assert (scene.after != scene.before).any() or name == "compression"
    assert (scene.after != plain.after).any()


def test_clouds_cover_about_their_share():
    base = dataclasses.replace(SMALL, change_rate=0.0).without_nuisance()
    cloudy = make_scene(dataclasses.replace(base, cloud_cover=0.3), 3)
    brighter = cloudy.before.mean(0) > make_scene(base, 3).before.mean(0) + 3
    assert 0.1 < brighter.mean() < 0.4


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.1])
def test_change_rate_is_met(rate):
    config = SceneConfig(height=384, width=384, building_density=1.0, change_rate=rate)
    measured = [make_scene(config, seed).label.mean() for seed in (0, 1)]
    assert measured == pytest.approx([rate, rate], abs=0.012)


def test_labels_are_houses():
    config = SceneConfig(height=384, width=384, building_density=1.0, change_rate=0.06, gsd_m=0.5)
    regions, count = label(make_scene(config, 8).label)
    sizes = np.bincount(regions.ravel())[1:] * 0.25
    assert count >= 3
    assert 80 < np.median(sizes) < 500  # square metres


def test_label_appears_where_roofs_are_drawn():
    """Footprints are seen in the difference of the pictures, which is drawn by other code than the label."""
    config = dataclasses.replace(SMALL, building_density=1.0, change_rate=0.08).without_nuisance()
    scene = make_scene(config, 21)
    difference = gaussian_filter(np.abs(scene.before.astype(float) - scene.after).sum(0), 1)
    inside, outside = difference[scene.label].mean(), difference[~scene.label].mean()
    assert inside > 5 * outside


@given(st.integers(64, 130), st.integers(64, 130), st.integers(0, 2**40))
@settings(max_examples=8, deadline=None)
def test_any_size(height, width, seed):
    scene = make_scene(SceneConfig(height=height, width=width), seed)
    assert scene.before.shape == scene.after.shape == (3, height, width)
    assert scene.label.shape == (height, width)


@pytest.mark.parametrize("gsd_m", [0.3, 1.0])
def test_houses_keep_their_size_on_the_ground(gsd_m):
    side = round(192 / gsd_m)
    config = SceneConfig(height=side, width=side, gsd_m=gsd_m, building_density=1.0, change_rate=0.06)
    regions, count = label(make_scene(config, 2).label)
    assert count
    assert 60 < np.median(np.bincount(regions.ravel())[1:]) * gsd_m**2 < 600


def test_empty_land_has_no_change():
    assert not make_scene(dataclasses.replace(SMALL, building_density=0.0, change_rate=0.1), 0).label.any()


def test_nodata_is_zero_and_marked():
    scene = make_scene(dataclasses.replace(SMALL, nodata_fraction=0.2), 1)
    assert scene.valid is not None
    assert scene.valid.mean() == pytest.approx(0.8, abs=0.02)
    assert not scene.after[:, ~scene.valid].any()
    assert scene.after[:, scene.valid].all()
    assert scene.before.all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"height": 63}, ShapeError, "63 x 192 pixels is too small; give a height and width of at least 64"),
        ({"gsd_m": 5.0}, InputError, "gsd_m is 5.0; buildings can be drawn at 0.2 to 2 metres per pixel"),
        ({"change_rate": 1.5}, InputError, "change_rate is 1.5; give a value from 0 to 1"),
        ({"haze": float("nan")}, InputError, "haze is nan; give a value from 0 to 1"),
        ({"noise": -0.1}, InputError, "noise is -0.1; give a finite value of 0 or more"),
    ],
)
def test_config_errors(change, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(SMALL, **change)


def test_negative_seed():
    with pytest.raises(InputError, match="seed of a scene is -1; give 0 or more"):
        make_scene(SMALL, -1)


def test_vary_config_varies_and_keeps_zeros():
    rng = np.random.default_rng(0)
    configs = [vary_config(dataclasses.replace(SMALL, cloud_cover=0.0), rng) for _ in range(400)]
    rates = np.array([c.change_rate for c in configs])
    assert rates.mean() == pytest.approx(SMALL.change_rate, rel=0.2)
    assert 0.1 < (rates == 0).mean() < 0.3
    assert {c.cloud_cover for c in configs} == {0.0}
    assert len({c.season for c in configs}) == 400


def test_smooth_noise_is_normalised_and_smooth():
    field = smooth_noise(stream(0, "test"), (300, 400), 4)
    assert field.shape == (300, 400)
    assert field.mean() == pytest.approx(0, abs=0.05)
    assert field.std() == pytest.approx(1, abs=0.05)
    assert np.abs(np.diff(field, axis=0)).max() < field.std() * 2


@given(st.integers(0, 500))
@settings(max_examples=30, deadline=None)
def test_frame_there_and_back(seed):
    frame = make_frame(np.random.default_rng(seed))
    s, t = np.random.default_rng(1).uniform(-300, 300, (2, 50))
    back = frame.to_street(*frame.to_ground(s, t))
    np.testing.assert_allclose(back, (s, t), atol=0.05)


def test_frame_pixel_fields_follow_the_exact_coordinates():
    frame = make_frame(np.random.default_rng(7))
    s, t = frame.pixel_fields((90, 70), 0.5)
    row, col = frame.to_ground(s.astype(float), t.astype(float))
    np.testing.assert_allclose(row, np.broadcast_to((np.arange(90)[:, None] + 0.5 - 45) * 0.5, (90, 70)), atol=0.1)
    np.testing.assert_allclose(col, np.broadcast_to((np.arange(70) + 0.5 - 35) * 0.5, (90, 70)), atol=0.1)


@pytest.mark.parametrize(
    ("azimuth", "step"), [(0, (1, 0)), (90, (0, -1)), (180, (-1, 0)), (270, (0, 1))], ids=["N", "E", "S", "W"]
)
def test_shadow_falls_away_from_the_sun_by_height_over_tangent(azimuth, step):
    height = np.zeros((61, 61), np.float32)
    height[30, 30] = 10
    image = np.ones((3, 61, 61), np.float32)
    cast_shadows(image, height, Sun(math.radians(azimuth), math.radians(45)), gsd_m=1.0)
    dark = {(r - 30, c - 30) for r, c in np.argwhere(image[1] < 0.99).tolist()}
    assert dark == {(n * step[0], n * step[1]) for n in range(1, 10)}


def test_roof_faces_towards_the_sun_are_brighter():
    sun = Sun(math.radians(180), math.radians(45))
    south, north, flat = sun.face(math.pi, 0.5), sun.face(0.0, 0.5), sun.face(1.0, 0.0)
    assert north < flat < south
    assert flat == pytest.approx(1)
    # 45 degrees of sun on 26.6 degrees of slope: cos(18.4) / cos(45) of the direct light.
    assert south == pytest.approx(0.25 + 0.75 * math.cos(math.radians(18.435)) / math.cos(math.radians(45)), rel=1e-3)


def test_write_pair_is_readable_and_georeferenced(scene, tmp_path):
    files = write_pair(scene, tmp_path / "pair")
    with rasterio.open(files.before) as before, rasterio.open(files.label) as truth:
        assert np.array_equal(before.read(), scene.before)
        assert (before.crs, before.transform, before.nodata) == (scene.grid.crs, scene.grid.transform, 0)
        assert before.profile["tiled"]
        assert before.profile["compress"] == "deflate"
        assert np.array_equal(truth.read(1), scene.label * np.uint8(255))
        assert truth.transform == scene.grid.transform
    assert sorted(p.name for p in (tmp_path / "pair").iterdir()) == ["after.tif", "before.tif", "label.tif"]


def test_write_pair_on_another_grid_shows_the_same_place(scene, tmp_path):
    grid = other_grid(scene.grid, 0.6, shift_m=(6.0, -3.0), crs=CRS.from_epsg(32613))
    files = write_pair(scene, tmp_path, after_grid=grid)
    with rasterio.open(files.after) as after:
        assert (after.crs, after.shape, after.res) == (grid.crs, grid.shape, (0.6, 0.6))
        with WarpedVRT(after, crs=scene.grid.crs, transform=scene.grid.transform, height=320, width=352) as back:
            image = back.read().astype(float)
    seen = image.all(axis=0)
    assert 0.8 < seen.mean() < 1
    assert np.corrcoef(image[:, seen].ravel(), scene.after[:, seen].ravel())[0, 1] > 0.9


def test_other_grid_errors(scene):
    with pytest.raises(InputError, match="gsd_m is 0; give a ground sampling distance above 0"):
        other_grid(scene.grid, 0)
    with pytest.raises(InputError, match="EPSG:4326 is not in metres; give a projected CRS"):
        other_grid(scene.grid, 1.0, crs=CRS.from_epsg(4326))
    with pytest.raises(InputError, match="the grid has no CRS"):
        other_grid(dataclasses.replace(scene.grid, crs=None), 1.0)


def test_write_pair_into_a_file_is_an_error(scene, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"taken/before.tif cannot be written .*; give a place that can be"):
        write_pair(scene, tmp_path / "taken")


TINY = SceneConfig(height=64, width=64)


def _bytes(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_dataset_layout_and_values(tmp_path):
    seen = []
    write_dataset(tmp_path, {"train": 2, "val": 1}, TINY, 3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    names = [
        f"{split}/{kind}/{n}"
        for split, n in (("train", "0000.png"), ("train", "0001.png"), ("val", "0000.png"))
        for kind in ("A", "B", "label")
    ]
    assert set(_bytes(tmp_path)) == {*names, "list/train.txt", "list/val.txt", "dataset.json"}
    assert (tmp_path / "list/train.txt").read_text() == "0000.png\n0001.png\n"
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described["seed"] == 3
    assert SceneConfig(**described["config"]) == TINY
    files = _bytes(tmp_path)
    assert files["train/A/0000.png"] != files["val/A/0000.png"] != files["train/A/0001.png"]


def test_dataset_without_variation_holds_the_scenes_of_the_generator(tmp_path):
    write_dataset(tmp_path, {"test": 1}, TINY, 9, vary=False)
    expected = make_scene(TINY, int(stream(9, "test/0").integers(2**62)))
    for kind, image in (("A", expected.before), ("B", expected.after), ("label", expected.label[None] * np.uint8(255))):
        with (
            pytest.warns(rasterio.errors.NotGeoreferencedWarning),
            rasterio.open(tmp_path / f"test/{kind}/0000.png") as png,
        ):
            assert np.array_equal(png.read(), image)


def test_dataset_resumes_and_extends(tmp_path):
    write_dataset(tmp_path / "once", {"train": 3}, TINY, 3)
    whole = _bytes(tmp_path / "once")
    folder = tmp_path / "resumed"
    write_dataset(folder, {"train": 2}, TINY, 3)
    (folder / "train/B/0001.png").unlink()
    kept = (folder / "train/A/0000.png").stat().st_mtime_ns
    write_dataset(folder, {"train": 3}, TINY, 3)
    assert _bytes(folder) == whole
    assert (folder / "train/A/0000.png").stat().st_mtime_ns == kept


def test_dataset_stopped_midway_leaves_only_whole_files(tmp_path):
    class StopError(Exception):
        pass

    def stop(done, total):
        raise StopError

    with pytest.raises(StopError):
        write_dataset(tmp_path, {"train": 2}, TINY, 3, progress=stop)
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "list").exists()


def test_dataset_errors(tmp_path):
    with pytest.raises(InputError, match="unknown split 'dev'; give counts for train, val, test"):
        write_dataset(tmp_path, {"dev": 1}, TINY, 0)
    with pytest.raises(InputError, match=r"the counts are \{'val': -1\}; give 0 or more scenes"):
        write_dataset(tmp_path, {"val": -1}, TINY, 0)
    with pytest.raises(InputError, match="seed of a data set is -2; give 0 or more"):
        write_dataset(tmp_path, {"val": 1}, TINY, -2)
    write_dataset(tmp_path, {"val": 0}, TINY, 0)
    with pytest.raises(DataError, match=r"describes other scenes \(seed\); give the same options and seed, or"):
        write_dataset(tmp_path, {"val": 0}, TINY, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/dataset.json cannot be written .*, and call again to continue"):
        write_dataset(tmp_path / "file", {"val": 1}, TINY, 0)
