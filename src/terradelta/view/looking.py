"""What a page asks for: the scene, tiles, polygons, chips. Nothing here writes."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from terradelta.errors import InputError, RasterError
from terradelta.geo.grid import Grid, Tile
from terradelta.products.writer import POLYGONS
from terradelta.view.dates import DATES
from terradelta.view.polygon_index import BOUNDS, PolygonIndex, Query
from terradelta.view.product import map_record, scene_record
from terradelta.view.view_session import FORMATS, PROBABILITY_LAYER, Session, encoded

__all__ = ["chip", "chip_window", "outlines", "polygon", "polygons", "scene", "session_of", "tile"]

CHIP = 192
"""Side of a chip, pixels."""
_AROUND, _LEAST_PX = 0.4, 64
"""Of a chip: margin around the polygon, as a share of its longer side; fewest pixels of the scene along it."""
_MOST_ROWS, _MOST_OUTLINES = 100_000, 20_000
_KEPT = {"Cache-Control": "private, max-age=86400"}


def session_of(request: Request) -> Session:
    """The session of the server that got a request."""
    found: Session = request.app.state.session
    return found


def unhidden(session: Session) -> None:
    """Refuse what would tell the map's answer to someone who labels samples of it."""
    if session.task is not None:
        raise HTTPException(403, "samples are being labelled, so the map's answer is hidden; see `terradelta view`")


def scene(request: Request) -> Response:
    """``GET api/scene``."""
    session = session_of(request)
    found: dict[str, Any] = scene_record(session.product)
    dates = found["dates"] = session.dates.record()
    found["layers"] = {name: dates[name]["problem"] is None for name in DATES}
    found["layers"][PROBABILITY_LAYER] = session.probability is not None and session.task is None
    found["problems"] = _problems(session, dates)
    found["author"], found["command"] = session.author, session.command
    found["tile_formats"] = {**{name: list(FORMATS) for name in DATES}, PROBABILITY_LAYER: ["png"]}
    found["task"] = None
    session.shown.set()
    if session.task is not None:
        task = session.task.record()
        found["task"] = {name: task[name] for name in ("file", "total", "labelled")}
        return JSONResponse(found)
    found |= map_record(session.product)
    index = session.polygons
    found["fields"] = [] if index is None else index.fields
    found["area_field"] = None if index is None else index.area
    found["polygons"] = 0 if index is None else session.product.receipt.result.polygons
    return JSONResponse(found)


def _problems(session: Session, dates: dict[str, Any]) -> list[dict[str, str]]:
    """What is wrong with the product, and what to do about it."""
    found = []
    for name, date in dates.items():
        if date["problem"]:
            todo = f"Start it again with --{name} FILE, where the image lies now."
            found.append({"what": f"{date['problem']}.", "do": todo})
        elif date["difference"]:
            todo = f"Give the file that was mapped: --{name} FILE. Or map the pair again."
            found.append({"what": f"{date['difference']}.", "do": todo})
    if session.task is None:
        lacking = session.product.missing
        found += [{"what": f"The file {name} is missing.", "do": "Map the pair again."} for name in lacking]
    return found


def tile(request: Request) -> Response:
    """``GET tiles/LAYER/Z/X/Y.EXT``."""
    session, at = session_of(request), request.path_params
    layer, extension = at["layer"], at["extension"]
    if layer == PROBABILITY_LAYER:
        unhidden(session)
    if layer not in (*DATES, PROBABILITY_LAYER) or extension not in FORMATS:
        raise HTTPException(404, f"tiles are tiles/LAYER/Z/X/Y.EXT, EXT one of {', '.join(FORMATS)}")
    if layer == PROBABILITY_LAYER and extension != "png":
        raise HTTPException(404, "probabilities are numbers, and only png keeps them: ask for png")
    try:
        content = session.tile(layer, at["z"], at["x"], at["y"], extension)
    except RasterError as error:
        raise HTTPException(404, str(error)) from error
    if content is None:
        raise HTTPException(404, "the scene has no such tile; see resolutions in api/scene")
    return Response(content, media_type=FORMATS[extension], headers=_KEPT)


def polygons(request: Request) -> Response:
    """``GET api/polygons``: attributes as columns."""
    session = session_of(request)
    unhidden(session)
    index = _index(session)
    query = _query(request, Query(limit=10_000), _MOST_ROWS)
    fields = request.query_params.get("fields")
    chosen = None if fields is None else fields.split(",")
    unknown = sorted(set(chosen or ()) - set(index.fields))
    if unknown:
        raise InputError(f"polygons have no field {unknown[0]!r:.40}; there are {', '.join(index.fields)}")
    positions, total = index.select(query)
    found = {"total": total, "offset": query.offset, "count": len(positions), "columns": index.table(positions, chosen)}
    return JSONResponse(found)


def outlines(request: Request) -> Response:
    """``GET api/polygons/geojson``: outlines in the CRS of the scene, the largest first."""
    session = session_of(request)
    unhidden(session)
    index = _index(session)
    query = _query(request, Query(index.area, True, limit=5_000), _MOST_OUTLINES)
    resolution = _number(request, "resolution", 0.0)
    positions, total = index.select(query)
    numbers = index.table(positions, ["id"])["id"]
    shapes = _rounded(index.outlines(numbers), session.product.tiles.grid, resolution)
    counts = {"total": total, "count": len(numbers), "truncated": query.offset + len(numbers) < total}
    features = [
        f'{{"type":"Feature","id":{number},"properties":{{}},"geometry":{outline}}}'
        for number, outline in zip(numbers, shapely.to_geojson(shapes), strict=True)
    ]
    # Put together as text: of ten thousand outlines, decoding them to encode them again took most of the time.
    head = json.dumps({"type": "FeatureCollection", **counts})[:-1]
    return Response(f'{head},"features":[{",".join(features)}]}}', media_type="application/json")


def polygon(request: Request) -> Response:
    """``GET api/polygons/ID``: all fields and the whole outline."""
    session = session_of(request)
    unhidden(session)
    index, number = _index(session), request.path_params["number"]
    try:
        properties = index.attributes(number)
    except InputError as error:
        raise HTTPException(404, str(error)) from error
    (shape,) = index.outlines([number])
    grid = session.product.tiles.grid
    extent = list(grid.crop(chip_window(grid, shape.bounds)).bounds)
    geometry = json.loads(shapely.to_geojson(_rounded([shape], grid, 0.0)[0]))
    found = {"type": "Feature", "id": number, "properties": properties, "fields": properties, "geometry": geometry}
    return JSONResponse({**found, "chip_extent": extent})


def chip(request: Request) -> Response:
    """``GET api/chip/ID/DATE.EXT``: a date around a polygon."""
    session, at = session_of(request), request.path_params
    unhidden(session)
    if at["date"] not in DATES or at["extension"] not in FORMATS:
        raise HTTPException(404, f"chips are api/chip/ID/DATE.EXT, EXT one of {', '.join(FORMATS)}")
    try:
        known = _index(session).attributes(at["number"])
    except InputError as error:
        raise HTTPException(404, str(error)) from error
    grid = session.product.tiles.grid
    window = chip_window(grid, tuple(known[name] for name in BOUNDS))
    scale = CHIP / max(window.height, window.width)
    shape = max(1, round(window.height * scale)), max(1, round(window.width * scale))
    try:
        values, valid = session.picture(at["date"], window, shape)
    except RasterError as error:
        raise HTTPException(404, str(error)) from error
    extent = ",".join(f"{value:.12g}" for value in grid.crop(window).bounds)
    content = encoded(values, valid, at["extension"])
    return Response(content, media_type=FORMATS[at["extension"]], headers={**_KEPT, "X-Extent": extent})


def chip_window(grid: Grid, bounds: tuple[float, ...]) -> Tile:
    """The window of a grid that a chip shows: square around a box, as far as the grid reaches.

    Args:
        grid: shown.
        bounds: x_min, y_min, x_max, y_max in its CRS.
    """
    t = ~grid.transform
    left, top = t @ (bounds[0], bounds[3])
    right, bottom = t @ (bounds[2], bounds[1])
    side = max(_LEAST_PX, math.ceil(max(right - left, bottom - top) * (1 + 2 * _AROUND)))
    height, width = min(side, grid.height), min(side, grid.width)
    row = min(max(0, round((top + bottom) / 2 - height / 2)), grid.height - height)
    col = min(max(0, round((left + right) / 2 - width / 2)), grid.width - width)
    return Tile(row, col, height, width)


def _index(session: Session) -> PolygonIndex:
    if session.polygons is None:
        raise HTTPException(404, f"{session.product.folder / POLYGONS} is missing; map the pair again")
    return session.polygons


def _query(request: Request, default: Query, most: int) -> Query:
    bbox = request.query_params.get("bbox")
    return Query(
        sort=request.query_params.get("sort", default.sort),
        descending=request.query_params.get("descending", str(default.descending)).lower() in ("1", "true", "yes"),
        offset=max(0, _whole(request, "offset", 0)),
        limit=min(max(0, _whole(request, "limit", default.limit)), most),
        min_area=_number(request, "min_area", 0.0),
        threshold=_number(request, "threshold", 0.0),
        bbox=None if bbox is None else _box(bbox),
    )


def _number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} is {text!r:.40}; it must be a finite number")
    return value


def _whole(request: Request, name: str, default: int) -> int:
    value = _number(request, name, default)
    if not value.is_integer() if isinstance(value, float) else False:
        raise InputError(f"{name} is {value:g}; it must be a whole number")
    return int(value)


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x_min, y_min, x_max, y_max = (float(each) for each in text.split(","))
    except ValueError:
        x_min = x_max = y_min = y_max = math.nan
    if not np.isfinite([x_min, y_min, x_max, y_max]).all() or x_min > x_max or y_min > y_max:
        raise InputError(f"bbox is {text!r:.80}; it must be x_min,y_min,x_max,y_max in the CRS of the scene")
    return x_min, y_min, x_max, y_max


def _rounded(shapes: Sequence[shapely.Geometry], grid: Grid, resolution: float) -> NDArray[Any]:
    """Outlines to a hundredth of a pixel; with a resolution above a pixel, simplified by half of it."""
    found = np.array(shapes, object)
    if resolution > grid.transform.a:
        found = shapely.simplify(found, resolution / 2, preserve_topology=True)
    digits = max(0, 2 - math.floor(math.log10(grid.transform.a)))
    rounded: NDArray[Any] = shapely.transform(found, lambda points: np.round(points, digits))
    return rounded
