"""Models on a hub (``hf:OWNER/REPO[@REV]``) or behind a URL: fetched once, then used from the cache.

A hub's folder holds ``model.onnx``, and perhaps ``model.safetensors`` for what needs the layers and ``SHA256SUMS``, as
`terradelta.predict.hub_folder` makes it. What is in the cache is used without asking anybody; `fetch` asks for what is
newer. Every file is compared with its SHA-256 whenever it is used.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urldefrag, urlsplit

import terradelta
from terradelta.errors import ModelError
from terradelta.files import cannot_write, sha256_of, take_lock, write_whole
from terradelta.raster.remote import full_url, is_url, public_url
from terradelta.strangers import printable, read_json

if TYPE_CHECKING:
    import requests

__all__ = [
    "FILES",
    "ONNX",
    "SAFETENSORS",
    "SUMS",
    "HubModel",
    "cache_folder",
    "cached_models",
    "fetch",
    "is_elsewhere",
    "obtain",
]

ONNX, SAFETENSORS, SUMS = "model.onnx", "model.safetensors", "SHA256SUMS"
FILES = (ONNX, SAFETENSORS)
"""What a hub's folder may hold that is used here."""
MOST_BYTES = 2 * 2**30
"""Larger models are refused."""
_MOST_TEXT = 16 * 2**20
_TIMEOUT_S = 20.0
_CHUNK = 1 << 18
_NAME = re.compile(
    r"hf:(?P<owner>\w[\w.-]*)/(?P<repo>\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?(#sha256=(?P<sha256>[0-9a-fA-F]{64}))?",
    re.ASCII,
)
_PIN = re.compile(r"(?:sha256=([0-9a-fA-F]{64}))?")
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_SOURCE = "source.json"
_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class HubModel:
    """A model in the cache."""

    source: str
    """``hf:OWNER/REPO`` or a URL, without what may be secret."""
    revision: str
    """The hub's commit; empty for a URL."""
    sha256: dict[str, str]
    """Of each file, by name."""
    folder: Path
    """Where the files lie."""
    fetched: str
    """When, ISO 8601."""

    def file(self, suffix: str) -> Path:
        """The file that ends in ``.onnx`` or ``.safetensors``.

        Raises:
            ModelError: if there is none, or it is no longer what was fetched.
        """
        name = f"model{suffix}"
        if name not in self.sha256:
            raise ModelError(
                f"{self.source} has no {name}, which this needs; it has {', '.join(self.sha256)}. Give a training run, "
                "or a model that has it"
            )
        try:
            intact = sha256_of(self.folder / name) == self.sha256[name]
        except OSError:
            intact = False
        if not intact:
            raise ModelError(
                f"{self.folder / name} is not what was fetched (its SHA-256 differs, or it is gone); run "
                "`terradelta models fetch` with the name of the model to have it anew"
            )
        return self.folder / name

    def origin(self, file: Path) -> dict[str, str]:
        """Source, revision and SHA-256 of one of the files, for its card and for receipts."""
        facts = {"source": self.source, "revision": self.revision, "sha256": self.sha256[file.name]}
        return {key: value for key, value in facts.items() if value}


@dataclass(frozen=True)
class _Wanted:
    """What was asked for."""

    text: str
    """To be shown: without what may be secret."""
    key: str
    """Tells it from all others: what the folder in the cache is named for."""
    url: str = ""
    """Of the file; empty for a hub."""
    repo: str = ""
    """OWNER/REPO."""
    revision: str = ""
    sha256: str = ""
    """That the caller knows of the file; empty: none."""

    @property
    def folder(self) -> Path:
        words = re.sub(r"[^A-Za-z0-9.-]+", "_", self.text)[-60:].strip("._")
        return cache_folder() / "models" / f"{words}-{hashlib.sha256(self.key.encode()).hexdigest()[:12]}"


def is_elsewhere(model: str) -> bool:
    """Whether a model's name is one of a hub's, or a URL."""
    return model.startswith("hf:") or is_url(model)


def cache_folder() -> Path:
    """Where fetched models are kept: ``TERRADELTA_HOME``, or what the system has for caches."""
    home = os.environ.get("TERRADELTA_HOME")
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("terradelta", appauthor=False))


def cached_models() -> list[HubModel]:
    """What is in the cache, sorted by source; what is damaged there is passed over."""
    found = [_read_source(path.parent) for path in sorted((cache_folder() / "models").glob(f"*/{_SOURCE}"))]
    return sorted((each for each in found if each is not None), key=lambda each: (each.source, each.fetched))


def obtain(model: str) -> HubModel:
    """A model from the cache; fetched first if it is not there.

    Args:
        model: ``hf:OWNER/REPO[@REV]``, or the URL of an ``.onnx`` or ``.safetensors`` file; either may end in
            ``#sha256=HEX``.

    Raises:
        ModelError: if the name is none, it cannot be had, or its SHA-256 is not the one that was given.
        OutputError: if the cache cannot be written.
    """
    wanted = _parse(model)
    with _remembered(wanted) as known:
        return known if known is not None else _fetch(wanted)


def fetch(model: str) -> HubModel:
    """As `obtain`, but asks the hub or server for the present version, whether or not there is one in the cache.

    Raises:
        ModelError: as for `obtain`; what is in the cache stays.
        OutputError: if the cache cannot be written.
    """
    wanted = _parse(model)
    with _locked(wanted.folder):
        return _fetch(wanted)


def _parse(model: str) -> _Wanted:
    """What a name asks for.

    Raises:
        ModelError: if it is none.
    """
    if not is_url(model):
        found = _NAME.fullmatch(model)
        if found is None or ".." in model:
            raise ModelError(
                f"{model!r} is no model of a hub; write hf:OWNER/REPO, hf:OWNER/REPO@REVISION, or either with "
                "#sha256= and the 64 digits of the ONNX file's SHA-256 behind it"
            )
        repo, revision = f"{found['owner']}/{found['repo']}", found["revision"] or "main"
        text = f"hf:{repo}@{revision}"
        key = f"{_endpoint()} {text}"
        return _Wanted(text, key, repo=repo, revision=revision, sha256=(found["sha256"] or "").lower())
    url, fragment = urldefrag(full_url(model))
    pin = _PIN.fullmatch(fragment)
    if pin is None or not urlsplit(url).path.lower().endswith((".onnx", ".safetensors")):
        raise ModelError(
            f"{public_url(url)}: the path of a model's URL ends in .onnx or .safetensors, and behind it may stand "
            "#sha256= and 64 digits, nothing else"
        )
    _check_scheme(url)
    return _Wanted(public_url(url), url, url=url, sha256=(pin[1] or "").lower())


@contextlib.contextmanager
def _remembered(wanted: _Wanted) -> Iterator[HubModel | None]:
    """What the cache has; where it has nothing, the place is this process's own while the block runs."""
    known = _known(wanted)
    if known is not None:
        yield known
        return
    with _locked(wanted.folder):
        yield _known(wanted)  # another process may have fetched it meanwhile


def _known(wanted: _Wanted) -> HubModel | None:
    known = _read_source(wanted.folder)
    if known is not None and wanted.sha256 not in ("", *known.sha256.values()):
        return None  # another version was asked for
    return known


def _read_source(folder: Path) -> HubModel | None:
    """What the cache says of a folder; None where it holds nothing that can be used."""
    try:
        fields = read_json((folder / _SOURCE).read_bytes())
        texts = {name: str(fields[name]) for name in ("source", "revision", "fetched")}
        sums = {name: str(fields["sha256"][name]) for name in FILES if name in fields["sha256"]}
        version = str(fields["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not sums or re.fullmatch(r"\w+", version) is None:
        return None
    return HubModel(sha256=sums, folder=folder / version, **texts)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from fetching into the same folder of the cache."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            while not take_lock(file):
                time.sleep(0.1)
            yield
    except OSError as error:
        raise cannot_write(folder, error, "set TERRADELTA_HOME to a folder that can be") from error


def _fetch(wanted: _Wanted) -> HubModel:
    """Fetch into a folder of its own, then say in ``source.json`` that it is the one to use."""
    with _requests(wanted) as session:
        version = Path(tempfile.mkdtemp(prefix="v", dir=wanted.folder))
        try:
            revision, sums = (_from_hub if wanted.repo else _from_url)(session, wanted, version)
            _check_pin(wanted, sums)
            source = f"hf:{wanted.repo}" if wanted.repo else wanted.text
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            made = HubModel(source, revision, sums, version, now)
            facts = {**dataclasses.asdict(made), "folder": version.name}
            write_whole(wanted.folder / _SOURCE, json.dumps(facts, indent=1), durable=True)
        except BaseException:
            shutil.rmtree(version, ignore_errors=True)
            raise
    for old in wanted.folder.iterdir():
        if old.is_dir() and old != version:
            shutil.rmtree(old, ignore_errors=True)
    return made


def _check_pin(wanted: _Wanted, sums: dict[str, str]) -> None:
    if wanted.sha256 not in ("", *sums.values()):
        found = ", ".join(f"{value} ({name})" for name, value in sums.items())
        raise ModelError(
            f"{wanted.text}: the SHA-256 is {found}, not {wanted.sha256} as was asked for: it is another model, or was "
            "changed. Nothing was kept"
        )


def _from_hub(session: "requests.Session", wanted: _Wanted, folder: Path) -> tuple[str, dict[str, str]]:
    """Fetch what a hub's repository has; gives its commit, and the SHA-256 of each file."""
    place = f"{_endpoint()}/api/models/{wanted.repo}/revision/{quote(wanted.revision, safe='')}"
    try:
        commit = read_json(_text(session, place, wanted) or "").get("sha")
    except (ValueError, AttributeError):
        commit = None
    if not isinstance(commit, str) or re.fullmatch(r"[0-9a-f]{7,64}", commit) is None:
        raise ModelError(f"{wanted.text}: {_endpoint()} has no such model, or answers as no hub does; check the name")
    root = f"{_endpoint()}/{wanted.repo}/resolve/{commit}"
    listed = _sums(_text(session, f"{root}/{SUMS}", wanted, optional=True))
    names = [name for name in FILES if name in listed] if listed else [ONNX]
    if not names:
        raise ModelError(f"{wanted.text}: its {SUMS} names neither {' nor '.join(FILES)}; it is no model of terradelta")
    sums = {name: _download(session, f"{root}/{name}", listed.get(name), folder / name, wanted) for name in names}
    return commit, sums


def _from_url(session: "requests.Session", wanted: _Wanted, folder: Path) -> tuple[str, dict[str, str]]:
    name = SAFETENSORS if urlsplit(wanted.url).path.lower().endswith(".safetensors") else ONNX
    return "", {name: _download(session, wanted.url, wanted.sha256 or None, folder / name, wanted)}


def _sums(text: str | None) -> dict[str, str]:
    """SHA-256 by name, from a file as ``sha256sum`` writes it."""
    lines = (_SUM.fullmatch(line.strip()) for line in (text or "").splitlines())
    return {line[2]: line[1] for line in lines if line is not None}


def _endpoint() -> str:
    """The hub's address; as `huggingface_hub` has it, ``HF_ENDPOINT`` names another."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or _HUB
    _check_scheme(endpoint)
    return endpoint


def _check_scheme(url: str) -> None:
    """Raise ModelError unless a URL is https, or http to this machine itself."""
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ModelError(
            f"{public_url(url)}: models are fetched by https only (http is for servers on this machine); give an "
            "https URL, or fetch the file yourself and give its path"
        )


@contextlib.contextmanager
def _requests(wanted: _Wanted) -> Iterator["requests.Session"]:
    """A session that follows no redirect to another scheme; what fails in the block is told in our words."""
    import requests

    class Guarded(requests.Session):
        def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401  as in the base class
            _check_scheme(str(request.url))  # of every redirect, too
            return super().send(request, **options)

    with Guarded() as session:
        session.max_redirects = 5
        session.headers["User-Agent"] = f"terradelta/{terradelta.__version__}"
        session.headers["Accept-Encoding"] = "identity"
        token = os.environ.get("HF_TOKEN") if wanted.repo else None
        if token:
            session.headers["Authorization"] = f"Bearer {token}"  # requests drops it where another host is named
        try:
            yield session
        except requests.RequestException as error:
            raise _unreachable(wanted, error) from error


def _unreachable(wanted: _Wanted, error: Exception) -> ModelError:
    """The error for a server that does not answer: what was asked for, what there is, what to do."""
    known, there = _known(wanted), sorted({each.source for each in cached_models()})
    reason = f"{wanted.text} cannot be fetched ({type(error).__name__}: {urlsplit(wanted.url or _endpoint()).netloc})"
    if known is not None:
        return ModelError(f"{reason}; the cache holds it as of {known.fetched}, which --model takes without a network")
    return ModelError(
        f"{reason}, and it is not in the cache {cache_folder()}, which holds {', '.join(there) or 'no model'}. Run "
        "`terradelta models fetch` where there is a network, and copy that folder to here (TERRADELTA_HOME names "
        "another); or take weights that ship, see `terradelta models`"
    )


@contextlib.contextmanager
def _answered(session: "requests.Session", url: str, wanted: _Wanted, limit: int) -> "Iterator[requests.Response]":
    """The server's answer, whose body is not read yet; also one of 404."""
    with session.get(url, timeout=_TIMEOUT_S, stream=True) as answer:
        _check_answer(answer, wanted, limit)
        yield answer


def _check_answer(answer: "requests.Response", wanted: _Wanted, limit: int) -> None:
    """Raise ModelError for an answer that is neither a file of at most ``limit`` bytes nor 404."""
    if answer.status_code in (401, 403):
        raise ModelError(
            f"{wanted.text}: the server answered {answer.status_code}: there is no such model, or it asks for a login. "
            "Check the name; for a private model of a hub set HF_TOKEN to your token"
        )
    if answer.status_code not in (200, 404):
        raise ModelError(
            f"{wanted.text}: the server answered {answer.status_code} {printable(answer.reason or '')}; try again later"
        )
    announced = answer.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(wanted, limit)


def _body(answer: "requests.Response", wanted: _Wanted, limit: int) -> Iterator[bytes]:
    """The body in pieces."""
    size = 0
    for piece in answer.iter_content(_CHUNK):
        size += len(piece)
        if size > limit:
            raise _too_large(wanted, limit)
        yield piece


def _too_large(wanted: _Wanted, limit: int) -> ModelError:
    return ModelError(f"{wanted.text}: the server sends more than {limit:,} bytes, which no model has; check the name")


def _text(session: "requests.Session", url: str, wanted: _Wanted, *, optional: bool = False) -> str | None:
    """A small text; None where there is none and it may be missing."""
    with _answered(session, url, wanted, _MOST_TEXT) as answer:
        if answer.status_code == 404:
            if optional:
                return None
            raise ModelError(f"{wanted.text}: {urlsplit(url).netloc} has no such model or revision; check the name")
        return b"".join(_body(answer, wanted, _MOST_TEXT)).decode("utf-8", "replace")


def _download(session: "requests.Session", url: str, sha256: str | None, path: Path, wanted: _Wanted) -> str:
    """Fetch a file and compare it with its SHA-256, if that is known; gives the SHA-256."""
    import pooch

    def stream(url: str, target: str, _pooch: object) -> None:
        with _answered(session, url, wanted, MOST_BYTES) as answer, Path(target).open("wb") as file:
            if answer.status_code == 404:
                raise ModelError(f"{wanted.text}: there is no {path.name} at {public_url(url)}; check the name")
            for piece in _body(answer, wanted, MOST_BYTES):
                file.write(piece)

    pooch.get_logger().setLevel("ERROR")
    known = None if sha256 is None else f"sha256:{sha256}"
    try:
        pooch.retrieve(url, known, path.name, path.parent, downloader=stream)
    except ValueError as error:
        raise ModelError(
            f"{wanted.text}: the SHA-256 of {path.name} is not {sha256}: it was damaged on the way, or is another "
            "model. Nothing was kept; try again, then ask its author"
        ) from error
    return sha256_of(path)
