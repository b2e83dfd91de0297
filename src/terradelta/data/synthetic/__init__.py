"""Synthetic scenes: seeded, georeferenced pairs of pictures of suburbs with a known change mask."""

from terradelta.data.synthetic.config import SceneConfig, vary_config
from terradelta.data.synthetic.scene import Scene, make_scene
from terradelta.data.synthetic.write import other_grid, write_dataset, write_pair

__all__ = [
    "Scene",
    "SceneConfig",
    "make_scene",
    "other_grid",
    "vary_config",
    "write_dataset",
    "write_pair",
]
