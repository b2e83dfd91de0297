"""Who may talk to the server: the token in the address, the names that it goes by, and no page of another site."""

import base64
import hmac
import ipaddress
import os
import secrets
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from terradelta.files import hidden_file
from terradelta.predict.hub import cache_folder

__all__ = ["MOST_BYTES", "Gate", "lasting_token", "random_token"]

MOST_BYTES = 2 * 2**20
"""Of the body of a request."""
_TOKEN_BYTES, _SECRET_BYTES = 24, 32
_SECRET = "view.secret"
_WRITING = ("POST", "PUT", "PATCH", "DELETE")
_READING = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"
)
"""Styles in elements are allowed: a page of OpenLayers sets them. Frames of this machine: notebooks."""
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def random_token() -> str:
    """What nobody can guess."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def lasting_token(*what: str) -> str:
    """A token that nobody can guess, and that this user gets again for the same words.

    So a page that is open, and an address that was kept, go on when a server is started again; those of anything else
    do not lead there. It is an HMAC under a secret of the user, a file in the cache that only he may read. Where none
    can be kept, it is random.
    """
    try:
        digest = hmac.digest(_secret(), "\0".join(what).encode(errors="surrogateescape"), "sha256")
    except OSError:
        return random_token()
    return base64.urlsafe_b64encode(digest[:_TOKEN_BYTES]).decode()


def _secret() -> bytes:
    """The user's; made if there is none.

    Raises:
        OSError: if it cannot be kept, or is not the user's alone.
    """
    path = cache_folder() / _SECRET
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with hidden_file(path) as temporary:
            temporary.touch(mode=0o600, exist_ok=False)
            temporary.write_bytes(secrets.token_bytes(_SECRET_BYTES))
    state, content = path.stat(), path.read_bytes()
    if len(content) != _SECRET_BYTES or (os.name == "posix" and (state.st_uid != os.getuid() or state.st_mode & 0o077)):
        raise PermissionError(f"{path} is not a secret of this user")
    return content


class Gate:
    """ASGI middleware that lets nobody in but the page itself, and programs that know the token.

    The token is the first part of the path. The ``Host`` must be an IP address, ``localhost`` or the name of this
    machine, so that no other name can be made to lead here (DNS rebinding). A browser says by ``Origin`` and
    ``Sec-Fetch-Site`` which page asks; one of another site is refused, whatever it asks for. What writes must be JSON.

    Args:
        app: what is guarded.
        token: secret.
        names: more names that the server goes by.
    """

    def __init__(self, app: ASGIApp, token: str, names: tuple[str, ...] = ()) -> None:
        self._app, self._token = app, token
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            status, reason = refusal
            await JSONResponse({"error": reason}, status)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason, if a request is refused."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_known(host):
            return 421, "this server does not go by that name; use the address that `terradelta view` printed"
        first = scope["path"].lstrip("/").split("/", 1)[0]
        known = hmac.compare_digest(first.encode(errors="replace"), self._token.encode())
        if not known or "\0" in scope["path"]:
            return 404, "there is nothing here; use the whole address that `terradelta view` printed"
        if scope["method"] not in (*_WRITING, *_READING):
            return 405, "this server knows GET, HEAD and POST"
        if self._is_foreign(headers, host, scope):
            return 403, "pages of other sites may not use this server"
        if scope["method"] in _WRITING:
            return _unfit(headers)
        return None

    def _is_known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _is_foreign(self, headers: Headers, host: str, scope: Scope) -> bool:
        origin = headers.get("origin")
        if origin is not None and origin != f"{scope.get('scheme', 'http')}://{host}":
            return True
        site = headers.get("sec-fetch-site", "none")
        # A frame of a notebook, or a link, may lead to the page itself, but to nothing that it is made of.
        leads_here = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in _READING
        return site not in ("same-origin", "none") and not leads_here


def _unfit(headers: Headers) -> tuple[int, str] | None:
    """Why what writes is refused before it is read."""
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return 415, "send JSON, with the content type application/json"
    length = headers.get("content-length", "")
    if not length.isascii() or not length.isdigit():
        return 411, "say the length of the body"
    if int(length[:20]) > MOST_BYTES:
        return 413, f"the body may have {MOST_BYTES} bytes at most"
    return None
