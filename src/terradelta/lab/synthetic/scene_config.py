"""What a synthetic scene is made of: `SceneConfig`, and `vary_config` for data sets with variety."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from terradelta.errors import InputError, ShapeError

__all__ = ["MIN_SIDE_PX", "SceneConfig", "vary_config"]

MIN_SIDE_PX = 64
_FRACTIONS = (
    "building_density",
    "change_rate",
    "tree_density",
    "site_change",
    "season",
    "sun",
    "illumination",
    "cars",
    "repaint",
    "cloud_cover",
    "haze",
    "compression",
    "nodata_fraction",
)
_AMOUNTS = ("misregistration_px", "parallax", "noise", "blur_px")
_NUISANCES = (*_FRACTIONS[3:], *_AMOUNTS)


@dataclass(frozen=True)
class SceneConfig:
    """Options of one scene. Everything from ``site_change`` on is pseudo-change: visible, but not labelled."""

    height: int = 512
    """Rows, at least 64."""
    width: int = 512
    """Columns, at least 64."""
    gsd_m: float = 0.5
    """Ground sampling distance in metres per pixel, 0.2 to 2."""
    building_density: float = 0.6
    """Share of the blocks that hold buildings, 0 to 1."""
    change_rate: float = 0.05
    """Share of pixels whose building changed, 0 to 1; met to about one house where there are enough buildings."""
    tree_density: float = 0.5
    """Share of the open land under trees, 0 to 1."""
    site_change: float = 0.8
    """Probability that land is cleared and streets and lots are made along with new buildings."""
    season: float = 0.6
    """Strength of the seasonal difference: colour of vegetation, leaf-off, ploughed fields, water level."""
    sun: float = 0.6
    """Strength of the difference in sun azimuth and elevation, so in shading and shadows."""
    illumination: float = 0.6
    """Strength of the difference in brightness, contrast, gamma, saturation and colour cast."""
    cars: float = 1.0
    """Share of the cars that moved between the dates."""
    repaint: float = 0.05
    """Share of the unchanged roofs that get another colour."""
    cloud_cover: float = 0.02
    """Share of the pixels under thin cloud, on each date on its own."""
    haze: float = 0.3
    """Upper limit of the haze; each date draws its own amount below it."""
    compression: float = 0.4
    """Strength of JPEG artefacts: 0 is none, 1 is quality 50."""
    nodata_fraction: float = 0.0
    """Share of the second image that is outside its swath: value 0, and not valid."""
    misregistration_px: float = 0.6
    """Standard deviation of the second image's shift along each axis; local warps have a third of it."""
    parallax: float = 0.06
    """Standard deviation of the tangent of the view angle: a roof moves by this times its height."""
    noise: float = 0.01
    """Standard deviation of the sensor noise, as a share of the full range."""
    blur_px: float = 0.25
    """How much the standard deviation of the point spread, and the sharpening, differ between the dates."""

    def __post_init__(self) -> None:
        if min(self.height, self.width) < MIN_SIDE_PX:
            raise ShapeError(
                f"a synthetic scene of {self.height} x {self.width} pixels is too small; "
                f"give a height and width of at least {MIN_SIDE_PX}"
            )
        if not 0.2 <= self.gsd_m <= 2:
            raise InputError(f"gsd_m is {self.gsd_m}; buildings can be drawn at 0.2 to 2 metres per pixel")
        for name in _FRACTIONS:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a value from 0 to 1")
        for name in _AMOUNTS:
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}; give a finite value of 0 or more")

    def without_nuisance(self) -> "SceneConfig":
        """A copy in which nothing but buildings and their shadows differs between the dates."""
        off: dict[str, Any] = dict.fromkeys(_NUISANCES, 0.0)
        return dataclasses.replace(self, **off)


def vary_config(config: SceneConfig, rng: np.random.Generator) -> SceneConfig:
    """A random configuration around one, for variety in a data set.

    The change rate follows an exponential distribution with about the given mean and is 0 in a fifth of the scenes;
    options that are 0 stay 0.

    Args:
        config: centre of the variation.
        rng: source of randomness; six values are drawn.
    """
    unchanged = rng.random() < 0.2
    rate = config.change_rate * min(float(rng.exponential(1.25)), 4.0)
    clouds = config.cloud_cover * min(float(rng.exponential(1.0)), 5.0)

    def spread(value: float, low: float, high: float) -> float:
        return min(value * float(rng.uniform(low, high)), 1.0)

    return dataclasses.replace(
        config,
        change_rate=0.0 if unchanged else min(rate, 1.0),
        cloud_cover=min(clouds, 1.0),
        building_density=spread(config.building_density, 0.5, 1.5),
        tree_density=spread(config.tree_density, 0.3, 1.7),
        season=spread(config.season, 0.0, 1.6),
    )
