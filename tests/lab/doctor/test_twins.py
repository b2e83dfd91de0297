"""The doctor's search for images that occur twice."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from terradelta.lab.doctor import check_dataset, twins

from .doctor_scenes import SIDE, Builder, kinds, scene, square


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


@pytest.mark.slow
def test_the_real_subset_has_its_known_repeat(shared_data: Path) -> None:
    checkup = check_dataset(shared_data / "levir_cd_subset")
    assert kinds(checkup) == {"pair that occurs twice": 1}
    assert checkup.findings[0].pairs == (("train", "full1024_0012"), ("train", "half512_0133"))
