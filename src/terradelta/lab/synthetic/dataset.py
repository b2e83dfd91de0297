"""Synthetic scenes as files: GeoTIFF pairs for the map, folders in LEVIR's layout for training."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds

from terradelta.errors import DataError, InputError
from terradelta.files import cannot_write, settle, unfinished, whole_file, write_whole
from terradelta.geo.grid import Grid
from terradelta.lab.data.pairs import PairFiles
from terradelta.lab.synthetic.image_bytes import encode
from terradelta.lab.synthetic.noise import stream
from terradelta.lab.synthetic.render import Scene, make_scene
from terradelta.lab.synthetic.scene_config import SceneConfig, vary_config
from terradelta.raster.access import GDAL_ERRORS

__all__ = ["other_grid", "write_dataset", "write_pair"]

_SPLITS = ("train", "val", "test")
_FOLDERS = ("A", "B", "label")
_ADVICE = "give a folder that can be, or make room, and call again to continue"


def other_grid(grid: Grid, gsd_m: float, shift_m: tuple[float, float] = (0.0, 0.0), crs: CRS | None = None) -> Grid:
    """A grid of another resolution, origin or CRS over the same place.

    Args:
        grid: the scene's, with rows to the south.
        gsd_m: metres per pixel of the new grid, above 0.
        shift_m: (row, col) by which its corner moves, in metres to the south and to the east.
        crs: a projected CRS in metres; the scene's if None.

    Raises:
        InputError: if the resolution is not above 0, the grid has no CRS, or the new one is not in metres.
    """
    if not gsd_m > 0:
        raise InputError(f"gsd_m is {gsd_m}; give a ground sampling distance above 0 metres")
    if grid.crs is None:
        raise InputError("the grid has no CRS; give the grid of a synthetic scene")
    target = crs or grid.crs
    if not target.is_projected or target.linear_units_factor[1] != 1.0:
        raise InputError(f"{target.to_string()} is not in metres; give a projected CRS, such as EPSG:32614")
    left, top = grid.transform.c, grid.transform.f
    right, bottom = left + grid.transform.a * grid.width, top + grid.transform.e * grid.height
    left, bottom, right, top = transform_bounds(grid.crs, target, left, bottom, right, top)
    transform = Affine(gsd_m, 0.0, left + shift_m[1], 0.0, -gsd_m, top - shift_m[0])
    return Grid(target, transform, (math.ceil((top - bottom) / gsd_m), math.ceil((right - left) / gsd_m)))


def write_pair(scene: Scene, folder: Path, after_grid: Grid | None = None) -> PairFiles:
    """Write ``before.tif``, ``after.tif`` and ``label.tif``: tiled, deflated, with CRS; the pictures with nodata 0.

    The label is on the scene's grid: 0 is unchanged, 255 changed.

    Args:
        scene: from `make_scene`.
        folder: made if missing; files of these names in it are replaced.
        after_grid: grid to warp the second picture to (cubic); see `other_grid`. The scene's if None.

    Raises:
        OutputError: if a file cannot be written.
    """
    before, after_path, label = (folder / f"{name}.tif" for name in ("before", "after", "label"))
    files = PairFiles(folder.name, before, after_path, label)
    after = scene.after if after_grid is None else _warp(scene.after, scene.grid, after_grid)
    _write_tiff(files.before, scene.before, scene.grid, nodata=0)
    _write_tiff(files.after, after, after_grid or scene.grid, nodata=0)
    _write_tiff(files.label, scene.label[None] * np.uint8(255), scene.grid, nodata=None)
    return files


def _warp(image: NDArray[np.uint8], source: Grid, target: Grid) -> NDArray[np.uint8]:
    out = np.zeros((len(image), *target.shape), np.uint8)
    reproject(
        image,
        out,
        src_transform=source.transform,
        src_crs=source.crs,
        src_nodata=0,
        dst_transform=target.transform,
        dst_crs=target.crs,
        dst_nodata=0,
        resampling=Resampling.cubic,
    )
    return out


def _write_tiff(path: Path, image: NDArray[np.uint8], grid: Grid, nodata: int | None) -> None:
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": len(image),
        "height": grid.height,
        "width": grid.width,
        "dtype": "uint8",
        "crs": grid.crs,
        "transform": grid.transform,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "predictor": 2,
        "photometric": "RGB" if len(image) == 3 else "MINISBLACK",
    }
    with (
        whole_file(path, failures=GDAL_ERRORS, make_folder=True) as temporary,
        rasterio.open(temporary, "w", **profile) as target,
    ):
        target.write(image)


def write_dataset(
    folder: Path,
    counts: Mapping[str, int],
    config: SceneConfig,
    seed: int,
    *,
    vary: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write scenes in LEVIR's layout: ``{split}/{A,B,label}/NNNN.png``, ``list/{split}.txt`` and ``dataset.json``.

    A second call with the same arguments writes only the scenes that are missing. Larger counts extend the data set; a
    scene depends on the seed, its split and its number alone.

    Args:
        folder: made if missing.
        counts: scenes in each of ``train``, ``val`` and ``test``; a split that is left out is not written.
        config: options of the scenes.
        seed: of the data set, 0 or more.
        vary: let each scene vary around the options, see `vary_config`.
        progress: called with scenes done and scenes in all, also for those that were there before.

    Raises:
        InputError: if a split, a count or the seed is not as above.
        DataError: if the folder holds a data set of other options.
        OutputError: if a file cannot be written.
    """
    _check(counts, seed)
    try:
        _describe(folder, config, seed, vary)
        total = sum(counts.values())
        for done, _ in enumerate(_write_scenes(folder, counts, config, seed, vary), 1):
            if progress is not None:
                progress(done, total)
        for split, count in counts.items():
            names = "".join(f"{_name(i)}\n" for i in range(count))
            write_whole(folder / "list" / f"{split}.txt", names, advice=_ADVICE, make_folder=True)
        for path in unfinished(folder, below=True):
            path.unlink()
    except OSError as error:
        raise cannot_write(folder, error, _ADVICE) from error


def _check(counts: Mapping[str, int], seed: int) -> None:
    unknown = [split for split in counts if split not in _SPLITS]
    if unknown:
        raise InputError(f"unknown split {', '.join(map(repr, unknown))}; give counts for {', '.join(_SPLITS)}")
    if min(counts.values(), default=0) < 0:
        raise InputError(f"the counts are {dict(counts)}; give 0 or more scenes for each split")
    if seed < 0:
        raise InputError(f"the seed of a data set is {seed}; give 0 or more")


def _describe(folder: Path, config: SceneConfig, seed: int, vary: bool) -> None:
    """Write ``dataset.json``, or compare with the one that is there."""
    path = folder / "dataset.json"

    def refusal(names: Sequence[str]) -> DataError:
        return DataError(
            f"{path} describes other scenes ({', '.join(names)}); give the same options and seed, or another folder"
        )

    settle(path, {"seed": seed, "vary": vary, "config": dataclasses.asdict(config)}, refusal, advice=_ADVICE)


def _write_scenes(
    folder: Path, counts: Mapping[str, int], config: SceneConfig, seed: int, vary: bool
) -> Iterator[None]:
    for split, count in counts.items():
        for number in range(count):
            paths = [folder / split / kind / _name(number) for kind in _FOLDERS]
            if not all(path.exists() for path in paths):
                rng = stream(seed, f"{split}/{number}")
                own = int(rng.integers(2**62))
                scene = make_scene(vary_config(config, rng) if vary else config, own)
                for path, image in zip(
                    paths, (scene.before, scene.after, scene.label[None] * np.uint8(255)), strict=True
                ):
                    write_whole(path, encode(image, "PNG"), advice=_ADVICE, make_folder=True)
            yield


def _name(number: int) -> str:
    return f"{number:04d}.png"
