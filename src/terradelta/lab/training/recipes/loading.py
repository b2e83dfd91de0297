"""Find a recipe: one of ours, a function in a Python file, or the default set-up of a network."""

import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path

from terradelta.errors import InputError
from terradelta.lab.networks import list_models, model_info
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.recipes.compared import COMPARED
from terradelta.lab.training.recipes.mccrnet import mccrnet
from terradelta.lab.training.recipes.mlla_sianet import (
    mlla_sianet,
    mlla_sianet_large,
    mlla_sianet_light,
    mlla_sianet_lite0,
)
from terradelta.lab.training.recipes.paper_data import CDD, DSIFN, GZ, LEVIR, SYSU, TRAINING_DATA

__all__ = ["RECIPES", "load_recipe"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    f"{make.__name__}_{data.key}": partial(make, data)
    for makers, archives in (
        ((mccrnet,), (LEVIR, CDD, GZ, DSIFN)),
        ((mlla_sianet, mlla_sianet_large, mlla_sianet_light, mlla_sianet_lite0), (LEVIR, SYSU)),
        (COMPARED, TRAINING_DATA.values()),
    )
    for make in makers
    for data in archives
}
"""What ``terradelta train`` takes by name: ``METHOD_ARCHIVE``."""


def load_recipe(text: str) -> Recipe:
    """The recipe that a command line names.

    Args:
        text: a key of `RECIPES`; ``FILE.py`` (its function ``recipe``) or ``FILE.py:FUNCTION``, which is run; or a
            network's name, for the fields' defaults with the loss that the network is meant for.

    Raises:
        InputError: if there is no such recipe, file, function or network, or the function returns no `Recipe`.
    """
    if text in RECIPES:
        return RECIPES[text]()
    if text in list_models():
        return Recipe(name=text, network=text, loss=model_info(text).loss)
    file, _, function = text.partition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise InputError(
            f"{text!r} is neither a recipe file (FILE.py or FILE.py:FUNCTION), nor a network "
            f"({', '.join(list_models())}), nor one of our recipes: {_families()}"
        )
    function = function or "recipe"
    make = runpy.run_path(str(path)).get(function)
    recipe = make() if callable(make) else None
    if not isinstance(recipe, Recipe):
        raise InputError(f"{path} has no function {function}() that returns a terradelta.lab.training.config.Recipe")
    return recipe


def _families() -> str:
    papers = [name for name in RECIPES if name.startswith(("mccrnet", "mlla_sianet"))]
    methods, archives = "|".join(make.__name__ for make in COMPARED), "|".join(TRAINING_DATA)
    return f"{', '.join(papers)}, or ({methods})_({archives})"
