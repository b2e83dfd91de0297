"""`terradelta train --from`: options become one request, and what cannot be meant is refused."""

import sys
from pathlib import Path

import pytest

from terradelta import cli

pytest.importorskip("torch")

from terradelta.card import ModelCard
from terradelta.lab.training import finetune as module
from terradelta.lab.training import loop
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.finetune import FineTuned, FineTuning

CARD = ModelCard("w", "none", ("red",), (0.5,), (0.2,), scores=({"metrics": {"f1": 0.5}},))


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["terradelta", "train", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def pairs(tmp_path: Path, write_image) -> Path:
    """One pair in both splits."""
    import numpy as np

    for split in ("train", "val"):
        for part in ("A", "B"):
            write_image(tmp_path / "pairs" / split / part / "x.png", np.zeros((3, 4, 4), np.uint8))
        write_image(tmp_path / "pairs" / split / "label" / "x.png", np.zeros((4, 4), np.uint8))
    return tmp_path / "pairs"


@pytest.fixture
def write_image():
    """``write_image(path, values)``: PNG."""
    import warnings

    import rasterio

    def write(path: Path, values) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = values if values.ndim == 3 else values[None]
        size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(path, "w", driver="PNG", dtype="uint8", **size) as target:
                target.write(values)

    return write


def test_options_become_one_request(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[FineTuning] = []

    def finetune(request: FineTuning, **_: object) -> FineTuned:
        seen.append(request)
        return FineTuned(CARD, None, "Nobody knows.")

    monkeypatch.setattr(module, "finetune", finetune)
    run = tmp_path / "run"
    words = ("--from", "buildings", "--data", pairs, "--review", "a", "--review", "b", "--also", pairs, "-o", run)
    assert _run(monkeypatch, *words, "--replay", "0.5", "--steps", 16, "--resume") == 0
    reviews, also = (Path("a"), Path("b")), (str(pairs),)
    assert seen == [FineTuning("buildings", run, str(pairs), reviews, also, 0.5, {"steps": 16}, True, "auto")]
    said = " ".join(capsys.readouterr().err.split())
    assert "Nobody knows." in said
    assert "--model" in said


def test_a_recipe_that_starts_from_weights_is_an_ordinary_run(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Recipe] = []

    def fit(recipe: Recipe, *_: object, **__: object) -> ModelCard:
        seen.append(recipe)
        return CARD

    monkeypatch.setattr(loop, "fit", fit)
    words = ("mlla_sianet_lite0_levir", "--data", pairs, "-o", tmp_path / "run")
    assert _run(monkeypatch, *words, "--from", "buildings") == 0
    assert _run(monkeypatch, *words) == 0
    assert [(recipe.start, recipe.encoder_weights) for recipe in seen] == [("buildings", None), (None, "imagenet")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "x"), "give a recipe, e.g. mlla_sianet_lite0_levir, or weights to fit further"),
        (("--from", "buildings"), "give labelled pairs (--data), or with --from products that were judged"),
        (("snunet16_levir",), "give labelled pairs (--data)"),
        (("snunet16_levir", "--review", "x"), "--review goes with --from alone"),
        (("snunet16_levir", "--from", "buildings", "--review", "x"), "--review goes with --from alone"),
    ],
)
def test_what_cannot_be_meant(words, message: str, tmp_path, monkeypatch, capsys) -> None:
    assert _run(monkeypatch, *words, "-o", tmp_path / "run") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_runs_are_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from terradelta.lab.networks import create_model
    from terradelta.lab.networks.checkpoint import load_network, save_network

    for name, threshold in (("a", 0.2), ("b", 0.6)):
        (tmp_path / name).mkdir()
        card = ModelCard(
            *("w", "fc_ef", ("red",), (0.5,), (0.2,)), network_args={"in_channels": 1}, threshold=threshold
        ).replace(training={"start": "w (SHA-256 0)"})
        save_network(create_model("fc_ef", in_channels=1), card, tmp_path / name / "best.ckpt")
    monkeypatch.chdir(tmp_path)
    first = ("made/best.ckpt: the average of 2 runs, threshold 0.400", "terradelta evaluate made --data")
    for code, said in ((0, first), (2, ("made is there already",))):
        monkeypatch.setattr(sys, "argv", ["terradelta", "average", "a", "b", "-o", "made"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert (end.value.code or 0) == code
        shown = " ".join(capsys.readouterr().err.split())
        assert all(words in shown for words in said)
    assert load_network(tmp_path / "made")[1].training["average_of"][0].startswith("w (SHA-256 ")
