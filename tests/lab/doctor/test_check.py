"""The doctor on data sets with one fault each: files, sizes, splits, values and places."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from terradelta.lab.data import open_pairs
from terradelta.lab.doctor import Severity, check_dataset, checkup_receipt, twins
from terradelta.lab.doctor.measures import Portrait
from terradelta.receipt import CheckupReceipt, from_json, to_json
from terradelta.receipt.checkup_record import CheckupSummary

from .doctor_scenes import SIDE, TIFF, UTM, Builder, kinds, scene, square


def test_a_healthy_data_set_has_no_finding(data: Builder) -> None:
    steps: list[tuple[str, int, int]] = []
    checkup = check_dataset(data.root, progress=lambda text: lambda done, total: steps.append((text, done, total)))
    assert kinds(checkup) == {}
    assert checkup.errors == 0
    assert steps[0] == ("reading", 0, 5)
    assert steps[5] == ("reading", 5, 5)
    assert steps[-1][0] == "comparing"
    assert steps[-1][1] == steps[-1][2]


def test_numbers_of_a_split_are_those_of_all_its_pixels(data: Builder) -> None:
    found = checkup_receipt(data.check()).splits["train"]
    pairs = open_pairs(data.root, "train")
    values = np.concatenate(
        [x.reshape(3, -1) for k in range(3) for x in (pairs.read(k).before, pairs.read(k).after)], 1
    )
    np.testing.assert_allclose(found.mean, values.mean(axis=1) / 255, atol=1e-6)
    np.testing.assert_allclose(found.std, values.std(axis=1) / 255, atol=1e-6)
    assert found.changed_fraction == pytest.approx(18 * 18 / SIDE**2)
    assert (found.pairs, found.read, found.pairs_with_change, found.scale) == (3, 3, 3, 255)
    assert found.sizes == ((SIDE, SIDE, 3),)
    assert found.labels == {"0 and 255": 3}


@pytest.mark.parametrize("shape", [(64, 64), (200, 130), (97, 64), (30, 90)])
@pytest.mark.parametrize("rows", [1, 7, 500])
def test_a_portrait_does_not_depend_on_the_strips(shape: tuple[int, int], rows: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (2, *shape)).astype(np.uint8)
    whole, strips = Portrait(shape), Portrait(shape)
    whole.add(image)
    for row in range(0, shape[0], rows):
        strips.add(image[:, row : row + rows])
    np.testing.assert_allclose(strips.descriptor(), whole.descriptor(), atol=1e-6)
    assert rows > shape[0] or strips.digest != Portrait(shape).digest
    assert np.linalg.norm(whole.descriptor()) == pytest.approx(1)


def test_a_thumbnail_is_the_mean_of_each_cell() -> None:
    image = np.random.default_rng(0).normal(size=(1, 128, 192))
    portrait = Portrait((128, 192))
    portrait.add(image)
    np.testing.assert_allclose(portrait._thumb(), image[0].reshape(64, 2, 64, 3).mean(axis=(1, 3)), atol=1e-12)


@pytest.mark.parametrize("orientation", range(8))
def test_orientations_are_all_eight_and_differ(orientation: int) -> None:
    image = np.arange(9.0).reshape(3, 3)
    others = [twins.turned(image, k) for k in range(8) if k != orientation]
    assert not any((twins.turned(image, orientation) == other).all() for other in others)


def test_unreadable_files_are_named(data: Builder) -> None:
    data.pair("train", "cut", 7)
    path = data.root / "train/B/cut.png"
    path.write_bytes(path.read_bytes()[:400])
    data.pair("train", "empty", 8)
    (data.root / "train/A/empty.png").write_bytes(b"")
    (data.root / "train/label/empty.png").write_bytes(b"nothing")
    checkup = data.check()
    assert kinds(checkup) == {"unreadable file": 3}
    messages = " ".join(finding.message for finding in checkup.findings)
    assert "B/cut.png cannot be read" in messages
    assert "A/empty.png cannot be read" in messages
    assert "label/empty.png cannot be read" in messages
    assert checkup.errors == 3


def test_sizes_that_differ(data: Builder) -> None:
    data.pair("val", "odd", 7, label=np.zeros((SIDE, SIDE - 1), np.uint8))
    checkup = data.check()
    assert kinds(checkup) == {"sizes differ": 1}
    assert (
        "before is 3 bands of 72 x 72, after 3 bands of 72 x 72, label 1 band of 72 x 71" in checkup.findings[0].message
    )


def test_missing_and_lone_files(data: Builder) -> None:
    (data.root / "train/B/p1.png").unlink()
    data.write_image(data.root / "test/label/nobody.png", square(1))
    checkup = data.check()
    assert kinds(checkup) == {"missing file": 1, "image without its pair": 2}
    assert "train: no file for train/B/p1" in [f.message for f in checkup.findings]
    assert any("test: label/nobody.png belong to no complete pair" in f.message for f in checkup.findings)
    assert [f.severity for f in checkup.findings].count(Severity.ERROR) == 1


def test_a_split_that_cannot_be_listed(data: Builder) -> None:
    (data.root / "val/A/p3.jpg").write_bytes(b"")
    checkup = data.check()
    assert kinds(checkup) == {"split that cannot be read": 1}
    assert "holds both p3.jpg and p3.png" in checkup.findings[0].message
    assert "val" not in checkup.sources


def test_pictures_of_one_colour_and_dates_that_are_one(data: Builder) -> None:
    data.pair("train", "flat", 7, before=np.full((3, SIDE, SIDE), 9, np.uint8))
    data.pair("train", "same", 8, before=scene(8), after=scene(8))
    checkup = data.check()
    assert kinds(checkup) == {"both dates are one picture": 1, "picture of one colour": 1}
    assert any("A/flat.png: every pixel is 9" in finding.message for finding in checkup.findings)


def test_bands_and_types_that_differ(data: Builder) -> None:
    data.pair("train", "grey", 7, before=scene(14)[:1], after=scene(15)[:1])
    data.pair("val", "deep", 8, before=scene(16).astype(np.uint16) * 40, after=scene(17).astype(np.uint16) * 40)
    assert kinds(data.check()) == {"numbers of bands differ": 1, "types of values differ": 1}


def test_values_that_are_no_numbers(data: Builder) -> None:
    broken = scene(14).astype(np.float32)
    broken[0, 3, 4] = np.nan
    data.pair("train", "nan", 7, before=broken, after=scene(15).astype(np.float32), suffixes=TIFF)
    checkup = data.check()
    assert "nan: an image with values that are no numbers" in checkup.findings[0].message


def test_georeferences_that_differ(data: Builder) -> None:
    place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
    data.pair("train", "shifted", 7, suffixes=TIFF)
    for part, transform in (("A", place), ("B", place @ Affine.translation(2, 0))):
        with rasterio.open(data.root / f"train/{part}/shifted.tif", "r+") as target:
            target.crs, target.transform = UTM, transform
    checkup = data.check()
    assert kinds(checkup) == {"georeferences that differ": 1}
    assert "shifted.tif does not lie where" in checkup.findings[0].message


def test_places_that_two_splits_share(tmp_path: Path, write_image) -> None:
    """Neighbours share an edge, which is no leak; a third overlaps by a quarter of its area."""
    place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
    data = Builder(tmp_path / "data", write_image)
    for k, (split, shift) in enumerate((("train", (0, 0)), ("val", (SIDE, 0)), ("test", (-SIDE // 2, SIDE // 2)))):
        for part, values in (("A", scene(2 * k)), ("B", scene(2 * k + 1)), ("label", square(k))):
            transform = place @ Affine.translation(*shift)
            write_image(data.root / split / part / f"{k}.tif", values, crs=UTM, transform=transform)
    (finding,) = data.check().findings
    assert finding.kind == "leak: place in two splits"
    assert "train/0 and test/2 share 25% of the smaller one's ground" in finding.message


def test_json_is_complete(data: Builder) -> None:
    data.pair("test", "copy", 9, before=scene(200), after=scene(201))
    receipt = checkup_receipt(data.check())
    assert receipt.summary == CheckupSummary(error=1, warning=0, note=0)
    assert receipt.findings[0].pairs == (("train", "p0"), ("test", "copy"))
    assert receipt.findings[0].cure
    assert set(receipt.splits) == {"train", "val", "test"}
    assert from_json(CheckupReceipt, to_json(receipt)) == receipt


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path: Path, write_image) -> None:
    """Images of 13 and of 54 million pixels: the same peak."""
    import tracemalloc

    peaks = []
    for rows in (4096, 16384):
        data = Builder(tmp_path / f"{rows}", write_image)
        values = np.tile(scene(1, 256), (1, rows // 256, 13))
        label = np.tile(square(1, side=256), (rows // 256, 13))
        data.pair("train", "large", 1, values, values[:, ::-1], label, {part: ".tif" for part in ("A", "B", "label")})
        tracemalloc.start()
        assert data.check().errors == 0
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 100
