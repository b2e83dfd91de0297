"""Fine-tuning from the parent to the new card."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from terradelta.errors import DataError, InputError, OutputExistsError
from terradelta.lab.data import PairList
from terradelta.lab.networks.checkpoint import load_network
from terradelta.lab.training import finetune as module
from terradelta.lab.training.finetune import EVALUATIONS, FineTuning, finetune, longest

FAST = {"steps": 16, "crop_px": 32, "batch_size": 2, "check_data": False, "lr": 0.05}


@pytest.fixture
def unsplit(squares: Callable[[str], PairList], tmp_path: Path) -> Path:
    """Six tiles without a validation split."""
    shutil.copytree(squares("train").root / "train", tmp_path / "mine" / "train")
    return tmp_path / "mine"


def _request(small: Path, data: Path | str, run: Path, **options: object) -> FineTuning:
    return FineTuning(str(small), run, str(data), changes=FAST, device="cpu", **options)


def test_steps_rise_with_the_tiles_within_limits() -> None:
    steps = [longest(n) for n in (1, 5, 20, 50, 10_000)]
    assert steps == sorted(steps)
    assert all(n % EVALUATIONS == 0 for n in steps)
    assert steps[-1] == 240


def test_cross_validation_chooses_and_judges(small: Path, unsplit: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = finetune(_request(small, unsplit, tmp_path / "run"), announce=said.append)
    judgement, card = result.judgement, result.card
    assert judgement is not None
    assert judgement.comparison.first["f1"] == 0  # the parent never reaches its threshold of 0.9
    assert judgement.comparison.second["f1"] > 0.9
    assert judgement.comparison.images == 6
    assert "It got better." in result.lines()
    assert "before F1 0.000" in result.lines()[0]
    assert any(text.startswith("fold 3 of 3: 2 tiles held back, 4 to fit") for text in said)
    assert load_network(tmp_path / "run")[1] == card
    assert card.name == "run"
    assert (card.network, card.bands, card.mean, card.std, card.scale) == load_card(small)
    assert card.finds == "what was labelled in mine, after bright squares"
    assert card.licence == "Any. Fitted further on mine: the terms of these data bind as well."
    assert card.data == "Noise; then 6 tiles of mine"
    assert card.gsd_m == (1.0, 2.0)
    before = {"name": "parent", "data": "Noise", "finds": "bright squares", "before_it": []}
    assert card.training["started_from"] == before
    job = module._Job(_request(small, unsplit, tmp_path / "next"), None, card, None, None, None)  # a child of the child
    assert (job._first_purpose, job._origin) == ("bright squares", before)
    assert card.training["loss"] == "ce"
    assert card.training["held_back"]["verdict"] == "It got better."
    assert card.scores[0]["split"] == "held back in 3 folds"


def load_card(path: Path) -> tuple[object, ...]:
    """What a child takes over."""
    card = load_network(path)[1]
    return card.network, card.bands, card.mean, card.std, card.scale


def test_a_resumed_one_is_an_unbroken_one(small: Path, unsplit: Path, tmp_path: Path) -> None:
    whole = finetune(_request(small, unsplit, tmp_path / "whole" / "run"))
    calls = 0

    def stop(sentence: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the second fold begins
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(_request(small, unsplit, tmp_path / "run"), announce=stop)
    with pytest.raises(OutputExistsError, match="go on with --resume"):
        finetune(_request(small, unsplit, tmp_path / "run"))
    resumed = finetune(_request(small, unsplit, tmp_path / "run", resume=True))
    assert resumed.card == whole.card
    one, two = (load_network(tmp_path / place)[0].state_dict() for place in ("whole/run", "run"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert finetune(_request(small, unsplit, tmp_path / "run", resume=True)).card == whole.card
    with pytest.raises(InputError, match=r"started with other options than those given \(replay, see"):
        finetune(_request(small, unsplit, tmp_path / "run", resume=True, replay=0.5))


def test_a_validation_split_takes_the_place_of_folds(
    small: Path, squares: Callable[[str], PairList], tmp_path: Path
) -> None:
    result = finetune(_request(small, squares("train").root, tmp_path / "run"))
    assert not (tmp_path / "run" / "folds").exists()
    assert result.how.startswith("the 2 validation pairs, which also chose")
    assert result.card.scores[0]["split"].startswith("val")
    assert result.judgement is not None
    assert result.judgement.comparison.second["f1"] > 0.9


def test_few_tiles_keep_the_threshold_and_say_so(small: Path, unsplit: Path, tmp_path: Path) -> None:
    for name in ("2", "3", "4", "5"):
        for part in ("A", "B", "label"):
            (unsplit / "train" / part / f"{name}.png").unlink()
    result = finetune(_request(small, unsplit, tmp_path / "run"))
    assert result.judgement is None
    assert "Nothing was held back" in result.lines()[0]
    assert result.card.threshold == 0.9
    assert result.card.scores == ()
    given, made = (load_network(place)[0].state_dict() for place in (small, tmp_path / "run"))
    assert any(not torch.equal(given[name], made[name]) for name in given)
    assert torch.equal(given["norm.running_mean"], made["norm.running_mean"])  # statistics stay


def test_calibration_of_the_parent_does_not_move_its_threshold(small: Path, unsplit: Path, tmp_path: Path) -> None:
    """Its threshold is brought to the scale of the bare logits: the same pixels count as changed."""
    network, card = load_network(small)
    card = card.replace(temperature=2.0, logit_bias=0.5, threshold=0.7)
    job = module._Job(_request(small, unsplit, tmp_path / "run"), network, card, None, None, None)
    logit = (np.log(0.7 / 0.3) - 0.5) * 2
    assert job._threshold == pytest.approx(1 / (1 + np.exp(-logit)))


def test_parents_that_are_better_stay(small: Path, unsplit: Path, tmp_path: Path) -> None:
    """With a rate of 0 nothing is learned: 0 steps are best, and only the threshold is new."""
    request = FineTuning(str(small), tmp_path / "run", str(unsplit), changes={**FAST, "lr": 0.0}, device="cpu")
    result = finetune(request)
    assert result.card.training["steps"] == 0
    assert result.card.threshold < 0.9
    assert result.judgement is not None
    assert result.judgement.threshold_alone == result.judgement.comparison.second["f1"]
    given, made = (load_network(place)[0].state_dict() for place in (small, tmp_path / "run"))
    assert all(torch.equal(given[name], made[name]) for name in given)


def test_replay_is_in_the_recipe_and_on_the_card(
    small: Path, unsplit: Path, squares: Callable[[str], PairList], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = []
    fit = module.fit

    def seen(recipe, train, *others, **options):
        recipes.append((recipe.replay, len(train)))
        return fit(recipe, train, *others, **options)

    monkeypatch.setattr(module, "fit", seen)
    result = finetune(_request(small, unsplit, tmp_path / "run", also=(str(squares("train").root),), replay=0.4))
    assert recipes[:3] == [((4, 0.4), 10)] * 3
    assert "with 40% of the crops from" in result.card.data
    assert json.loads((tmp_path / "run" / "finetune.json").read_text())["replay"] == 0.4


def test_labels_without_change_and_no_labels_at_all(small: Path, unsplit: Path, tmp_path: Path, write_pair) -> None:
    for path in sorted((unsplit / "train" / "label").glob("*.png")):
        image = np.zeros((3, 96, 96), np.uint8)
        write_pair(unsplit, "train", path.stem, image, image, image[0])
    with pytest.raises(DataError, match="no label holds a changed pixel"):
        finetune(_request(small, unsplit, tmp_path / "run"))
    assert not (tmp_path / "run").exists()  # free for another try
    with pytest.raises(InputError, match="fine-tuning needs labels"):
        finetune(FineTuning(str(small), tmp_path / "other"))


def test_a_folder_of_something_else_is_left_alone(small: Path, unsplit: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").touch()
    with pytest.raises(OutputExistsError, match="holds no such run"):
        finetune(_request(small, unsplit, tmp_path / "run", resume=True))
