"""What the doctor says of labels."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from terradelta.lab.data.images import Image
from terradelta.lab.data.labels import LabelCoding
from terradelta.lab.data.pairs import PairFiles
from terradelta.lab.doctor import check_dataset, checkup_receipt, mend_dataset
from terradelta.lab.doctor.label_values import LabelKind, LabelTally, mended

from .doctor_scenes import SIDE, UTM, Builder, kinds, scene, square


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
    assert checkup_receipt(checkup).splits["train"].labels == {"0 and 255": 4, "0 and 1": 1}


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
