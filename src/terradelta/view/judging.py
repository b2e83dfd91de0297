"""What a page writes: verdicts, drawings, splits; and what helps to draw. Everything that is sent is checked."""

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import shapely
import shapely.ops
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from terradelta.errors import InputError
from terradelta.geo.grid import Grid
from terradelta.products.polygons import ellipsoid_areas
from terradelta.receipt import finite
from terradelta.review.outcome import current_verdicts, export_accepted
from terradelta.review.store import NewVerdict, ReviewStore
from terradelta.review.verdicts import Kind, Verdict, VerdictRow
from terradelta.strangers import printable, read_json
from terradelta.view.grow import grow
from terradelta.view.looking import session_of, unhidden
from terradelta.view.view_session import Session

__all__ = [
    "body_of",
    "export",
    "grow_region",
    "judge",
    "read_geometry",
    "read_line",
    "review",
    "split",
    "undo",
]

_MOST_POINTS = 20_000
_MOST_ROWS = 1_000
_REQUEST_CHARS = 64
_SHAPES = ("Polygon", "MultiPolygon")
_TYPES = {"gpkg": "application/geopackage+sqlite3", "geojson": "application/geo+json"}


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises:
        InputError: if it is none.
    """
    try:
        found = read_json(await request.body())
    except ValueError as error:
        raise InputError(f"the body is no JSON that is taken: {error}") from error
    if not isinstance(found, dict):
        raise InputError("the body must be a JSON object")
    return found


async def _answer(request: Request, work: Callable[[Session, dict[str, Any]], Any]) -> Response:
    """Do in a thread what a request asks for."""
    session, body = session_of(request), await body_of(request)
    unhidden(session)
    return JSONResponse(await run_in_threadpool(work, session, body))


def review(request: Request) -> Response:
    """``GET api/review?since=REVISION``: rows that were added or undone since; the verdict on each polygon."""
    session = session_of(request)
    unhidden(session)
    text = request.query_params.get("since", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InputError(f"since is {text!r:.40}; it must be a revision that api/review gave, or 0")
    changes = _store(session).since(int(text))
    tag = f'"{changes.revision}-{text}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    rows = [_row(row) for row in changes.rows]
    found: dict[str, Any] = {"revision": changes.revision, "rows": rows}
    if text == "0":
        current = current_verdicts(changes.rows)
        found["verdicts"] = {number: {"verdict": row.verdict, "number": row.number} for number, row in current.items()}
    return JSONResponse(found, headers={"ETag": tag})


async def judge(request: Request) -> Response:
    """``POST api/review``: one row, or ``{"rows": [...]}`` of them."""
    return await _answer(request, _judge)


async def undo(request: Request) -> Response:
    """``POST api/review/undo``: ``{"number": N}``, or ``{}`` for the author's newest row."""
    return await _answer(request, _undo)


async def split(request: Request) -> Response:
    """``POST api/split``: ``{"polygon": ID, "line": [[x, y], ...]}``, or ``"number"`` of a drawn row."""
    return await _answer(request, _split)


async def grow_region(request: Request) -> Response:
    """``POST api/grow``: ``{"point": [x, y], "threshold": T}`` gives a polygon; nothing is written."""
    return await _answer(request, _grow)


def export(request: Request) -> Response:
    """``GET api/export.gpkg`` or ``api/export.geojson``: the accepted changes as a file."""
    session, kind = session_of(request), request.path_params["extension"]
    unhidden(session)
    if kind not in _TYPES:
        raise HTTPException(404, f"accepted changes are api/export.EXT, EXT one of {', '.join(_TYPES)}")
    folder = tempfile.TemporaryDirectory(prefix="terradelta-")
    try:
        path = Path(folder.name) / f"accepted.{kind}"
        export_accepted(session.product.folder, path)
    except BaseException:
        folder.cleanup()
        raise
    name = f"{session.product.folder.name}-accepted.{kind}"
    return FileResponse(path, media_type=_TYPES[kind], filename=name, background=BackgroundTask(folder.cleanup))


def read_geometry(value: Any, grid: Grid) -> shapely.Geometry:  # noqa: ANN401  JSON
    """A polygon that a page sent, mended where its outline crosses itself, and cut at the edge of the scene.

    Args:
        value: GeoJSON of a Polygon or MultiPolygon in the CRS of the scene.
        grid: of the product.

    Raises:
        InputError: if it is none, has too many points, or nothing of it lies in the scene.
    """
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in _SHAPES:
        raise InputError(f"the geometry must be GeoJSON of a Polygon or MultiPolygon, not {json.dumps(value):.60}")
    coordinates = value.get("coordinates")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    _count(polygons)
    try:
        shape = shapely.MultiPolygon([(_ring(rings[0]), [_ring(hole) for hole in rings[1:]]) for rings in polygons])
        shape = shapely.union_all(shapely.get_parts(shapely.make_valid(shape)))
        shape = shapely.intersection(shape, _footprint(grid))
    except (TypeError, ValueError, IndexError, shapely.errors.GEOSException) as error:
        raise InputError(f"the geometry is no polygon ({error}); rings need four points or more") from error
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        raise InputError("nothing of the geometry lies in the scene, or it has no area; draw it on the images")
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def read_line(value: Any) -> shapely.LineString:  # noqa: ANN401  JSON
    """A line that a page sent: ``[[x, y], ...]`` in the CRS of the scene, or GeoJSON of such a LineString.

    Raises:
        InputError: if it is none.
    """
    value = value.get("coordinates") if isinstance(value, dict) else value
    _count(value)
    try:
        line = shapely.LineString(_points(value))
    except (TypeError, ValueError, shapely.errors.GEOSException) as error:
        raise InputError(f"the line is none ({error}); give two points or more, [x, y] each") from error
    if not line.length > 0:
        raise InputError("the line has no length; give two different points or more")
    return line


def _count(value: Any) -> None:  # noqa: ANN401  JSON
    """Refuse more points than anyone draws, before anything is made of them."""
    left, waiting = _MOST_POINTS * 2, [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(each)
        else:
            left -= 1
        if left < 0:
            raise InputError(f"the geometry has more than {_MOST_POINTS:,} points; simplify it")


def _ring(points: Any) -> list[tuple[float, float]]:  # noqa: ANN401  JSON
    ring = _points(points)
    if len(ring) < 4:
        raise ValueError(f"a ring has {len(ring)} points")
    return ring


def _points(points: Any) -> list[tuple[float, float]]:  # noqa: ANN401  JSON
    found = []
    for point in points:
        x, y = point
        for value in (x, y):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"a coordinate is {value!r:.40}")
        found.append((float(x), float(y)))
    return found


def _footprint(grid: Grid) -> shapely.Polygon:
    """The scene's outline in its CRS."""
    corners = ((0, 0), (grid.width, 0), (grid.width, grid.height), (0, grid.height))
    return shapely.Polygon([grid.transform @ corner for corner in corners])


def _store(session: Session) -> ReviewStore:
    if session.review is None:
        raise HTTPException(409, "this product has no change.gpkg, so it cannot be judged; map the pair again")
    return session.review


def _judge(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    store = _store(session)
    asked = body.get("rows", [body])
    if not isinstance(asked, list) or not 0 < len(asked) <= _MOST_ROWS:
        raise InputError(f"rows must be a list of 1 to {_MOST_ROWS} rows")
    undoing = body.get("undoing", [])
    if not isinstance(undoing, list) or len(undoing) > _MOST_ROWS:
        raise InputError(f"undoing must be a list of at most {_MOST_ROWS} numbers of rows")
    verdicts = [_verdict(session, each) for each in asked]
    rows = store.add(verdicts, _author(session, body), undoing=[_id(each, "undoing") for each in undoing])
    found = [_row(row) for row in rows]
    return {**(found[0] if "rows" not in body else {}), "rows": found, "revision": _revision(store)}


def _verdict(session: Session, body: Any) -> NewVerdict:  # noqa: ANN401  JSON
    if not isinstance(body, dict):
        raise InputError("a row must be a JSON object")
    kind = cast("Kind", body.get("kind", "judged"))
    if kind not in get_args(Kind):
        raise InputError(f"kind is {kind!r:.40}; it must be one of {', '.join(get_args(Kind))}")
    verdict = cast("Verdict", body.get("verdict", {"drawn": "accept", "erased": "reject"}.get(kind)))
    if verdict not in get_args(Verdict):
        raise InputError(f"verdict is {verdict!r:.40}; it must be one of {', '.join(get_args(Verdict))}")
    number = None if kind != "judged" and body.get("polygon") is None else _id(body.get("polygon"), "polygon")
    outline = None if number is None else _outline(session, number)
    if kind != "judged" or outline is None:
        outline = read_geometry(body.get("geometry"), session.product.grid)
    request = body.get("request")
    if request is not None and not (isinstance(request, str) and 0 < len(request) <= _REQUEST_CHARS):
        raise InputError(f"request is {request!r:.40}; it must be a text of at most {_REQUEST_CHARS} characters")
    return NewVerdict(kind, verdict, outline, number, request)


def _undo(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    store = _store(session)
    number = body.get("number")
    done = store.undo(author=_author(session, body)) if number is None else store.undo(_id(number, "number"))
    return {"undone": done, "number": done[-1] if done else None, "revision": _revision(store)}


def _split(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    store, line = _store(session), read_line(body.get("line"))
    undoing: list[int] = []
    if body.get("number") is not None:
        row = _drawn(store, _id(body["number"], "number"))
        shape, number, undoing = row.geometry, row.polygon, [row.number]
    else:
        number = _id(body.get("polygon"), "polygon")
        shape = _outline(session, number)
    pieces = [piece for part in shapely.get_parts(shape) for piece in shapely.ops.split(part, line).geoms]
    if len(pieces) <= len(shapely.get_parts(shape)):
        raise InputError("the line does not cut the polygon in two; draw it across, from outside to outside")
    verdict = body.get("verdict", "accept")
    rows = store.add(
        [NewVerdict("drawn", verdict, piece, number) for piece in pieces], _author(session, body), undoing=undoing
    )
    return {"rows": [_row(row) for row in rows], "undone": undoing, "revision": _revision(store)}


def _drawn(store: ReviewStore, number: int) -> VerdictRow:
    found = [row for row in store.rows() if row.number == number and row.kind == "drawn" and row.undone is None]
    if not found:
        raise InputError(f"there is no drawn row number {number} that counts; give the id of a polygon, or such a row")
    return found[0]


def _grow(session: Session, body: dict[str, Any]) -> dict[str, Any]:
    if session.probability is None:
        raise HTTPException(409, "this product has no probability.tif, so no region can be grown; map the pair again")
    threshold = body.get("threshold", session.product.receipt.options.threshold)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise InputError(f"threshold is {threshold!r:.40}; it must be a number above 0 and at most 1")
    try:
        ((x, y),) = _points([body.get("point", [body.get("x"), body.get("y")])])
    except (TypeError, ValueError) as error:
        raise InputError("point must be [x, y] in the CRS of the scene") from error
    found = grow(session.probability, x, y, float(threshold))
    if isinstance(found, str):
        return {"geometry": None, "reason": found, "pixels": 0, "area": 0.0, "cut": False}
    area = finite(found.pixels if session.product.grid.crs is None else _square_metres(session, found.shape))
    return {"geometry": _geojson(found.shape), "reason": None, "pixels": found.pixels, "area": area, "cut": found.cut}


def _square_metres(session: Session, shape: shapely.Geometry) -> float:
    return float(ellipsoid_areas(session.product.grid, np.array([shape], object))[0])


def _outline(session: Session, number: int) -> shapely.Geometry:
    if session.polygons is None:
        raise HTTPException(409, "this product has no change.gpkg; map the pair again")
    session.polygons.attributes(number)
    return session.polygons.outlines([number])[0]


def _id(value: Any, name: str) -> int:  # noqa: ANN401  JSON
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**53:
        raise InputError(f"{name} is {value!r:.40}; it must be a whole number from 1")
    return value


def _author(session: Session, body: dict[str, Any]) -> str:
    author = body.get("author", session.author)
    if not isinstance(author, str) or not 0 < len(author.strip()) <= 200:
        raise InputError("author must be a name of 1 to 200 characters")
    return printable(author.strip())


def _revision(store: ReviewStore) -> int:
    return store.since(2**62).revision


def _row(row: VerdictRow) -> dict[str, Any]:
    """A row as JSON-ready values; the outline of a judged polygon is that of the polygon, and left out."""
    found = {name: getattr(row, name) for name in ("number", "kind", "polygon", "verdict", "author", "time", "undone")}
    return found if row.kind == "judged" else {**found, "geometry": _geojson(row.geometry)}


def _geojson(shape: shapely.Geometry) -> Any:  # noqa: ANN401  JSON
    return json.loads(shapely.to_geojson(shapely.transform(shape, lambda points: np.round(points, 9))))
