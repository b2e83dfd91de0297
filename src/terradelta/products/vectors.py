"""``change.gpkg`` in other formats, beside it: the same rows and fields in the same order, streamed from it.

Sources: RFC 7946 (GeoJSON); GeoParquet 1.1.0.
"""

import contextlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely

from terradelta.errors import GridError, InputError, needs
from terradelta.files import whole_file
from terradelta.geo.grid import Grid, is_local
from terradelta.products.gpkg import LAYER
from terradelta.raster.access import vector_name

__all__ = ["MEDIA_TYPES", "VECTORS", "check_vectors", "parse_vectors", "write_vectors"]

VECTORS = {
    "gpkg": "change.gpkg",
    "geoparquet": "change.parquet",
    "geojson": "change.geojson",
    "flatgeobuf": "change.fgb",
}
"""Formats of the polygons, and the names of their files; the first is always written."""
MEDIA_TYPES = {
    "change.gpkg": "application/geopackage+sqlite3",
    "change.parquet": "application/vnd.apache.parquet",
    "change.geojson": "application/geo+json",
    "change.fgb": "application/vnd.flatgeobuf",
}
_BATCH = 5000
"""Polygons that are held at once."""
_FAILURES = (RuntimeError, LookupError)
"""What pyogrio raises; the second for a file without a layer."""
_GEOMETRY, _BBOX = "geometry", "bbox"
_ENDS = ("xmin", "ymin", "xmax", "ymax")


def parse_vectors(text: str) -> tuple[str, ...]:
    """Formats that a user names: ``gpkg``, or several with commas between them.

    Raises:
        InputError: if one is unknown.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    unknown = [name for name in names if name not in VECTORS]
    if unknown:
        raise InputError(f"--vector is {text!r}; give one or more of {', '.join(VECTORS)}, with commas between them")
    return names


def check_vectors(formats: Sequence[str], grid: Grid) -> None:
    """Ask before the work whether polygons on a grid can be written in some formats.

    Raises:
        GridError: if GeoJSON is wanted and the grid has no place on the Earth.
        MissingExtraError: if GeoParquet is wanted and pyarrow is not installed.
    """
    if "geojson" in formats and (grid.crs is None or is_local(grid.crs)):
        raise GridError(
            "GeoJSON holds longitudes and latitudes (RFC 7946), which images without a CRS on the Earth do not have; "
            "leave it out of --vector, or assign a CRS to both images"
        )
    if "geoparquet" in formats:
        with needs("geoparquet", "--vector geoparquet"):
            import pyarrow.parquet  # noqa: F401


def write_vectors(gpkg: Path, formats: Sequence[str]) -> None:
    """Write a finished GeoPackage of polygons in other formats beside it; each file appears whole or not at all.

    GeoJSON is in WGS 84 with 7 decimals and outer rings counterclockwise (RFC 7946), the others are in the CRS of the
    GeoPackage. Memory is that of 5000 polygons.

    Args:
        gpkg: the GeoPackage.
        formats: of `VECTORS`; the GeoPackage itself is there already.

    Raises:
        OutputError: if a file cannot be written.
    """
    for name in formats:
        if name == "geoparquet":
            _write_parquet(gpkg, gpkg.with_name(VECTORS[name]))
        elif name == "geojson":
            _write_by_gdal(gpkg, gpkg.with_name(VECTORS[name]), "GeoJSON", {"RFC7946": "YES"})
        elif name == "flatgeobuf":
            # Its index would sort the rows, for which all of their extents are held in memory.
            _write_by_gdal(gpkg, gpkg.with_name(VECTORS[name]), "FlatGeobuf", {"SPATIAL_INDEX": "NO"})


def _write_by_gdal(gpkg: Path, path: Path, driver: str, options: dict[str, str]) -> None:
    import pyogrio.raw

    names = contextlib.ExitStack()
    with whole_file(path, failures=_FAILURES, keep_suffix=True) as temporary, names, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        source, target = (names.enter_context(vector_name(each)) for each in (gpkg, temporary))
        with pyogrio.raw.open_arrow(source, layer=LAYER, use_pyarrow=False, batch_size=_BATCH) as (meta, stream):
            pyogrio.raw.write_arrow(
                stream,
                target,
                driver=driver,
                layer=LAYER,
                crs=meta["crs"],
                geometry_type="Polygon",
                geometry_name=meta["geometry_name"],
                layer_options=options,
            )
        _check(source, target)


def _check(source: str, target: str) -> None:
    """Read the last row: GDAL's writers say nothing of a disk that is full.

    Raises:
        OSError: if the file does not hold what its source does.
    """
    import pyogrio.raw

    count, found = (pyogrio.read_info(name, force_feature_count=True)["features"] for name in (source, target))
    if count:
        last = {"skip_features": count - 1, "columns": ["id"]}
        ids = [[column.tolist() for column in pyogrio.raw.read(name, **last)[3]] for name in (source, target)]
        found = found if ids[0] == ids[1] else -1
    if found != count:
        raise OSError(f"it does not hold all of its {count} polygons")


def _write_parquet(gpkg: Path, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet
    import pyogrio.raw

    ends: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    names = contextlib.ExitStack()
    with whole_file(path, failures=(*_FAILURES, pyarrow.ArrowException)) as temporary, names:
        source = names.enter_context(vector_name(gpkg))
        opened = pyogrio.raw.open_arrow(source, layer=LAYER, use_pyarrow=False, batch_size=_BATCH)
        with opened as (meta, stream):
            reader = pyarrow.RecordBatchReader.from_stream(stream)
            fields = [name for name in reader.schema.names if name != meta["geometry_name"]]
            kinds = [(name, reader.schema.field(name).type) for name in fields]
            extent = pyarrow.struct([(end, pyarrow.float64()) for end in _ENDS])
            schema = pyarrow.schema([*kinds, (_BBOX, extent), (_GEOMETRY, pyarrow.binary())])
            with pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
                for batch in reader:
                    shapes = batch.column(meta["geometry_name"]).cast(pyarrow.binary())
                    bounds = shapely.bounds(shapely.from_wkb(shapes.to_numpy(zero_copy_only=False)))
                    ends.append(np.concatenate([bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)]))
                    columns = [pyarrow.array(column) for column in bounds.T]
                    boxes = pyarrow.StructArray.from_arrays(columns, fields=list(extent))
                    arrays = [*(batch.column(name) for name in fields), boxes, shapes]
                    writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
                writer.add_key_value_metadata({"geo": json.dumps(_geo(meta["crs"], ends))})


def _geo(crs: str | None, ends: list[np.ndarray[Any, np.dtype[np.float64]]]) -> dict[str, Any]:
    """The metadata of GeoParquet 1.1.0."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if crs is None else pyproj.CRS(crs).to_json_dict(),
        "covering": {_BBOX: {end: [_BBOX, end] for end in _ENDS}},
    }
    if ends:
        low, high = np.min(ends, axis=0)[:2], np.max(ends, axis=0)[2:]
        column[_BBOX] = [*low.tolist(), *high.tolist()]
    return {"version": "1.1.0", "primary_column": _GEOMETRY, "columns": {_GEOMETRY: column}}
