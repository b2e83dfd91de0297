"""`terradelta area`: from a map to areas with intervals, by region, in files."""

import csv
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pyogrio.raw
import pytest
import rasterio
import shapely
from affine import Affine
from tests.mapping.conftest import PixelPredictor

from terradelta.area.estimate import estimate_areas
from terradelta.area.measure import area_receipt, draw, measure
from terradelta.area.samples import read_samples
from terradelta.errors import InputError, OutputError
from terradelta.mapping.run import MapOptions, map_change
from terradelta.products.change import ChangeRaster
from terradelta.receipt import AreaReceipt, read_receipt


@pytest.fixture(scope="module")
def product(tmp_path_factory) -> Path:
    """A map of 300 x 420 pixels of half a metre with 4816 changed ones."""
    folder = tmp_path_factory.mktemp("map")
    rng = np.random.default_rng(0)
    before = rng.integers(60, 100, (3, 300, 420)).astype(np.uint8)
    after = before.copy()
    after[:, 100:160, 200:280] += 140
    after[:, 10:14, 10:14] += 140
    place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
    profile = {"driver": "GTiff", "count": 3, "height": 300, "width": 420, "dtype": "uint8", "crs": "EPSG:32614"}
    for name, values in (("a", before), ("b", after)):
        with rasterio.open(folder / f"{name}.tif", "w", transform=place, **profile) as target:
            target.write(values)
    options = MapOptions(min_area_m2=0)
    return map_change(folder / "a.tif", folder / "b.tif", folder / "out", PixelPredictor(), options).folder


@pytest.fixture
def regions(tmp_path) -> Path:
    path = tmp_path / "regions.gpkg"
    shapes = [shapely.box(600000, 3399850, 600105, 3400000), shapely.box(600105, 3399850, 600210, 3400000)]
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(shapes),
        field_data=[np.array(["west", "east"], object)],
        fields=["name"],
        driver="GPKG",
        geometry_type="Polygon",
        crs="EPSG:32614",
    )
    return path


@pytest.fixture
def labelled(product, tmp_path) -> Path:
    """200 samples, of which the truth differs from the map in some."""
    path = tmp_path / "samples.csv"
    assert draw(product, 200, path, seed=1).tolist() == [150, 50]
    head, *lines = path.read_text().splitlines()
    with ChangeRaster(product / "change.tif") as change:
        path.write_text("\n".join([head, *(f"{line}0" for line in lines)]))
        mapped = read_samples(path, change).mapped
    truth = np.where(np.arange(200) % 10 == 0, 1 - mapped, mapped)
    path.write_text("\n".join([head, *(f"{line}{label}" for line, label in zip(lines, truth, strict=True))]))
    return path


def test_areas_of_a_map_from_samples(product, labelled, regions):
    found = measure(product, samples=labelled, regions=regions)
    with ChangeRaster(product / "change.tif") as change:
        counts = read_samples(labelled, change).counts()
    oracle = estimate_areas(counts, found.whole.tally.areas).area[1]
    assert (found.whole.changed.value, found.whole.changed.error) == (oracle.value, oracle.error)
    assert found.whole.mapped == pytest.approx(4816 * 0.25, rel=1e-3)
    west, east = found.regions
    assert west.samples + east.samples == 200
    assert west.mapped + east.mapped == pytest.approx(found.whole.mapped)
    assert east.changed.low < east.changed.value < east.changed.high
    assert found.accuracy.overall.value == pytest.approx(0.9, abs=0.06)
    assert found.basis.startswith("200 labelled samples")


def test_regions_with_too_few_samples_say_so(product, labelled, regions):
    head, *lines = labelled.read_text().splitlines()
    east = [line for line in lines if float(line.split(",")[1]) >= 600105]
    labelled.write_text("\n".join([head, *east]))
    found = measure(product, samples=labelled, regions=regions)
    assert found.regions[0].changed is None
    assert found.regions[0].note.startswith("No estimate: fewer than two samples where it is mapped as unchanged")
    assert area_receipt(found).regions[0].changed_area is None


def test_files(product, labelled, regions, tmp_path):
    found = measure(product, samples=labelled, regions=regions)
    for suffix in ("json", "csv", "html", "gpkg"):
        found.write(tmp_path / f"areas.{suffix}")
    receipt = read_receipt(AreaReceipt, tmp_path / "areas.json")
    assert receipt == replace(area_receipt(found), created=receipt.created)
    assert receipt.whole_map.changed_area.value == found.whole.changed.value > 0
    assert receipt.accuracy.classes.changed.users_accuracy.low == found.accuracy.users[1].low
    assert receipt.regions[1].area_m2.changed == found.regions[1].mapped
    assert sum(map(sum, receipt.accuracy.samples)) == 200
    assert sum(map(sum, receipt.accuracy.area_proportions)) == pytest.approx(1)
    with (tmp_path / "areas.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["whole map", "west", "east"]
    assert float(rows[2]["changed_low_m2"]) < float(rows[2]["changed_m2"]) < float(rows[2]["changed_high_m2"])
    page = (tmp_path / "areas.html").read_text()
    assert "95 % interval" in page
    assert "User’s accuracy" in page
    assert "http" not in page
    meta, _, shapes, fields = pyogrio.raw.read(tmp_path / "areas.gpkg")
    columns = dict(zip(meta["fields"], fields, strict=True))
    assert columns["mapped_changed_m2"].sum() == pytest.approx(found.whole.mapped)
    assert shapely.area(shapely.from_wkb(shapes)).tolist() == pytest.approx([105 * 150] * 2)
    with pytest.raises(InputError, match=r"areas are written as .json, .csv, .html or .gpkg"):
        found.write(tmp_path / "areas.txt")
    with pytest.raises(InputError, match="give --regions, or write"):
        measure(product).write(tmp_path / "more.gpkg")
    with pytest.raises(OutputError, match="cannot be written"):
        found.write(tmp_path / "nowhere" / "areas.csv")
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name]


def test_without_a_basis_it_says_what_is_needed(product):
    found = measure(product)
    assert found.whole.changed is None
    assert "label samples of this map: draw them with --draw" in found.whole.note


def test_no_interval_of_labelled_images_is_put_on_one_map(product):
    """It was one of a mean over many images, and held the truth of one scene in 4 of 20: only samples give one."""
    assert "interval" not in (product / "receipt.json").read_text()
    page = (product / "report.html").read_text()
    assert "Truly changed" not in page
    assert "95 %" not in page
    assert "terradelta area OUT --draw 200" in page


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "gpkg"])
def test_nrt_validate_finds_the_same_areas_accuracies_and_intervals(product, labelled, tmp_path, ending):
    """The JRC's estimators (Stehman 2014), read our samples by themselves; theirs correct for a finite population."""
    reason = "not here; pip install --no-deps --pre nrt-validate (its estimators need numpy and pandas alone)"
    nrt = pytest.importorskip("nrt.validate.estimators", reason=reason)
    ours = measure(product, samples=labelled)
    samples = tmp_path / f"drawn.{ending}"
    draw(product, 200, samples, seed=1)
    read = pandas.read_csv if ending == "csv" else geopandas.read_file
    drawn, labels = read(samples), pandas.read_csv(labelled)["label"].to_numpy()
    x, y = (drawn.x, drawn.y) if ending == "csv" else (drawn.geometry.x, drawn.geometry.y)
    with rasterio.open(product / "change.tif") as source:
        mapped = np.array([int(value[0]) for value in source.sample(zip(x, y, strict=True))])
        counts = np.bincount(source.read(1).ravel(), minlength=2)[:2]
    for size, tolerance in ((1e9, 1e-6), (1.0, 0.02)):  # without end; and the map's own pixels: 50 of 4,816 are a 96th
        found = nrt.StratifiedEstimator(mapped, dict(enumerate((counts * size).tolist())))
        total = ours.whole.tally.areas.sum()
        pairs = [
            ([each * total for each in found.estimate_mean(labels == 1)], ours.whole.changed),
            (found.overall_accuracy(labels, mapped), ours.accuracy.overall),
            *((found.user_accuracy(labels, mapped, k), ours.accuracy.users[k]) for k in (0, 1)),
            *((found.producer_accuracy(labels, mapped, k), ours.accuracy.producers[k]) for k in (0, 1)),
        ]
        for (value, error), each in pairs:
            assert each.value == pytest.approx(value, rel=1e-4)  # pixels of UTM differ a little in area
            assert each.error == pytest.approx(error, rel=max(tolerance, 1e-4))
            assert each.high - each.low == pytest.approx(2 * 1.959964 * error, rel=max(tolerance, 1e-4))
