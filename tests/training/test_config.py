import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from terradelta.errors import InputError
from terradelta.networks import list_models
from terradelta.training.config import Recipe

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.py"))


def _load(path: Path) -> Recipe:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__doc__
    return module.recipe()


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_one_whole_value(path: Path) -> None:
    recipe = _load(path)
    assert isinstance(recipe, Recipe)
    assert recipe == _load(path)
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


@pytest.mark.parametrize("name", ["steps", "batch_size", "crop_px", "eval_every", "save_every"])
def test_counts_are_at_least_one(name: str) -> None:
    with pytest.raises(InputError, match=f"recipe 'x': {name} is 0; it must be at least 1"):
        Recipe("x", **{name: 0})


def test_shares_are_shares() -> None:
    with pytest.raises(InputError, match=r"recipe 'x': change_crops is 1.5; it must be from 0 to 1"):
        Recipe("x", change_crops=1.5)
    with pytest.raises(InputError, match=r"recipe 'x': ema_decay is 1.0; it must be from 0 to below 1"):
        Recipe("x", ema_decay=1.0)


def test_the_first_prefix_that_fits_gives_the_zoom() -> None:
    recipe = Recipe("x", zoom=(("half", 0.4, 0.5), ("half512", 0.1, 0.2), ("full", 0.9, 1.1)))
    assert recipe.zoom_of("half512_3") == (0.4, 0.5)
    assert recipe.zoom_of("full_3") == (0.9, 1.1)
    assert recipe.zoom_of("other") == (1.0, 1.0)
