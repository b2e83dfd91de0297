"""What opening an image may touch: an image may come from anyone.

- GDAL gets a list of drivers that only decode. Those that fetch, follow references or run code are not on it.
- GDAL's network is shut, unless the image itself was given as a URL (`SEALED`, `REMOTE`).
- The files beside an image that GDAL opens by itself (overviews, masks) must be images in the same folder, not links
  or descriptions that lead elsewhere.

VRTs, which exist to name other files, are the matter of `terradelta.raster.vrt`.
"""

import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from terradelta.errors import RasterError

__all__ = [
    "GDAL_ERRORS",
    "IMAGE_DRIVERS",
    "REMOTE",
    "REMOTE_DRIVERS",
    "SEALED",
    "SMALL_CACHE",
    "beside",
    "check_beside",
    "is_image",
    "is_inside",
    "is_utf8",
    "leads_elsewhere",
    "open_image",
    "sealed_vectors",
    "settings",
    "vector_name",
    "vsi_name",
]

GDAL_ERRORS = (RasterioError, CPLE_BaseError, UnicodeError)
"""What rasterio raises when GDAL fails; the last where a damaged file puts bytes that are no text into a message."""

IMAGE_DRIVERS = (
    *("GTiff", "JP2OpenJPEG", "PNG", "JPEG", "WEBP", "BMP", "GIF", "BIGGIF", "PNM"),
    *("HFA", "ENVI", "EHdr", "NITF", "GPKG", "AAIGrid"),
)
"""GDAL's names of the formats that are read; each decodes one file."""

REMOTE_DRIVERS = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG", "WEBP")
"""The formats that are read by URL."""

SEALED: Mapping[str, str] = {
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "nothing",
    "GDAL_HTTP_PROXY": "http://127.0.0.1:0",  # drivers that fetch without /vsicurl/ find no way out either
    "GDAL_HTTPS_PROXY": "http://127.0.0.1:0",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}
"""GDAL's options while a local file is open: no network, no Python."""

REMOTE: Mapping[str, str] = {
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no request for files beside the image
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_TIMEOUT": "120",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",  # the header of a COG in one request
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/",  # a file that changed is read anew by the next run
}
"""GDAL's options while a URL is open: bounded waits (bytes a second, seconds), three more tries, no other file."""

SMALL_CACHE: Mapping[str, int] = {"GDAL_CACHEMAX": 64 << 20}
"""GDAL's option for a raster that is read tile by tile from end to end. By default GDAL keeps what it read, up to a
twentieth of the machine's memory. It counts what is set where `read` is called."""

_WHOLE_OR_NOT = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}
"""GDAL's quick way to decode a PNG at once returns noise for a truncated file, without an error. It counts what is set
when the file is opened."""

_MAGIC = (
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF, BigTIFF
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\x89PNG\r\n", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8"),
    *(b"EHFA_HEADER_TAG", b"NITF", b"P5", b"P6"),
)
# Texts that GDAL might follow, in whatever they are wrapped.
_FOLLOWED = re.compile(rb"<(vrtdataset|gdal_w|wms_|wcs_|wmts|capabilities|mrf_meta|gdaltileindex|kml)", re.IGNORECASE)
_HEAD_BYTES = 1024
_BESIDE = (".ovr", ".msk", ".msk.ovr", ".ovr.ovr")
_URI_MARKS = "!;"
_BYTES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2} | dict.fromkeys(("uint32", "int32", "float32"), 4)
_BYTES |= dict.fromkeys(("uint64", "int64", "float64", "complex64"), 8)
_MOST_BLOCK_BYTES = 512 << 20
"""GDAL decodes whole blocks, so one block has to fit its cache, which `terradelta.raster.pair.cache_bytes` bounds."""
_ONE_BY_ONE = threading.Lock()
"""What is ignored of warnings is ignored by the whole process, and a thread that ends it ends it for all."""
_AUX_BYTES = 64 * 2**20
_ADDED = (".aux.xml", ".hdr", ".prj", ".ovr", ".msk", ".msk.ovr", ".ovr.ovr", ".msk.aux.xml", ".aux", ".rrd")
_REPLACED = (
    *(".aux", ".rrd", ".ige", ".rde", ".prj", ".hdr", ".wld", ".tab", ".clr", ".stx", ".sta", ".rpb", ".imd", ".met"),
    *(".aux.xml", "_rpc.txt", "-browse.aux.xml", "_metadata.txt"),
)
"""What GDAL looks for beside an image: these behind its name, or in place of its suffix."""


def settings(remote: bool) -> dict[str, str]:
    """GDAL's options for an image by URL, or a local one. The environment may set others for URLs."""
    found = {key: value for key, value in REMOTE.items() if key not in os.environ} if remote else dict(SEALED)
    return {**found, **_WHOLE_OR_NOT}


@contextmanager
def sealed_vectors() -> Iterator[None]:
    """The GDAL of pyogrio, which is another one than rasterio's, without network; to read a vector file in."""
    import pyogrio  # slow to import

    before = {key: pyogrio.get_gdal_config_option(key) for key in SEALED}
    pyogrio.set_gdal_config_options(dict(SEALED))
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(before)


@contextmanager
def vector_name(path: str | Path) -> Iterator[str]:
    """A name of a vector file that pyogrio takes for a path, while the block runs.

    It splits names at ``!`` and drops what follows ``;``, as in URIs of archives; folders with such names get a link.

    Raises:
        RasterError: if the file's own name has one of them, or it is a pipe or a device, which may never end.
    """
    folder, name = os.path.split(os.path.abspath(path))
    _require_ordinary(str(path))
    if any(mark in name for mark in _URI_MARKS):
        raise RasterError(f"{path}: a vector file's name may hold neither '!' nor ';'; rename it")
    if not any(mark in folder for mark in _URI_MARKS):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="terradelta-") as links:
        link = os.path.join(links, "folder")
        os.symlink(folder, link)
        yield os.path.join(link, name)


def _require_ordinary(name: str) -> None:
    """Refuse a pipe or a device: GDAL would wait for what may never come. Names that are none of a file pass."""
    if os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name):
        raise RasterError(f"{name} is no ordinary file; copy what it gives to one")


def vsi_name(url: str) -> str:
    """GDAL's name of a file behind an http URL."""
    return f"/vsicurl/{url}"


def is_utf8(name: str) -> bool:
    """Whether a file name is valid UTF-8, the only encoding that GDAL takes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def open_image(name: str, drivers: Sequence[str]) -> DatasetReader:
    """Open an image with no other than some drivers, without rasterio's warning about lacking georeference.

    Enter a `rasterio.Env` with `settings` around it and around every use.

    Args:
        name: what GDAL calls the file.
        drivers: GDAL's names of formats.

    Raises:
        RasterError: if it is a pipe or a device, which may never end, or stored in blocks that no cache holds.
        RasterioError, CPLE_BaseError, UnicodeError: see `GDAL_ERRORS`.
    """
    _require_ordinary(name)
    with _ONE_BY_ONE, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = DatasetReader(name, driver=list(drivers))
    rows, cols = dataset.block_shapes[0] if dataset.count else (0, 0)
    block = rows * cols * max((_BYTES.get(kind, 16) for kind in dataset.dtypes), default=0)
    if block > _MOST_BLOCK_BYTES:
        dataset.close()
        raise RasterError(
            f"{name:.200} is stored in blocks of {rows} x {cols} pixels, each of which takes {block / 1e6:,.0f} MB to "
            f"read; at most {_MOST_BLOCK_BYTES / 1e6:,.0f} MB are allowed: write it in tiles first, with "
            "gdal_translate -co TILED=YES"
        )
    return dataset


def is_image(path: str) -> bool:
    """Whether a file's first bytes are those of an image format.

    Raises:
        OSError: if the file cannot be read.
    """
    return _head(path).startswith(_MAGIC) and not leads_elsewhere(path)


def leads_elsewhere(path: str) -> bool:
    """Whether a file starts with a description of data that lie elsewhere, which GDAL would follow.

    Raises:
        OSError: if the file cannot be read.
    """
    return _FOLLOWED.search(_head(path)) is not None


def _head(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(_HEAD_BYTES)


def beside(image: str) -> Iterator[str]:
    """The names beside an image that GDAL would look at, of those that are there, whatever they are."""
    stem, suffix = os.path.splitext(image)
    letters = suffix[1:]
    world = [f".{letters[0]}{letters[-1]}w", f".{letters}w"] if letters else []
    names = [image + end for end in _ADDED] + [stem + end for end in (*_REPLACED, *world)]
    cases = (each for name in names for each in (name, stem + name[len(stem) :].upper()))
    for name in dict.fromkeys(cases):
        if name != image and os.path.lexists(name):
            yield name


def check_beside(path: str, folder: str | None) -> None:
    """Check the files beside an image that GDAL would open with it.

    Args:
        path: real path of the image.
        folder: real path of the folder that they must lie in; None where they may lie anywhere.

    Raises:
        RasterError: if one is no image, lies elsewhere, or names another file.
    """
    for suffix in _BESIDE:
        name = path + suffix
        if not os.path.lexists(name):
            continue
        target = os.path.realpath(name)
        if folder is not None and not is_inside(target, folder):
            raise RasterError(f"{name} leads to {target}, outside the folder of the image; remove it")
        if not os.path.isfile(target) or not is_image(target):
            raise RasterError(f"{name} is no TIFF, but GDAL would take it for part of the image; remove it")
    for name in beside(path):
        if not os.path.isfile(name) and not os.path.isdir(name):
            raise RasterError(f"{name} is no ordinary file, but GDAL would read it with the image; remove it")
    _check_aux(path + ".aux.xml")


def _check_aux(aux: str) -> None:
    if not os.path.isfile(aux):
        return
    with open(aux, "rb") as stream:
        content = stream.read(_AUX_BYTES)
    if b"overview_file" in content.lower():
        raise RasterError(f"{aux} names another file as overviews of the image; remove it")


def is_inside(path: str, folder: str) -> bool:
    """Whether a real path lies in a folder (real path) or below it."""
    return Path(path).is_relative_to(folder)
