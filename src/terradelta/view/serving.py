"""A running server: in the foreground for the command line, in a thread for a notebook."""

import atexit
import contextlib
import ipaddress
import socket
import threading
import time
from html import escape
from pathlib import Path

import uvicorn

from terradelta.errors import InputError, OutputError
from terradelta.view.server import create_app
from terradelta.view.view_session import Session, ViewOptions

__all__ = ["LOOPBACK", "View", "address", "bind", "bind_usual", "serve"]

LOOPBACK = "127.0.0.1"
USUAL_PORTS = range(8137, 8147)
_PATIENCE_S = 60.0
_CLOSE_S = 2


def bind(host: str = LOOPBACK, port: int = 0) -> socket.socket:
    """A socket to listen on.

    Args:
        host: name or IP address of this machine.
        port: 0: any that is free.

    Raises:
        InputError: if the port is taken, or the address is none of this machine.
    """
    if not 0 <= port < 1 << 16:
        raise InputError(f"the port is {port}; it must be 0 (any free one) to {(1 << 16) - 1}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"{host} is no address of this machine ({error.strerror}); leave --host out") from error
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        if port == 0:
            raise InputError(f"{host} is no address of this machine ({error.strerror}); leave --host out") from error
        with bind(host) as free:
            other = free.getsockname()[1]
        raise InputError(
            f"port {port} of {host} cannot be had ({error.strerror}); leave --port out, or take a free one: "
            f"--port {other}"
        ) from error
    return found


def bind_usual(host: str = LOOPBACK) -> socket.socket:
    """A socket on the usual port, or the next free ones: a page then finds again what its browser kept for it."""
    for port in USUAL_PORTS:
        with contextlib.suppress(InputError):
            return bind(host, port)
    return bind(host)


def address(session: Session, listening: socket.socket) -> str:
    """Where the page of a session is found."""
    host, port, *_ = listening.getsockname()
    at = ipaddress.ip_address(host)
    if at.is_unspecified:
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{session.token}/"


def serve(session: Session, listening: socket.socket, names: tuple[str, ...] = ()) -> None:
    """Serve a session until Ctrl-C; `KeyboardInterrupt` is raised then, when all is closed."""
    _run(_server(session, names), session, listening)


class View:
    """A product in a page, served from a thread of this process; shows itself in a notebook.

    Args:
        folder: that `map` made.
        options: see `ViewOptions`.
        height: of the frame in a notebook, pixels.
        host: address to listen on.
        port: 0: any that is free.

    Raises:
        InputError: if the folder is no product, or the port is taken.
        OutputError: if the server does not start.
    """

    def __init__(
        self,
        folder: str | Path,
        options: ViewOptions | None = None,
        *,
        height: int = 700,
        host: str = LOOPBACK,
        port: int = 0,
    ) -> None:
        self._height = height
        session = Session(Path(folder), options or ViewOptions())
        self._listening = bind(host, port)
        self.url = address(session, self._listening)
        """Where the page is; with the token."""
        self._server = _server(session, (host,))
        self._thread = threading.Thread(
            target=_run, args=(self._server, session, self._listening), name="terradelta-view", daemon=True
        )
        self._thread.start()
        atexit.register(self.close)
        end = time.monotonic() + _PATIENCE_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                self.close()
                raise OutputError(f"the server at {self.url} did not start; close other programs and try again")
            time.sleep(0.01)

    def close(self) -> None:
        """Stop serving; nothing is lost, as all was written when it was said."""
        self._server.should_exit = True
        self._thread.join(_PATIENCE_S)
        with contextlib.suppress(OSError):
            self._listening.close()
        atexit.unregister(self.close)

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{self._height}px;border:0"
        return f'<iframe src="{escape(self.url)}" style="{style}" allowfullscreen title="terradelta view"></iframe>'

    def __repr__(self) -> str:
        return f"View({self.url!r})"


def _run(server: uvicorn.Server, session: Session, listening: socket.socket) -> None:
    """Serve until the server is told to stop; the session is closed then."""
    session.begin()
    try:
        server.run(sockets=[listening])
    finally:
        session.close()


def _server(session: Session, names: tuple[str, ...]) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(session, names),
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_CLOSE_S,
    )
    return uvicorn.Server(config)
