import dataclasses
import importlib.util
import inspect
import json
from pathlib import Path

import pytest

from terradelta.errors import InputError
from terradelta.lab.networks import list_models
from terradelta.lab.training.config import Augmentation, Optimiser, Recipe, Schedule
from terradelta.lab.training.recipes import load_recipe

RECIPES = sorted((Path(__file__).resolve().parents[3] / "recipes").glob("*.py"))


def _load(path: Path) -> dict[str, Recipe]:
    """What each function of the file gives."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__doc__
    return {name: made() for name, made in vars(module).items() if inspect.isfunction(made)}


LOADED = {f"{path.stem}:{name}": recipe for path in RECIPES for name, recipe in _load(path).items()}


def test_there_are_recipes() -> None:
    assert {"buildings:first", "buildings:fifth", "landcover:recipe"} <= LOADED.keys()


@pytest.mark.parametrize("name", LOADED)
def test_every_recipe_is_one_whole_value(name: str) -> None:
    recipe = LOADED[name]
    assert isinstance(recipe, Recipe)
    file, _, function = name.partition(":")
    assert recipe == load_recipe(f"{RECIPES[0].parent / file}.py:{function}")
    assert recipe.network in list_models()
    assert recipe.crop_px % 32 == 0
    assert recipe.data
    assert recipe.licence != Recipe("x").licence
    if recipe.mean is not None:
        assert len(recipe.mean) == len(recipe.std) == len(recipe.bands)


def test_the_json_holds_every_field() -> None:
    recipe = Recipe("x", gsd_m=(0.5, 1.0))
    fields = json.loads(recipe.to_json())
    assert set(fields) == {f.name for f in dataclasses.fields(Recipe)}
    assert fields["gsd_m"] == [0.5, 1.0]
    assert fields["augmentation"]["shift_px"] == 1
    assert dataclasses.replace(recipe, lr=2e-3).to_json() != recipe.to_json()


@pytest.mark.parametrize(
    "name", ["steps", "batch_size", "accumulate", "devices", "crop_px", "eval_every", "save_every"]
)
def test_counts_are_at_least_one(name: str) -> None:
    with pytest.raises(InputError, match=f"recipe 'x': {name} is 0; it must be at least 1"):
        Recipe("x", **{name: 0})


def test_shares_are_shares() -> None:
    with pytest.raises(InputError, match=r"recipe 'x': change_crops is 1.5; it must be from 0 to 1"):
        Recipe("x", change_crops=1.5)
    with pytest.raises(InputError, match=r"recipe 'x': final_lr is -1; it must be from 0 to 1"):
        Recipe("x", final_lr=-1)
    with pytest.raises(InputError, match=r"recipe 'x': ema_decay is 1.0; it must be from 0 to below 1"):
        Recipe("x", ema_decay=1.0)


def test_pairs_are_drawn_above_no_times_as_often() -> None:
    with pytest.raises(InputError, match=r"recipe 'x': oftener names 'full' 0 times; it must be above 0"):
        Recipe("x", oftener=(("full", 0),))


def test_the_first_prefix_that_fits_gives_the_zoom_and_how_often() -> None:
    often = Recipe("x", oftener=(("half", 0.5), ("half512", 2.0)))
    assert [often.weight_of(name) for name in ("half512_3", "full_3")] == [0.5, 1.0]
    recipe = Recipe("x", zoom=(("half", 0.4, 0.5), ("half512", 0.1, 0.2), ("full", 0.9, 1.1)))
    assert recipe.zoom_of("half512_3") == (0.4, 0.5)
    assert recipe.zoom_of("full_3") == (0.9, 1.1)
    assert recipe.zoom_of("other") == (1.0, 1.0)


# ---- the nested parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Optimiser(kind="lion"), r"Optimiser.kind is 'lion'; it must be one of adamw, adam, sgd"),
        (lambda: Optimiser(betas=(0.9, 1.0)), r"Optimiser.betas holds 1.0; it must be from 0 to below 1"),
        (lambda: Optimiser(momentum=-0.1), r"Optimiser.momentum holds -0.1; it must be from 0 to below 1"),
        (lambda: Schedule(kind="poly"), r"Schedule.kind is 'poly'; it must be one of cosine, cosine_waves, linear, st"),
        (lambda: Schedule(period=0), r"Schedule.period is 0; it must be above 0 and at most 1, a share of the run"),
        (lambda: Schedule(hold=1.0), r"Schedule.hold is 1.0; it must be from 0 to below 1, a share of the run"),
        (lambda: Schedule(factor=1.5), r"Schedule.factor is 1.5; it must be above 0 and at most 1"),
        (lambda: Schedule(patience=-1), r"Schedule.patience is -1; it must be 0 or more evaluations"),
        (lambda: Augmentation("odd"), r"Augmentation.orientations is 'odd'; it must be one of all, flips, none"),
        (lambda: Recipe("x", loss="l2"), r"recipe 'x': loss is 'l2'; it must be one of multi_level, eaw_ce, eaw_focal"),
        (
            lambda: Recipe("x", loss_args={"lambda": 1}),
            r"recipe 'x': loss 'multi_level' takes no lambda; it takes weights",
        ),
    ],
)
def test_what_a_recipe_refuses(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_only_what_is_named_is_random() -> None:
    chosen = Augmentation.only(p_rotation=1.0, rotation_deg=30.0, orientations="flips")
    assert (chosen.p_rotation, chosen.rotation_deg, chosen.orientations) == (1, 30, "flips")
    assert chosen.p_colour == chosen.p_blur == chosen.p_noise == chosen.p_shift == 0
    assert Augmentation.only().orientations == "none"


# ---- the recipe of a run that is resumed ----------------------------------------------------------------------------


def test_differences_are_named_and_missing_fields_have_their_defaults() -> None:
    recipe = Recipe("x", gsd_m=(0.5, 1.0), network_args={"width": 16}, zoom=(("a", 1.0, 2.0),))
    assert recipe.differences(recipe.to_json()) == []
    changed = dataclasses.replace(recipe, lr=1.0, schedule=Schedule("step"))
    assert changed.differences(recipe.to_json()) == ["lr", "schedule"]
    old = json.loads(recipe.to_json())
    for name in ("optimiser", "schedule", "validation", "devices", "accumulate", "loss_args", "encoder_weights"):
        del old[name]
    del old["augmentation"]["orientations"]
    assert recipe.differences(json.dumps(old)) == []
    assert changed.differences(json.dumps(old)) == ["lr", "schedule"]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_recipe_of_a_run(text: str) -> None:
    with pytest.raises(InputError, match="the recipe of the run is not readable"):
        Recipe("x").differences(text)
