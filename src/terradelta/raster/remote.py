"""Files behind a URL: what identifies one without reading it, and whether parts of it can be read.

Servers tell a file's size and, mostly, an ETag or the time of its last change. These stand where a local file has its
time stamp and SHA-256. What a URL holds after ``?`` is often a signature that expires: it is used, but neither printed
nor recorded, nor does it count as part of the file's identity.
"""

import dataclasses
import functools
import hashlib
import http.client
import itertools
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import terradelta
from terradelta.errors import RasterError

__all__ = ["RemoteFile", "fetch_text", "is_url", "probe", "public_url"]

_URL = re.compile(r"https?:/", re.IGNORECASE)  # pathlib has made one slash of two
_TIMEOUT_S = 20.0
_TRIES = 3
_PAUSE_S = 0.5
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_TEXT_BYTES = 16 * 2**20
_SAMPLE_BYTES = 1 << 14


@dataclass(frozen=True)
class RemoteFile:
    """A file behind a URL, as its server describes it."""

    url: str
    """The URL as it was given, signature included: not to be shown."""
    size: int
    """Bytes."""
    etag: str
    """The server's mark of this version of the file; may be empty."""
    modified: str
    """The server's date of the last change, as HTTP writes it; may be empty."""
    sample: str = ""
    """Hash of some of its bytes, where the server marks no versions."""

    @property
    def name(self) -> str:
        """The URL without what may be secret."""
        return public_url(self.url)

    @property
    def modified_s(self) -> float | None:
        """Seconds since 1970 of the last change; None where the server does not say."""
        try:
            return parsedate_to_datetime(self.modified).timestamp()
        except (TypeError, ValueError):
            return None


def is_url(text: str) -> bool:
    """Whether a text is an http or https URL, also one that `pathlib.Path` has shortened to one slash."""
    return _URL.match(text) is not None


def full_url(text: str) -> str:
    """The URL with both slashes."""
    return re.sub(r"^(https?):/+", r"\1://", text, flags=re.IGNORECASE)


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def probe(url: str) -> RemoteFile:
    """Ask a server about a file, by fetching its first byte.

    Args:
        url: http or https.

    Raises:
        RasterError: if the server cannot be reached within 20 seconds, refuses, has no such file, or cannot send
            parts of a file.
    """
    with _opened(url, {"Range": "bytes=0-0"}) as answer:
        headers = answer.headers
        total = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", "").strip())
        if answer.status != 206 or total is None:
            raise RasterError(
                f"{public_url(url)}: the server cannot send a part of the file (HTTP range requests), so all of it "
                "would be fetched for every tile; download it first"
            )
        found = RemoteFile(url, int(total[1]), headers.get("ETag", ""), headers.get("Last-Modified", ""))
    return found if found.etag else dataclasses.replace(found, sample=_sample(url, found.size))


def _sample(url: str, size: int) -> str:
    """A hash of the first, the middle and the last bytes of a file."""
    digest = hashlib.sha256()
    for start in sorted({0, max(0, (size - _SAMPLE_BYTES) // 2), max(0, size - _SAMPLE_BYTES)}):
        stop = min(size, start + _SAMPLE_BYTES)
        with _opened(url, {"Range": f"bytes={start}-{stop - 1}"}) as answer:
            try:
                digest.update(answer.read(_SAMPLE_BYTES))
            except (OSError, http.client.HTTPException) as error:
                raise RasterError(f"{public_url(url)} cannot be read ({_reason(error)}); try again later") from error
    return digest.hexdigest()


def fetch_text(url: str) -> str:
    """A small text file behind a URL, at most 16 MiB of UTF-8.

    Raises:
        RasterError: if it cannot be had or is no such text.
    """
    with _opened(url, {}) as answer:
        try:
            content = answer.read(_TEXT_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise RasterError(f"{public_url(url)} cannot be read ({_reason(error)}); try again later") from error
    try:
        if len(content) > _TEXT_BYTES:
            raise ValueError(f"more than {_TEXT_BYTES} bytes")
        return str(content, "utf-8")
    except ValueError as error:
        raise RasterError(f"{public_url(url)} is no JSON text ({error}); give an image or a STAC item") from error


def _opened(url: str, headers: dict[str, str]) -> Any:  # noqa: ANN401  urllib's answer has no public class
    """The server's answer; tries again where the failure may pass."""
    agent = {"User-Agent": f"terradelta/{terradelta.__version__}", "Accept-Encoding": "identity"}
    for attempt in itertools.count(1):
        try:
            request = urllib.request.Request(url, headers={**agent, **headers})
            return _web().open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _RETRIED or attempt == _TRIES:
                raise RasterError(
                    f"{public_url(url)}: the server answered {error.code} {error.reason}; check the URL, and that it "
                    "may be read without logging in or carries a valid signature"
                ) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            if attempt == _TRIES or isinstance(error, ValueError | http.client.InvalidURL):
                raise RasterError(
                    f"{public_url(url)} cannot be reached ({_reason(error)}); check the URL and the connection"
                ) from error
        time.sleep(_PAUSE_S * attempt)
    return None  # the loop has no end


@functools.cache
def _web() -> urllib.request.OpenerDirector:
    """What opens http and https; a redirect to anything else, such as ftp, is an error."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)
