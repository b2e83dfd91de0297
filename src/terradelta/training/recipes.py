"""Find a recipe: a function in a Python file, or the default set-up of a network."""

import runpy
from pathlib import Path

from terradelta.errors import InputError
from terradelta.networks import list_models, model_info
from terradelta.training.config import Recipe

__all__ = ["load_recipe"]


def load_recipe(text: str) -> Recipe:
    """The recipe that a command line names.

    Args:
        text: ``FILE.py`` (its function ``recipe``), ``FILE.py:FUNCTION``, or a network's name. The file is run.

    Raises:
        InputError: if there is no such file, function or network, or the function returns no `Recipe`.
    """
    if text in list_models():
        return Recipe(name=text, network=text, loss=model_info(text).loss)
    file, _, function = text.partition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise InputError(
            f"{text!r} is neither a recipe file (FILE.py or FILE.py:FUNCTION) nor a network "
            f"({', '.join(list_models())})"
        )
    function = function or "recipe"
    make = runpy.run_path(str(path)).get(function)
    recipe = make() if callable(make) else None
    if not isinstance(recipe, Recipe):
        raise InputError(f"{path} has no function {function}() that returns a terradelta.training.config.Recipe")
    return recipe
