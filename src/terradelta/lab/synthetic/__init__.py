"""Synthetic scenes: seeded, georeferenced pairs of pictures of suburbs with a known change mask."""

from terradelta.lab.synthetic.dataset import other_grid, write_dataset, write_pair
from terradelta.lab.synthetic.render import Scene, make_scene
from terradelta.lab.synthetic.scene_config import SceneConfig, vary_config

__all__ = [
    "Scene",
    "SceneConfig",
    "make_scene",
    "other_grid",
    "vary_config",
    "write_dataset",
    "write_pair",
]
