"""Every recipe by name: complete, buildable, and as its paper prints it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from terradelta.card import ModelCard
from terradelta.errors import InputError
from terradelta.lab.losses import LOSSES
from terradelta.lab.networks import create_model, list_models, model_info
from terradelta.lab.training.config import IMAGENET_MEAN, Augmentation, Recipe
from terradelta.lab.training.recipes import RECIPES, load_recipe, mccrnet, mlla_sianet
from terradelta.lab.training.recipes.compared import COMPARED
from terradelta.lab.training.recipes.paper_data import CDD, DSIFN, LEVIR, TRAINING_DATA
from terradelta.lab.training.schedule import learning_rate
from terradelta.predict.load import load_predictor


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_one_whole_value(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe == RECIPES[name]()
    assert recipe.network in list_models()
    assert recipe.loss in LOSSES
    assert recipe.crop_px % 32 == 0
    assert recipe.steps % recipe.eval_every == 0
    assert recipe.data
    assert recipe.licence.startswith("The weights were fitted on ")
    assert recipe.differences(recipe.to_json()) == []
    assert learning_rate(recipe, 0) <= recipe.lr
    assert json.loads(recipe.to_json())["schedule"]["kind"] == recipe.schedule.kind


def test_each_network_of_the_package_has_a_recipe_with_the_loss_it_is_meant_for() -> None:
    recipes = [make() for make in RECIPES.values()]
    assert {recipe.network for recipe in recipes} == set(list_models())
    for recipe in recipes:
        assert recipe.loss == model_info(recipe.network).loss, recipe.name


@pytest.mark.parametrize("method", [*(make.__name__ for make in COMPARED), "mlla_sianet", "mccrnet"])
def test_networks_are_built_with_the_recipes_arguments_and_the_loss_takes_its_own(method: str) -> None:
    """On stand-in outputs: as many as the network gives, the diagonal changed."""
    recipe = load_recipe(f"{method}_levir")
    with torch.device("meta"):
        assert create_model(recipe.network, **recipe.network_args).stride <= recipe.crop_px
    target = torch.eye(4)[None, None]
    loss = LOSSES[recipe.loss]([torch.zeros(1, 1, 4, 4, requires_grad=True)] * 2, target, **recipe.loss_args)
    assert loss.isfinite()
    assert loss.requires_grad


def test_mccrnet_is_as_printed() -> None:
    recipe = load_recipe("mccrnet_cdd")
    assert recipe.optimiser.betas == (0.5, 0.99)
    assert (recipe.lr, recipe.crop_px, recipe.encoder_weights) == (1e-4, 256, "vgg16")
    assert (recipe.augmentation.rotation_deg, recipe.augmentation.p_rotation) == (30, 1)
    assert (recipe.augmentation.orientations, recipe.augmentation.p_colour) == ("flips", 0)
    assert (recipe.loss, recipe.loss_args, recipe.mean) == ("eaw_ce", {"auxiliary_weight": 0.4}, IMAGENET_MEAN)
    epoch = 10_000 // 8
    assert recipe.steps == 100 * epoch
    rates = [learning_rate(recipe, step * epoch) for step in range(100)]
    assert rates[0] == 1e-4
    assert rates[50] == pytest.approx(0, abs=1e-12)
    assert rates[25] == pytest.approx(5e-5) == pytest.approx(rates[75])
    assert rates[99] > 0.99e-4


def test_augmentation_and_scaling_are_those_of_the_released_codes() -> None:
    """Read in the authors' repositories; `normalise` takes values as they are stored."""
    bit, stanet, sfearnet = (load_recipe(f"{name}_levir") for name in ("bit", "stanet_pam", "sfearnet"))
    assert bit.augmentation == Augmentation.only(
        orientations="flips", p_blur=1.0, blur_px=(1e-3, 1.0), blur_dates="both"
    )
    assert stanet.augmentation == Augmentation.only(rotation_deg=(0.0, 15.0), p_rotation=1.0)
    assert sfearnet.augmentation == Augmentation.only(orientations="flips", rotation_deg=(0.0, 360.0), p_rotation=0.3)
    stored = np.full((3, 1, 1), 51, np.uint8)
    for name, expected in (("bit", -0.6), ("stanet_bam", -0.6), ("sfearnet", 0.2), ("snunet16", 51)):
        recipe = load_recipe(f"{name}_levir")
        card = ModelCard("t", recipe.network, recipe.bands, recipe.mean, recipe.std, recipe.scale)
        np.testing.assert_allclose(card.normalise(stored), expected, rtol=1e-6)


def test_stairs_fall_after_the_printed_epochs() -> None:
    snunet = load_recipe("snunet32_levir")
    epoch = 7120 // 16
    rates = {step: learning_rate(snunet, step) for step in (0, 8 * epoch - 1, 8 * epoch, 16 * epoch)}
    assert list(rates.values()) == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])
    fc = load_recipe("fc_ef_cdd")
    assert learning_rate(fc, 313) == pytest.approx(0.95e-3)  # 313 batches of 32 hold 10,000 crops
    dasnet = load_recipe("dasnet_cdd")
    assert [learning_rate(dasnet, step) for step in (19_999, 20_000, 40_000)] == pytest.approx([1e-4, 1e-5, 1e-6])


def test_lines_hold_and_fall_as_printed() -> None:
    stanet, bit = load_recipe("stanet_pam_levir"), load_recipe("bit_levir")
    epoch = 7120 // 8
    assert [learning_rate(stanet, k * epoch) for k in (0, 100, 150)] == pytest.approx([1e-3, 1e-3, 5e-4])
    assert [learning_rate(bit, k * epoch) for k in (0, 100, 150)] == pytest.approx([1e-2, 5e-3, 2.5e-3])


def test_epochs_become_steps() -> None:
    assert (LEVIR.crops, CDD.crops, DSIFN.crops) == (7120, 10_000, 14_400)
    assert load_recipe("snunet16_cdd").steps == 100 * 625
    assert load_recipe("ifn_levir").steps == 100 * 890
    dsifn = load_recipe("ifn_dsifn")
    assert (dsifn.crop_px, dsifn.validation.patch_px, dsifn.steps) == (512, 512, 100 * 450)


@pytest.mark.parametrize("module", [mccrnet, mlla_sianet])
def test_docstrings_name_command_and_steps(module) -> None:
    first, *others = module.__all__
    assert f"terradelta train {first}_levir " in module.__doc__
    made = [name for name in RECIPES if name.rpartition("_")[0] == first]
    assert len(made) in (2, 4)
    assert all(f"{load_recipe(name).steps:,}" in getattr(module, first).__doc__ for name in made)
    assert all("Not run here" in getattr(module, name).__doc__ for name in (first, *others))


@pytest.mark.parametrize(("function", "weights"), [("sixth", "buildings"), ("free", "buildings-free")])
def test_the_recipe_of_the_weights_that_ship_is_the_one_in_their_card(function: str, weights: str) -> None:
    recipe = load_recipe(str(Path(__file__).parents[4] / "recipes" / f"buildings.py:{function}"))
    card = load_predictor(weights, threads=1).card
    assert (recipe.name, recipe.network, recipe.network_args) == (card.name, card.network, card.network_args)
    assert (recipe.bands, recipe.scale, recipe.mean, recipe.std) == (card.bands, card.scale, card.mean, card.std)
    assert (recipe.gsd_m, recipe.data, recipe.licence) == (card.gsd_m, card.data, card.licence)
    told = {name: card.training[name] for name in ("steps", "batch_size", "seed")}
    assert {name: getattr(recipe, name) for name in told} == told
    assert card.training["best_step"] in (*range(0, recipe.steps, recipe.eval_every), recipe.steps)


def test_a_networks_name_gives_the_defaults() -> None:
    assert load_recipe("snunet") == Recipe("snunet", network="snunet", loss="ce_dice")


def test_what_is_no_recipe(tmp_path: Path) -> None:
    archives = "|".join(TRAINING_DATA)
    with pytest.raises(InputError, match=r"'nothing' is neither a recipe file .*mccrnet_levir, .*\(fc_ef\|") as found:
        load_recipe("nothing")
    assert str(found.value).endswith(f"_({archives})")
    file = tmp_path / "mine.py"
    file.write_text("def other():\n    return 1\n")
    for text, name in ((str(file), "recipe"), (f"{file}:other", "other")):
        with pytest.raises(InputError, match=rf"mine.py has no function {name}\(\) that returns a .*Recipe"):
            load_recipe(text)


def test_a_file_may_derive_from_ours(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\nfrom terradelta.lab.training.recipes import load_recipe\n\n"
        "def recipe():\n    return replace(load_recipe('bit_levir'), encoder_weights='resnet18')\n"
    )
    assert load_recipe(str(file)) == replace(load_recipe("bit_levir"), encoder_weights="resnet18")
