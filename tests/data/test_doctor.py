"""The doctor on data sets with one fault each: what it finds, what it says, and what it mends."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy.ndimage import gaussian_filter

from terradelta.data import open_pairs
from terradelta.data.doctor import Checkup, Severity, check_dataset, grouped, mend_dataset, twins
from terradelta.data.doctor.labels import LabelKind, LabelTally, mended
from terradelta.data.doctor.measures import Moments, Portrait
from terradelta.data.images import Image
from terradelta.data.labels import LabelCoding
from terradelta.data.pairs import PairFiles
from terradelta.errors import DataError, OutputExistsError

SIDE = 72
UTM = "EPSG:32614"
TIFF = {"A": ".tif", "B": ".tif"}


def scene(seed: int, side: int = SIDE) -> np.ndarray:
    """A picture with structure at several scales, as images of the ground have: ``(3, side, side)`` uint8."""
    rng = np.random.default_rng(seed)
    grey = sum(gaussian_filter(rng.normal(size=(side, side)), s) * s for s in (0.7, 2, 5))
    grey = 120 + 40 * grey / grey.std()
    return np.clip(grey[None] + rng.normal(0, 2, (3, side, side)) + [[[5]], [[0]], [[-5]]], 0, 255).astype(np.uint8)


def square(seed: int, value: int = 255, side: int = SIDE) -> np.ndarray:
    label = np.zeros((side, side), np.uint8)
    row, col = np.random.default_rng(seed).integers(0, side - 20, 2)
    label[row : row + 18, col : col + 18] = value
    return label


class Builder:
    """Writes pairs; pair k of a split has scenes of its own unless others are given."""

    def __init__(self, root: Path, write_image) -> None:
        self.root, self.write_image = root, write_image

    def pair(self, split: str, name: str, seed: int, before=None, after=None, label=None, suffixes=None) -> None:
        parts = {
            "A": scene(2 * seed) if before is None else before,
            "B": scene(2 * seed + 1) if after is None else after,
            "label": square(seed) if label is None else label,
        }
        for part, values in parts.items():
            suffix = (suffixes or {}).get(part, ".png")
            self.write_image(self.root / split / part / f"{name}{suffix}", values)

    def healthy(self) -> "Builder":
        for k, split in enumerate(("train", "train", "train", "val", "test")):
            self.pair(split, f"p{k}", 100 + k)
        return self

    def check(self) -> Checkup:
        return check_dataset(self.root)


@pytest.fixture
def data(tmp_path: Path, write_image) -> Builder:
    return Builder(tmp_path / "data", write_image).healthy()


def kinds(checkup: Checkup) -> dict[str, int]:
    return {kind: len(found) for (_, kind), found in grouped(checkup.findings).items()}


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
    found = data.check().to_dict()["splits"]["train"]
    pairs = open_pairs(data.root, "train")
    values = np.concatenate(
        [x.reshape(3, -1) for k in range(3) for x in (pairs.read(k).before, pairs.read(k).after)], 1
    )
    np.testing.assert_allclose(found["mean"], values.mean(axis=1) / 255, atol=1e-6)
    np.testing.assert_allclose(found["std"], values.std(axis=1) / 255, atol=1e-6)
    assert found["changed_fraction"] == pytest.approx(18 * 18 / SIDE**2)
    assert (found["pairs"], found["read"], found["pairs_with_change"], found["scale"]) == (3, 3, 3, 255)
    assert found["sizes"] == [[SIDE, SIDE, 3]]
    assert found["labels"] == {"0 and 255": 3}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_moments_of_parts_are_those_of_the_whole(dtype: type, monkeypatch) -> None:
    monkeypatch.setattr("terradelta.data.doctor.measures._CHUNK", 777)
    values = np.random.default_rng(0).normal(200, 12, (2, 5000)).clip(0, 255).astype(dtype)
    moments, other = Moments(), Moments()
    moments.add(values[:, :100])
    moments.add(values[:, :0])
    other.add(values[:, 100:4999])
    other.add(values[:, 4999:])
    moments.merge(other)
    moments.merge(Moments())
    np.testing.assert_allclose(moments.mean, values.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(moments.std, values.std(axis=1), rtol=1e-9)


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
        "before is 3 bands of 72 x 72, after 3 bands of 72 x 72, label 1 bands of 72 x 71"
        in checkup.findings[0].message
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


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({0: 9, 255: 1}, LabelKind.FULL_RANGE),
        ({0: 9, 1: 1}, LabelKind.ONE),
        ({0: 9}, LabelKind.EMPTY),
        ({1: 9}, LabelKind.FULL),
        ({255: 9}, LabelKind.FULL),
        ({0: 900, 3: 20, 250: 80, 127: 5}, LabelKind.BLURRED),
        ({0: 9, 2: 3, 1: 1}, LabelKind.CLASSES),
        ({0: 9, 76: 3, 149: 1}, LabelKind.OTHER),
        ({0: 9, 0.5: 3}, LabelKind.OTHER),
        ({0: 9, 31: 3}, LabelKind.CLASSES),
    ],
)
def test_kinds_of_labels(values: dict[float, int], kind: LabelKind) -> None:
    files = PairFiles("p", Path("a"), Path("b"), Path("l.png"))
    tally = LabelTally(files)
    flat = np.repeat(list(values), list(values.values()))
    tally.add(Image(flat[None, None]))
    assert tally.kind() is kind
    coded = LabelTally(PairFiles("p", Path("a"), Path("b"), Path("l.png"), LabelCoding.NONZERO))
    coded.add(Image(flat[None, None]))
    assert coded.kind() is LabelKind.CODED
    assert coded.changed == sum(n for value, n in values.items() if value)


def test_a_blurred_label_is_not_taken_for_0_and_1_in_a_dark_strip() -> None:
    tally = LabelTally(PairFiles("p", Path("a"), Path("b"), Path("l.png")))
    tally.add(Image(np.array([[[0, 1, 1, 0]]], np.uint8)))
    tally.add(Image(np.array([[[0, 254, 255, 3]]], np.uint8)))
    assert tally.changed == 2
    assert mended(Image(np.array([[[0, 127, 128]]], np.uint8)), 128).tolist() == [[False, False, True]]


def test_labels_saved_as_jpeg(data: Builder) -> None:
    data.pair("train", "jpeg", 7, suffixes={"label": ".jpg"})
    checkup = data.check()
    assert kinds(checkup) == {"label with blurred values (saved as JPEG or resized)": 1}
    assert "label/jpeg.jpg: values 0, 1" in checkup.findings[0].message


def test_coloured_class_and_odd_labels(data: Builder) -> None:
    colour = np.zeros((3, SIDE, SIDE), np.uint8)
    colour[0, 5:20, 5:20] = 255
    data.pair("train", "colour", 7, label=colour)
    data.pair("train", "class", 8, label=square(8, 3) + square(9, 1))
    data.pair("train", "grey", 9, label=square(9, 90) + square(10, 50))
    assert kinds(data.check()) == {
        "label that is a coloured picture": 1,
        "label with classes in place of change": 1,
        "label with other values": 1,
    }


def test_own_folders_without_georeference_are_judged_and_mended_alike(tmp_path: Path, write_image) -> None:
    """``before``, ``after``, ``label`` and lists, as many people lay out their tiles."""
    root = tmp_path / "own"
    for k, name in enumerate(("a", "b", "c")):
        write_image(root / f"before/{name}.png", scene(2 * k))
        write_image(root / f"after/{name}.png", scene(2 * k + 1))
        write_image(root / f"label/{name}.{'jpg' if name == 'b' else 'png'}", square(k))
    checkup = check_dataset(root)
    assert kinds(checkup) == {"label with blurred values (saved as JPEG or resized)": 1}
    changes = mend_dataset(checkup, tmp_path / "mended")
    assert [(change.split, change.name, change.left_out) for change in changes] == [("all", "b", False)]
    assert kinds(check_dataset(tmp_path / "mended")) == {}
    assert (tmp_path / "mended/all/A/a.png").read_bytes() == (root / "before/a.png").read_bytes()


def test_a_label_on_the_ground_with_other_values(tmp_path: Path, write_image) -> None:
    place = {"crs": UTM, "transform": Affine(0.5, 0, 600000, 0, -0.5, 3400000)}
    for name, values in (("before", scene(0)), ("after", scene(1)), ("label", square(1, 90))):
        write_image(tmp_path / f"data/{name}/x.tif", values, **place)
    checkup = check_dataset(tmp_path / "data")
    assert kinds(checkup) == {"label with other values": 1}
    assert "label/x.tif: label values [0, 90]" in checkup.findings[0].message


def test_palettes_and_mixed_kinds_are_notes(data: Builder) -> None:
    data.pair("train", "one", 7, label=square(7, 1))
    values = square(8, 1)
    data.pair("train", "palette", 8)
    palette = {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)}
    data.write_image(data.root / "train/label/palette.png", values, colormap=palette)
    checkup = data.check()
    assert kinds(checkup) == {"label with a palette": 1, "labels of two kinds": 1}
    assert checkup.errors == 0
    assert checkup.to_dict()["splits"]["train"]["labels"] == {"0 and 255": 4, "0 and 1": 1}


def test_balance_of_classes(tmp_path: Path, write_image) -> None:
    data = Builder(tmp_path / "data", write_image)
    for k in range(2):
        data.pair("train", f"a{k}", k, label=np.zeros((SIDE, SIDE), np.uint8))
    rare = np.zeros((SIDE, SIDE), np.uint8)
    rare[:5, :5] = 255
    data.pair("val", "b", 5, label=rare)
    data.pair("test", "c", 6, label=np.full((SIDE, SIDE), 255, np.uint8))
    assert kinds(data.check()) == {
        "no change at all": 1,
        "label that is changed almost everywhere": 1,
        "splits unlike in their share of change": 1,
        "change is rare": 1,
    }


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


def jpeg(image: np.ndarray, tmp_path: Path, write_image) -> np.ndarray:
    path = write_image(tmp_path / "j.jpg", image)
    with rasterio.open(path) as source:
        return source.read()


@pytest.mark.parametrize("orientation", range(8))
def test_leaks_are_found_in_every_orientation(data: Builder, orientation: int) -> None:
    parts = {"before": scene(200), "after": scene(201), "label": square(100)}
    turned = {key: np.ascontiguousarray(twins.turned(values, orientation)) for key, values in parts.items()}
    data.pair("test", "copy", 9, **turned)
    checkup = data.check()
    assert kinds(checkup) == {"leak: pair in two splits": 1}
    (finding,) = checkup.findings
    assert finding.pairs == (("train", "p0"), ("test", "copy"))
    assert ("equal pixels" in finding.message) == (orientation == 0)
    assert finding.correlation == pytest.approx(1, abs=1e-6)


def test_leaks_are_found_after_encoding_brightening_and_scaling(data: Builder, tmp_path: Path, write_image) -> None:
    data.pair(
        "val", "jpeg", 9, before=jpeg(scene(200), tmp_path, write_image), after=jpeg(scene(201), tmp_path, write_image)
    )
    bright = [np.clip(scene(s).astype(float) * 1.2 + 15, 0, 255).astype(np.uint8) for s in (202, 203)]
    data.pair("test", "bright", 10, before=bright[0], after=bright[1])
    larger = [np.kron(scene(s), np.ones((1, 2, 2))).astype(np.uint8) for s in (204, 205)]
    data.pair("test", "larger", 11, before=larger[0], after=larger[1], label=square(1, side=2 * SIDE))
    checkup = data.check()
    assert kinds(checkup) == {"leak: pair in two splits": 3}
    assert {finding.pairs[1][1] for finding in checkup.findings} == {"jpeg", "bright", "larger"}
    assert all(finding.correlation > 0.9 for finding in checkup.findings)


def test_labels_that_contradict_one_another(data: Builder) -> None:
    data.pair("train", "same", 9, before=scene(200), after=scene(201), label=square(100, 1))
    data.pair("train", "other", 9, before=scene(200), after=scene(201), label=square(3))
    said = {f.pairs[0][1] + f.pairs[1][1]: "labels differ" in f.message for f in data.check().findings if f.pairs}
    assert said == {"p0same": False, "otherp0": True, "othersame": True}


def test_repeats_in_one_split_are_warnings(data: Builder) -> None:
    data.pair("train", "again", 9, before=scene(200), after=scene(201))
    checkup = data.check()
    assert kinds(checkup) == {"pair that occurs twice": 1}
    assert checkup.errors == 0


def test_exchanged_dates(data: Builder) -> None:
    data.pair("train", "back", 9, before=scene(201), after=scene(200))
    data.pair("test", "back", 10, before=scene(203)[:, ::-1], after=scene(202)[:, ::-1])
    assert kinds(data.check()) == {
        "leak: pair in two splits, dates exchanged": 1,
        "pair that occurs twice, dates exchanged": 1,
    }


def test_one_image_in_two_pairs(data: Builder) -> None:
    data.pair("test", "shared", 9, before=scene(200))
    data.pair("train", "shared", 10, after=scene(203))
    assert kinds(data.check()) == {"leak: image in two splits": 1, "image that occurs in two pairs": 1}


def test_pictures_of_one_colour_are_no_twins(data: Builder) -> None:
    flat = np.zeros((3, SIDE, SIDE), np.uint8)
    data.pair("train", "x", 7, before=flat)
    data.pair("test", "y", 8, before=flat)
    assert kinds(data.check()) == {"picture of one colour": 2}


def test_a_search_that_is_cut_short_says_so(data: Builder, monkeypatch) -> None:
    for k in range(3):
        data.pair("train", f"again{k}", 9 + k, before=scene(200), after=scene(201))
    monkeypatch.setattr(twins, "_MOST_CANDIDATES", 2)
    assert "search cut short" in kinds(data.check())


def test_blocks_find_what_one_product_finds(monkeypatch) -> None:
    stack = np.random.default_rng(0).normal(size=(50, 4, 4))
    stack /= np.linalg.norm(stack.reshape(50, -1), axis=1)[:, None, None]
    monkeypatch.setattr(twins, "CANDIDATE", 0.4)
    monkeypatch.setattr(twins, "_BLOCK", 7)
    found = {(a, b) for a, b, _ in twins._alike(stack, stack)}
    want = {(a, b) for a in range(50) for b in range(a + 1, 50) if (stack[a] * stack[b]).sum() >= 0.4}
    assert found == want
    assert len(want) > 20


def test_json_is_complete(data: Builder) -> None:
    data.pair("test", "copy", 9, before=scene(200), after=scene(201))
    facts = json.loads(json.dumps(data.check().to_dict()))
    assert facts["summary"] == {"error": 1, "warning": 0, "note": 0}
    assert facts["findings"][0]["pairs"] == [["train", "p0"], ["test", "copy"]]
    assert facts["findings"][0]["cure"]
    assert set(facts["splits"]) == {"train", "val", "test"}


def read_log(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "fixes.csv").open() as stream:
        return [(row["split"], row["name"], row["done"]) for row in csv.DictReader(stream)]


def test_a_mended_copy_has_no_error_left(data: Builder, tmp_path: Path) -> None:
    colour = np.zeros((3, SIDE, SIDE), np.uint8)
    colour[0, 5:20, 5:20] = 255
    data.pair("train", "colour", 7, label=colour)
    data.pair("train", "jpeg", 8, suffixes={"label": ".jpg"})
    data.pair("train", "one", 9, label=np.stack([square(9, 1)] * 3))
    data.pair("train", "palette", 10)
    palette = {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)}
    data.write_image(data.root / "train/label/palette.png", square(10, 1), colormap=palette)
    data.pair("train", "class", 11, label=square(11, 3))
    data.pair("train", "cut", 12)
    (data.root / "train/B/cut.png").write_bytes(b"")
    data.pair("train", "odd", 13, label=np.zeros((3, 4), np.uint8))
    data.pair("train", "copy", 14, before=scene(206), after=scene(207))
    data.pair("train", "gone", 15)
    (data.root / "train/label/gone.png").unlink()
    source = {path: path.read_bytes() for path in data.root.rglob("*.*")}
    changes = mend_dataset(data.check(), tmp_path / "mended")
    left_out = ("class", "copy", "cut", "gone", "odd")
    rewritten = ("colour", "jpeg", "one", "palette")
    assert {change.name for change in changes if change.left_out} == set(left_out)
    assert {change.name for change in changes if not change.left_out} == set(rewritten)
    expected = [("train", name, "left out" if name in left_out else "changed") for name in sorted(left_out + rewritten)]
    assert read_log(tmp_path / "mended") == expected
    again = check_dataset(tmp_path / "mended")
    assert kinds(again) == {}
    pairs = open_pairs(tmp_path / "mended", "train")
    by_name = {files.name: pairs.read(k) for k, files in enumerate(pairs.files)}
    assert set(by_name) == {"p0", "p1", "p2", *rewritten}
    np.testing.assert_array_equal(by_name["colour"].label, colour[0] > 0)
    np.testing.assert_array_equal(by_name["one"].label, square(9) > 0)
    np.testing.assert_array_equal(by_name["palette"].label, square(10) > 0)
    assert (by_name["jpeg"].label != (square(8) > 0)).mean() < 0.01
    assert (tmp_path / "mended/train/A/p0.png").read_bytes() == (data.root / "train/A/p0.png").read_bytes()
    assert {path: path.read_bytes() for path in data.root.rglob("*.*")} == source


def test_scenes_on_the_ground_are_mended_onto_one_grid(tmp_path: Path, write_image) -> None:
    place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
    write_image(tmp_path / "a.tif", scene(1), crs=UTM, transform=place)
    write_image(tmp_path / "b.tif", scene(2), crs=UTM, transform=place @ Affine.translation(8, 0))
    write_image(tmp_path / "l.tif", square(3), crs=UTM, transform=place)
    (tmp_path / "p.csv").write_text("before,after,label,name,split\na.tif,b.tif,l.tif,s,train\n")
    checkup = check_dataset(tmp_path / "p.csv")
    assert kinds(checkup) == {}
    mend_dataset(checkup, tmp_path / "mended")
    whole, copy = open_pairs(tmp_path / "p.csv", "train"), open_pairs(tmp_path / "mended", "train")
    for part in ("before", "after", "label"):
        np.testing.assert_array_equal(getattr(copy.read(0), part), getattr(whole.read(0), part))
    assert copy.grid(0) == whole.grid(0)


def test_mending_refuses_and_leaves_nothing(data: Builder, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputExistsError, match="there is there already; nothing was overwritten"):
        mend_dataset(data.check(), tmp_path / "there")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("terradelta.data.doctor.mend._write_lists", fail)
    with pytest.raises(KeyboardInterrupt):
        mend_dataset(data.check(), tmp_path / "mended")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "there"}


def test_nothing_to_keep(tmp_path: Path, write_image) -> None:
    data = Builder(tmp_path / "data", write_image)
    data.pair("train", "a", 1, label=square(1, 3))
    with pytest.raises(DataError, match="no pair can be kept; mend the labels first"):
        mend_dataset(data.check(), tmp_path / "mended")


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


@pytest.mark.slow
def test_the_real_subset_has_its_known_repeat(shared_data: Path) -> None:
    checkup = check_dataset(shared_data / "levir_cd_subset")
    assert kinds(checkup) == {"pair that occurs twice": 1}
    assert checkup.findings[0].pairs == (("train", "full1024_0012"), ("train", "half512_0133"))
