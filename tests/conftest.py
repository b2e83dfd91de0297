"""Shared fixtures: where the real images are, and one thread a process."""

import hashlib
import http.server
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.pop("COLUMNS", None)  # readline leaves it to xdist's workers, and rich would wrap by it
os.environ.pop("LINES", None)

import pytest
from hypothesis import HealthCheck, settings

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # tests import OpenVINO directly, too

# Machines are shared and slow at times: a test fails for what it finds, not for how long it took to find it.
settings.register_profile("terradelta", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("terradelta")

# A shell lets what it starts in the background ignore Ctrl-C, and so do the children of that; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real labelled and georeferenced images; skips where it is absent."""
    folder = Path(os.environ.get("TERRADELTA_SHARED_DATA", SHARED_DATA))
    if not folder.is_dir():
        pytest.skip(f"real images are not here: {folder} (set TERRADELTA_SHARED_DATA to their folder)")
    return folder.resolve()


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """torch works on one thread, whatever the environment says."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class FileServer:
    """Serves a folder on 127.0.0.1 with byte ranges, and keeps account of what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str]] = []
        """(method, path) of every request."""
        self.sent = 0
        """Bytes of file content."""
        self.ranges = True
        self.failures = 0
        """How many of the next requests are answered 503."""
        self.held_back = 0
        """Bytes at the end of a file that are announced but never sent, as when a connection breaks."""
        self.version = "1"
        """Part of every ETag."""
        self.no_etag = False
        self.token = ""
        """If set, the query that a request must have."""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                server.answer(self, body=False)

            def do_GET(self) -> None:
                server.answer(self, body=True)

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def url(self, name: str) -> str:
        return f"{self.root}/{name}"

    def answer(self, request: http.server.BaseHTTPRequestHandler, *, body: bool) -> None:
        name, _, query = request.path.partition("?")
        self.requests.append((request.command, name))
        file = self.folder / name.lstrip("/")
        status = 404 if not file.is_file() else 403 if query != self.token else 200
        if self.failures:
            self.failures -= 1
            status = 503
        content = file.read_bytes() if status == 200 else b""
        headers = {"ETag": f'"{self.version}-{len(content)}"', "Last-Modified": "Mon, 02 Mar 2020 10:00:00 GMT"}
        if self.no_etag:
            del headers["ETag"]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if status == 200 and self.ranges:
            headers["Accept-Ranges"] = "bytes"
            if wanted is not None:
                first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                status, content = 206, content[first : last + 1]
        self.sent += len(content) if body else 0  # before the client hears of it: a test may look at once
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(key, value)
        request.end_headers()
        if body:
            request.wfile.write(content[: len(content) - self.held_back])

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[FileServer]:
    """A server of the folder ``tmp_path / "served"``."""
    (tmp_path / "served").mkdir()
    server = FileServer(tmp_path / "served")
    yield server
    server.close()


@pytest.fixture
def tripwire() -> Iterator[FileServer]:
    """A server that nobody may talk to: the test fails if it was asked for anything."""
    server = FileServer(Path("/nonexistent"))
    yield server
    server.close()
    assert server.requests == []


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(FileServer):
    """A hub, as huggingface.co answers; sends on what it is told to, and remembers which tokens were brought."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.moved: dict[str, str] = {}
        """Address to send on to, by path."""
        self.statuses: dict[str, int] = {}
        self.no_length = False
        self.tokens: list[str | None] = []

    def add(self, repo: str, files: dict[str, bytes], *, commit: str = COMMIT, sums: bool = True) -> None:
        """A commit of a repository, which ``main`` is from now on."""
        place = self.folder / repo / "resolve" / commit
        place.mkdir(parents=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
        if sums:
            lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
            (place / "SHA256SUMS").write_text("".join(lines))
        for revision in ("main", commit):
            file = self.folder / "api" / "models" / repo / "revision" / revision
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"id": repo, "sha": commit}))

    def answer(self, request: http.server.BaseHTTPRequestHandler, *, body: bool) -> None:
        self.tokens.append(request.headers.get("Authorization"))
        status = self.statuses.get(request.path, 302 if request.path in self.moved else 200)
        if status != 200:
            self.requests.append((request.command, request.path))
            request.send_response(status)
            if status == 302:
                request.send_header("Location", self.moved[request.path])
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif self.no_length:
            self.requests.append((request.command, request.path))
            request.send_response(200)
            request.end_headers()
            request.wfile.write((self.folder / request.path.lstrip("/")).read_bytes())
        else:
            super().answer(request, body=body)

    def asked(self, name: str) -> int:
        """How often a file was asked for."""
        return sum(path.endswith(f"/{name}") for _, path in self.requests)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without models, and an empty cache."""
    (tmp_path / "hub").mkdir()
    server = Hub(tmp_path / "hub")
    monkeypatch.setenv("HF_ENDPOINT", server.root)
    monkeypatch.setenv("TERRADELTA_HOME", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.close()


@pytest.fixture(scope="session")
def write_review() -> Callable[..., None]:
    """``write_review(product, rows)``: the review of a product, in place of the one that is there."""

    def write(product: Path, rows: Sequence[Any]) -> None:
        from terradelta.review.store import NewVerdict, ReviewStore
        from terradelta.review.verdicts import FILE

        (product / FILE).unlink(missing_ok=True)
        store = ReviewStore(product)
        for row in rows:
            (made,) = store.add([NewVerdict(row.kind, row.verdict, row.geometry, row.polygon)], row.author)
            if row.undone:
                store.undo(made.number)

    return write
