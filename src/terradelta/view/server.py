"""The server of one product: what a page finds under which address.

Below ``/TOKEN/`` lie the page itself, ``tiles/`` and ``api/``; docs/view.md lists what each gives and takes. All errors
are JSON objects with one sentence under ``error``.
"""

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from terradelta.errors import OutputError, TerradeltaError
from terradelta.view import judging, looking
from terradelta.view.gate import Gate
from terradelta.view.labelling import LabellingTask
from terradelta.view.view_session import Session

__all__ = ["BUNDLE", "HOW_TO_BUILD", "bundle_is_built", "create_app"]

BUNDLE = Path(__file__).with_name("bundle")
"""The page, as the package's build makes it."""
HOW_TO_BUILD = "python hatch_build.py, in the folder of terradelta's sources"
_UNBUILT = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>terradelta view</title>
<h1>The page is not built</h1>
<p>This terradelta runs from its sources, in which the page of <code>terradelta view</code> is not built yet. Build it
with <code>{HOW_TO_BUILD}</code>, then start this again. That needs the network once, for packages of npm.</p></html>
"""


def bundle_is_built() -> bool:
    """Whether the page is there."""
    return (BUNDLE / "index.html").is_file()


def create_app(session: Session, names: tuple[str, ...] = ()) -> Starlette:
    """The application that serves a session.

    Args:
        session: the product, opened.
        names: names that the server goes by, beside IP addresses, ``localhost`` and that of the machine.
    """
    app = Starlette(
        routes=[Mount(f"/{session.token}", routes=[*_pictures(), *_texts()]), Route(f"/{session.token}", _to_page)],
        middleware=[Middleware(Gate, token=session.token, names=names)],
        exception_handlers={TerradeltaError: _on_error, HTTPException: _on_http_error},
    )
    app.state.session = session
    return app


def _pictures() -> list[BaseRoute]:
    """What is compressed by itself."""
    return [
        Route("/tiles/{layer}/{z:int}/{x:int}/{y:int}.{extension}", looking.tile),
        Route("/api/chip/{number:int}/{date}.{extension}", looking.chip),
    ]


def _texts() -> list[BaseRoute]:
    """What is worth compressing."""
    found = [
        Route("/api/scene", looking.scene),
        Route("/api/polygons", looking.polygons),
        Route("/api/polygons/geojson", looking.outlines),
        Route("/api/polygons/{number:int}", looking.polygon),
        Route("/api/review", judging.review, methods=["GET"]),
        Route("/api/review", judging.judge, methods=["POST"]),
        Route("/api/review/undo", judging.undo, methods=["POST"]),
        Route("/api/split", judging.split, methods=["POST"]),
        Route("/api/grow", judging.grow_region, methods=["POST"]),
        Route("/api/export.{extension}", judging.export),
        Route("/api/task", _task, methods=["GET"]),
        Route("/api/task/interval", _interval),
        Route("/api/task/{number:int}", _label, methods=["POST"]),
        Mount("/", _page()),
    ]
    return [Mount("", routes=found, middleware=[Middleware(GZipMiddleware, minimum_size=1000, compresslevel=6)])]


class _Files(StaticFiles):
    """The page's files; the browser keeps those whose name holds a hash of their content, compiled, for a reload."""

    def file_response(self, full_path: Any, *rest: Any, **more: Any) -> Response:  # noqa: ANN401  as in the base class
        """As in the base class."""
        found = super().file_response(full_path, *rest, **more)
        if Path(full_path).parent.name == "assets":
            found.headers["Cache-Control"] = "private, max-age=31536000, immutable"
        return found


def _page() -> ASGIApp:
    """The page's own files."""
    if bundle_is_built():
        return _Files(directory=BUNDLE, html=True)
    return Router([Route("/", _unbuilt)])  # what it lacks, the application around it answers


def _unbuilt(_: Request) -> Response:
    return HTMLResponse(_UNBUILT, 503)


def _to_page(request: Request) -> Response:
    return RedirectResponse(f"{request.url.path}/")


def _task(request: Request) -> Response:
    """``GET api/task``: the samples in random order, with what was labelled."""
    return JSONResponse(_given_task(request).record())


async def _label(request: Request) -> Response:
    """``POST api/task/ID``: ``{"label": "changed" | "unchanged" | "unsure" | null}``."""
    task, body = _given_task(request), await judging.body_of(request)
    if "label" not in body:
        raise HTTPException(422, "label is missing; it must be unchanged, changed, unsure or null")
    await run_in_threadpool(task.label, request.path_params["number"], body["label"])
    found = await run_in_threadpool(task.record)
    return JSONResponse({"total": found["total"], "labelled": found["labelled"]})


def _interval(request: Request) -> Response:
    """``GET api/task/interval``: the changed area with its interval, once samples are labelled."""
    return JSONResponse(_given_task(request).interval())


def _given_task(request: Request) -> LabellingTask:
    task = looking.session_of(request).task
    if task is None:
        raise HTTPException(404, "no samples are being labelled; see `terradelta area OUT --draw N --view`")
    return task


def _on_error(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 507 if isinstance(error, OutputError) else 422)


def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
