"""Complete training set-ups, one Python function each; ``terradelta train NAME`` takes them by name.

`mccrnet` and `mlla_sianet` hold the two networks on the archives of their papers, `compared` the methods that these
compare with. Their docstrings say what is printed in a paper, what its code does, and what is ours. Derive your own
with ``dataclasses.replace``.
"""

from terradelta.lab.training.recipes.loading import RECIPES, load_recipe

__all__ = ["RECIPES", "load_recipe"]
