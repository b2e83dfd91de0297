"""`detect_change`: two images in memory, lazy, or in files, to probability and change with the numbers of `map`."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

import terradelta
from terradelta.arrays.inputs import Coordinates, Image, as_input, coordinates_of, need_xarray
from terradelta.arrays.lazy import is_lazy, lazy_probability
from terradelta.errors import DoubtWarning, InputError, NoDataError
from terradelta.geo.grid import Grid
from terradelta.mapping.journal import Journal
from terradelta.mapping.plan import MapOptions, ScenePlan, make_plan
from terradelta.mapping.scene import SceneRows, TileReader, predict_rows, write_rows
from terradelta.predict.choice import load_model, models
from terradelta.predict.classical import prepared
from terradelta.predict.predictor import Predictor
from terradelta.products.cog import quantise
from terradelta.products.sieve import Sieve
from terradelta.raster.nodata import NodataBands
from terradelta.raster.overlap import Aoi
from terradelta.raster.pair import Pair, open_pair
from terradelta.raster.scaling import range_warnings, scaling_of
from terradelta.registration.align import align
from terradelta.stages import StageClock

if TYPE_CHECKING:
    import xarray

__all__ = ["NO_DATA", "DetectOptions", "checked_options", "detect_change", "opened_pair"]

NO_DATA = 255
"""Of ``change``."""
DEFAULT_MODEL = "default"


class DetectOptions(TypedDict, total=False):
    """The options of `detect_change`: those of `terradelta.MapOptions` of the same names."""

    bands: tuple[str | int, ...] | None
    aoi: Aoi | None
    threshold: float | None
    sieve_px: int
    tile: int | None
    overlap: int | None
    coregister: bool
    anyway: bool
    allow_outside: bool
    values: str
    nodata: str
    nodata_bands: NodataBands


def detect_change(
    before: Image,
    after: Image,
    model: str | Predictor = DEFAULT_MODEL,
    *,
    method: str | None = None,
    **options: Unpack[DetectOptions],
) -> "xarray.Dataset":
    """Map what changed between two images: the numbers of `terradelta map`, without files.

    The result lies on the grid of the first image, where both have data; a second image on another grid is warped as
    `map` does it. Nothing but the result is held of it in memory. If an image is an array of dask, so is the result:
    tiles are computed when they are asked for, each from the part of the images that the model needs for it. Computed
    at once are then only: thinned-out statistics, where the values must be stretched for the model (it says so by its
    card's ``stretch``, and the images are not 8 bit) or their meaning depends on them; the fit of a classical method
    (three passes); the shift, with ``coregister``.

    Args:
        before: the first date: a path or URL, as for `map_change`; an `xarray.DataArray` ``(band, y, x)`` or ``(y, x)``
            of raw sensor values, with its CRS by rioxarray; or such an array of numpy or dask without a CRS. Nodata
            values are those that rioxarray knows of; NaN is no data. Bands are named by their coordinates or by
            ``long_name``.
        after: the second date, likewise. Without a CRS, both must have the same size.
        model: ``default``, the name of shipped weights, an ONNX file, a training run, or what `load_model` gives.
        method: in place of a model, a classical method: ``cva``, ``irmad`` or ``pca-kmeans``.
        **options: those of `MapOptions`: ``bands``, ``aoi``, ``threshold``, ``sieve_px``, ``tile``, ``overlap``,
            ``coregister``, ``anyway``, ``allow_outside``, ``values``, ``nodata`` and ``nodata_bands``.

    Returns:
        A dataset with ``probability`` (float32 in [0, 1], in steps of 1/1024, NaN without data) and ``change`` (uint8:
        0 unchanged, 1 changed, 255 no data) over ``(y, x)``, with the coordinates of the first date, CRS, transform and
        nodata as rioxarray keeps them. Attributes: ``model``, ``finds``, ``bands``, ``threshold``, ``version``.

    Raises:
        InputError: if the images or options cannot be used; the message says why.
        ModelError: if the model cannot be run.
        MissingExtraError: without the extra ``[xarray]``.

    Warns:
        DoubtWarning: if something may make the result wrong, as ``map`` says it.

    Example:
        >>> import terradelta as td
        >>> ds = td.detect_change("before.tif", "after.tif", method="cva")
        >>> ds.change.dtype.name, ds.attrs["model"]
        ('uint8', 'cva')
        >>> int((ds.change == 1).sum()) > 0
        True
    """
    need_xarray()
    wanted, predictor = checked_options("detect_change", options), _predictor(model, method)
    with opened_pair(before, after, predictor.wanted, wanted) as pair:
        lazy = is_lazy(pair)
        if lazy and wanted.sieve_px:
            raise InputError("sieve_px needs the whole image, but arrays of dask come in tiles; load them, or leave it")
        if not wanted.anyway:
            predictor.check_resolution(pair.grid)
        if wanted.coregister:
            align(pair, True)
        scaling = None if predictor.scale is None else scaling_of(pair, predictor.card)
        _warn(pair, predictor, lazy)
        predictor = prepared(predictor, pair)
        plan = make_plan(pair, predictor, scaling, wanted)
        threshold = predictor.card.threshold if wanted.threshold is None else wanted.threshold
        if lazy:
            probability = lazy_probability(pair, predictor, scaling, plan.tiles)
            change = probability.map_blocks(_changed, threshold, dtype=np.uint8)
        else:
            probability, change = _computed(plan.reader(pair, predictor, StageClock()), plan, threshold, wanted)
        place = coordinates_of(before, pair.grid, pair.sources[0].grid)
        grid, names = pair.grid, pair.bands
    card = predictor.card
    said = {"model": card.name, "finds": card.finds, "bands": list(names), "threshold": threshold}
    return _dataset(probability, change, (grid, place), {**said, "version": terradelta.__version__})


def checked_options(function: str, given: Mapping[str, Any]) -> MapOptions:
    """The options of a function that are those of `MapOptions`.

    Raises:
        InputError: if one is not of `DetectOptions`.
    """
    unknown = sorted(given.keys() - DetectOptions.__annotations__.keys())
    if unknown:
        known = ", ".join(DetectOptions.__annotations__)
        raise InputError(f"{function} has no option {', '.join(unknown)}; it has {known}")
    return MapOptions(**given)


def opened_pair(before: Image, after: Image, wanted: Sequence[str] | None, options: MapOptions) -> Pair:
    """Two images as a pair; see `terradelta.raster.pair.open_pair`."""
    dates = [as_input(image, f"the {name} date") for image, name in ((before, "first"), (after, "second"))]
    bands = None if options.bands is None else list(options.bands)
    return open_pair(dates[0], dates[1], bands=bands, wanted=wanted, aoi=options.aoi, reading=options.reading)


def _predictor(model: str | Predictor, method: str | None) -> Predictor:
    if isinstance(model, Predictor):
        if method is not None:
            raise InputError(f"a model and method={method!r} exclude each other; give one of them")
        return model
    if method is not None and model != DEFAULT_MODEL:
        raise InputError(f"model={model!r} and method={method!r} exclude each other; give one of them")
    return load_model(model if method is None else method)


def _warn(pair: Pair, predictor: Predictor, lazy: bool) -> None:
    """Warn of what may make the result wrong; of arrays of dask, of what is known without computing them."""
    if lazy:
        found = [f"Warning: {text}." for text in pair.selection.warnings]
    else:
        found = pair.preflight.lines() + (range_warnings(pair, predictor.card) if predictor.fitted else [])
    for line in [*predictor.remarks(pair.grid, models), *found]:
        if line.startswith("Warning: "):
            warnings.warn(line.removeprefix("Warning: "), DoubtWarning, stacklevel=3)


def _computed(
    reader: TileReader, plan: ScenePlan, threshold: float, options: MapOptions
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Probability and change, each ``(height, width)``; rows of tiles go through a journal, as in a run of `map`."""
    tiles, sieve = plan.tiles, Sieve(options.sieve_px)
    probability = np.empty(tiles.shape, np.float32)
    change = np.full(tiles.shape, NO_DATA, np.uint8)
    decided = 0

    def put(rows: tuple[NDArray[np.bool_], NDArray[np.float32]] | None) -> None:
        nonlocal decided
        if rows is not None:
            changed, values = rows
            place = change[decided : decided + len(changed)]
            np.copyto(place, changed, where=np.isfinite(values))
            decided += len(changed)

    def write(first_row: int, piece: NDArray[np.float32]) -> None:
        values = quantise(piece)
        probability[first_row : first_row + len(piece)] = values
        put(sieve.push(values >= np.float32(threshold), values))

    with tempfile.TemporaryDirectory(prefix="terradelta-") as folder:
        journal = Journal(Path(folder), plan.job)
        with closing(SceneRows(journal, tiles)) as scene:
            write_rows(scene, write, predict_rows(reader, tiles, journal, range(len(tiles.row_spans))))
    put(sieve.finish())
    reader.predictor.release()
    if not np.isfinite(probability).any():
        raise NoDataError("no pixel is valid on both dates; check the nodata values of both, and the area of interest")
    return probability, change


def _changed(probability: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """0, 1 or `NO_DATA`, of any shape."""
    changed = (probability >= np.float32(threshold)).astype(np.uint8)
    return np.where(np.isfinite(probability), changed, np.uint8(NO_DATA))


def _dataset(
    probability: Any,  # noqa: ANN401  an array of numpy or dask
    change: Any,  # noqa: ANN401
    where: tuple[Grid, Coordinates],
    attributes: dict[str, Any],
) -> "xarray.Dataset":
    import rioxarray  # noqa: F401  registers the accessor .rio
    import xarray

    grid, place = where
    dims = (place.y, place.x)
    coords = {} if place.values is None else dict(zip(dims, place.values, strict=True))
    made = xarray.Dataset({"probability": (dims, probability), "change": (dims, change)}, coords, attributes)
    made.probability.attrs |= {"long_name": "probability of change", "units": "1", "valid_range": [0.0, 1.0]}
    made.change.attrs |= {"long_name": "change", "flag_values": np.array([0, 1], np.uint8)}
    made.change.attrs["flag_meanings"] = "unchanged changed"
    made.rio.set_spatial_dims(place.x, place.y, inplace=True)
    if grid.crs is not None:
        made.rio.write_crs(grid.crs, inplace=True)
        made.rio.write_transform(grid.transform, inplace=True)
    for name, nodata in (("probability", np.nan), ("change", NO_DATA)):
        made[name] = made[name].rio.write_nodata(nodata)
    return made
