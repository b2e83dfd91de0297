"""STAC items: a JSON file that names the files of one acquisition, a band each, mostly.

The assets that hold the wanted bands become one lazy stack on the grid of the finest of them; pixels of coarser ones
are repeated. What the item says of projection, nodata, scale and offset counts where the file itself is silent.

Sources: STAC specification 1.0 and 1.1 with the extensions eo, projection and raster. Earth Search's
``earthsearch:boa_offset_applied`` overrides the offset in ``raster:bands``, which it repeats after having added it.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.sax.saxutils import escape

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from terradelta.errors import BandError, GridError, RasterError
from terradelta.geo.grid import Grid
from terradelta.raster.access import is_inside, is_utf8
from terradelta.raster.bands import NEAREST, Band, band_code
from terradelta.raster.remote import fetch_text, full_url, is_url, public_url
from terradelta.raster.source import Source, gdal_type, read_source
from terradelta.raster.values import Meaning, sentinel_meaning
from terradelta.strangers import read_json

__all__ = ["read_input"]

_MAX_BYTES = 16 * 2**20
_MAX_ASSETS = 1000
_NO_DATA_ROLES = {"thumbnail", "overview", "metadata", "visual"}
_ALIGNED_PX = 0.01


@dataclass(frozen=True)
class _ItemBand:
    """What an item says of one band of an asset."""

    name: str
    common: str
    nodata: float | None
    scale: float | None
    offset: float | None


@dataclass(frozen=True)
class _Asset:
    key: str
    href: str
    roles: frozenset[str]
    tiff: bool
    bands: tuple[_ItemBand, ...]
    proj: dict[str, Any]
    """Fields of the projection extension without their prefix."""


@dataclass(frozen=True)
class _Item:
    path: str
    """For people."""
    address: str
    """Path or URL."""
    folder: str
    """Real path of the folder that local assets must lie in; empty for an item by URL."""
    properties: dict[str, Any]
    assets: dict[str, _Asset]


def read_input(path: str | Path, names: Sequence[int | str] | None, *, allow_outside: bool = False) -> Source:
    """Describe a raster, or the bands of a STAC item as one.

    Args:
        path: what `read_source` takes, or a STAC item: a JSON file or its http URL.
        names: bands wanted; of an item only these are opened. By asset (``B04``), by band name or common name
            (``red``), or by asset or role and number (``visual:1``).
        allow_outside: whether a local VRT or item may name files outside its folder, and URLs.

    Raises:
        RasterError: see `read_source`; or if the item is damaged, or an asset may not or cannot be read.
        BandError: if the item does not have the bands.
        GridError: if its assets do not lie on grids that fit each other.
    """
    if is_url(str(path)):
        url = full_url(str(path))
        place = urlsplit(url).path.lower()
        if not (place.endswith((".json", ".geojson")) or "/items/" in place):
            return read_source(path, allow_outside=allow_outside)
        item = _parse(fetch_text(url), public_url(url), url, "")
    else:
        if "\0" in str(path):
            raise RasterError(f"{str(path)!r:.100} holds a NUL character; give an image's path or URL")
        file = os.path.realpath(os.path.expanduser(path))
        if not is_utf8(file) or not os.path.isfile(file) or not _is_json(file):
            return read_source(path, allow_outside=allow_outside)
        item = _parse(_text(file), file, file, os.path.dirname(file))
    return _stack(item, _choose(item, names), allow_outside)


def _is_json(file: str) -> bool:
    try:
        with open(file, "rb") as stream:
            return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    except OSError:
        return False


def _text(file: str) -> str:
    try:
        if os.path.getsize(file) > _MAX_BYTES:
            raise RasterError(f"{file} is larger than {_MAX_BYTES // 2**20} MiB: no STAC item is")
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise RasterError(f"{file} cannot be read ({error}); give an image or a STAC item") from error


# --- what the item says


def _parse(text: str, path: str, address: str, folder: str) -> _Item:
    try:
        content = read_json(text)
    except (ValueError, RecursionError) as error:
        raise RasterError(f"{path} is no JSON ({str(error)[:200]}); give an image or a STAC item") from error
    content = _dict(content)
    assets = _dict(content.get("assets"))
    if content.get("type") != "Feature" or "stac_version" not in content or not assets:
        kind = str(content.get("type", "no type"))[:40]
        raise RasterError(
            f"{path} is no STAC item (it is JSON of type {kind}); give an image, or one item: of a search result, save "
            "each feature into a file of its own"
        )
    if len(assets) > _MAX_ASSETS:
        raise RasterError(f"{path} has more than {_MAX_ASSETS:,} assets; give an item with those that are needed")
    properties = _dict(content.get("properties"))
    parsed = {str(key): _asset(str(key), _dict(asset), properties) for key, asset in assets.items()}
    return _Item(path, address, folder, properties, parsed)


def _asset(key: str, asset: dict[str, Any], properties: dict[str, Any]) -> _Asset:
    spectral, raster = _list(asset.get("bands")) or _list(asset.get("eo:bands")), _list(asset.get("raster:bands"))
    count = max(len(spectral), len(raster), 1)
    parts = [[*part, *[{}] * (count - len(part))] for part in (spectral, raster)]
    bands = tuple(_band(_dict(one), _dict(other), asset) for one, other in zip(*parts, strict=True))
    proj = {
        name: asset.get(f"proj:{name}", properties.get(f"proj:{name}"))
        for name in ("code", "epsg", "transform", "shape")
    }
    media = str(asset.get("type", "")).lower()
    roles = frozenset(str(role).lower() for role in _list(asset.get("roles")))
    href = str(asset.get("href", ""))
    return _Asset(key, href, roles, "tiff" in media or href.lower().endswith((".tif", ".tiff")), bands, proj)


def _band(spectral: dict[str, Any], raster: dict[str, Any], asset: dict[str, Any]) -> _ItemBand:
    found = {**asset, **spectral, **raster}
    return _ItemBand(
        name=str(spectral.get("name", "")),
        common=str(spectral.get("common_name", spectral.get("eo:common_name", ""))).lower(),
        nodata=_number(found.get("nodata")),
        scale=_number(found.get("scale", found.get("raster:scale"))),
        offset=_number(found.get("offset", found.get("raster:offset"))),
    )


def _dict(value: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON value, as below
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401
    return value[:_MAX_ASSETS] if isinstance(value, list) else []


def _number(value: Any) -> float | None:  # noqa: ANN401
    if value == "nan":
        return float("nan")
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else None


# --- which bands


def _choose(item: _Item, names: Sequence[int | str] | None) -> list[tuple[str, _Asset, int]]:
    """(name, asset, number of the band in its file from 1) of each wanted band."""
    if names is None:
        data = [asset for asset in item.assets.values() if "data" in asset.roles] or list(item.assets.values())
        if len(data) != 1:
            raise BandError(f"{item.path} has many assets; name the bands to compare with --bands: {_listing(item)}")
        return [(band.name or f"{data[0].key}:{i}", data[0], i) for i, band in enumerate(data[0].bands, 1)]
    if not names:
        raise BandError(f"no band of {item.path} is chosen; name at least one of {_listing(item)}")
    numbers = [name for name in names if not isinstance(name, str)]
    if numbers:
        raise BandError(f"{item.path} is a STAC item, whose bands have names but no numbers; give {_listing(item)}")
    return [(str(name), *_find(item, str(name))) for name in dict.fromkeys(names)]


def _find(item: _Item, name: str) -> tuple[_Asset, int]:
    wanted = name.strip().lower()
    key, _, number = wanted.rpartition(":")
    if key and number.isdecimal():
        named = [a for a in item.assets.values() if a.key.lower() == key]
        named = named or [a for a in item.assets.values() if key in a.roles]
        if len(named) == 1 and int(number) >= 1:
            return named[0], int(number)
    exact = [asset for asset in item.assets.values() if asset.key.lower() == wanted]
    if len(exact) == 1 and len(exact[0].bands) == 1:
        return exact[0], 1
    found = _by_band(item, wanted) or _by_band(item, NEAREST.get(wanted, ""))
    if len(found) == 1:
        return found[0]
    problem = f"several assets with the band {name!r}" if found else f"no band {name!r}"
    if exact:
        count = len(exact[0].bands)
        problem = f"{count} bands in the asset {name!r}: name them {name}:1 to {name}:{count}"
    raise BandError(f"{item.path} has {problem}; it has {_listing(item)}")


def _by_band(item: _Item, wanted: str) -> list[tuple[_Asset, int]]:
    """Bands with a name or common name: of the assets with the fewest bands, TIFFs if there are some."""
    names = {wanted, band_code(wanted)} - {""}
    found = [
        (asset, number)
        for asset in item.assets.values()
        for number, band in enumerate(asset.bands, 1)
        if names & {band.name.lower(), band_code(band.name), band.common, asset.key.lower() * (len(asset.bands) == 1)}
        and not asset.roles & _NO_DATA_ROLES
    ]
    fewest = min((len(asset.bands) for asset, _ in found), default=0)
    found = [(asset, number) for asset, number in found if len(asset.bands) == fewest]
    return [(asset, number) for asset, number in found if asset.tiff] or found


def _listing(item: _Item) -> str:
    words = []
    for asset in item.assets.values():
        bands = ", ".join(dict.fromkeys(filter(None, (band.common or band.name for band in asset.bands))))
        words.append(f"{asset.key} ({bands})" if bands else asset.key)
    text = "; ".join(words)
    return f"the assets {text[:600]}{'...' if len(text) > 600 else ''}"


# --- the stack


def _stack(item: _Item, chosen: Sequence[tuple[str, _Asset, int]], allow_outside: bool) -> Source:
    opened: dict[str, Source] = {}
    for _, asset, number in chosen:
        if asset.key not in opened:
            opened[asset.key] = _open(item, asset, allow_outside)
        if number not in [band.index for band in opened[asset.key].bands]:
            raise BandError(f"{item.path}: the file of asset {asset.key!r} has no band {number}")
    parts = [(name, asset, number, opened[asset.key]) for name, asset, number in chosen]
    reference = min((source.grid for *_, source in parts), key=lambda grid: grid.pixel_size)
    bands, masks = [], []
    for _, _, number, source in parts:
        view, rects = source.view([number]), _rects(item, source.grid, reference)
        kind = gdal_type(source.dtype([number]).name)
        bands.append(f'<VRTRasterBand dataType="{kind}">{_source(view, 1, rects)}</VRTRasterBand>')
        masks.append(_source(view, 2, rects))
    masks = masks if len(masks) > 1 else masks * 2
    alpha = (
        '<VRTRasterBand dataType="Byte" subClass="VRTDerivedRasterBand"><ColorInterp>Alpha</ColorInterp>'
        f"<PixelFunctionType>mul</PixelFunctionType>{''.join(masks)}</VRTRasterBand>"
    )
    size = f'rasterXSize="{reference.width}" rasterYSize="{reference.height}"'
    files = dict.fromkeys([item.path] * bool(item.folder) + [f for source in opened.values() for f in source.files])
    return Source(
        path=item.path,
        address=item.address,
        name=f"<VRTDataset {size}>{''.join(bands)}{alpha}</VRTDataset>",
        grid=reference,
        bands=tuple(_named(i, *part) for i, part in enumerate(parts, 1)),
        alpha=(len(parts) + 1,),
        nodata=(None,) * len(parts),
        masks=("alpha",) * len(parts),
        driver="VRT",
        block=parts[0][3].block,
        palette=any(source.palette for *_, source in parts),
        meaning=_meaning(item, parts),
        files=tuple(files),
        remotes=tuple(remote for source in opened.values() for remote in source.remotes),
        acquired=str(item.properties.get("datetime") or item.properties.get("start_datetime") or ""),
    )


def _named(index: int, name: str, asset: _Asset, number: int, source: Source) -> Band:
    known = asset.bands[number - 1] if number <= len(asset.bands) else None
    return Band(index, source.dtype([number]).name, name, "undefined", known.common if known else "")


def _open(item: _Item, asset: _Asset, allow_outside: bool) -> Source:
    source = read_source(_locate(item, asset, allow_outside), allow_outside=allow_outside)
    crs = _crs(item, asset)
    if source.grid.crs is None and crs is not None:
        source = dataclasses.replace(source, grid=_grid(item, asset, crs, source))
    declared = asset.bands[0].nodata
    if declared is not None and all(mask == "all_valid" for mask in source.masks):
        source = source.with_nodata(declared)
    return source


def _locate(item: _Item, asset: _Asset, allow_outside: bool) -> str:
    href = asset.href.strip()
    what = f"{item.path}: asset {asset.key!r}"
    if not item.folder:
        url = urljoin(item.address, href)
        if not is_url(url):
            raise RasterError(f"{what} lies at {href!r:.200}; give an item whose assets have http links")
        return url
    if is_url(href):
        if not allow_outside:
            raise RasterError(
                f"{what} lies at a URL, {public_url(href):.200}; a file that was not given by URL may not lead to the "
                "network. If you trust it, add --allow-outside (Python: allow_outside=True)"
            )
        return href
    if not href or "\0" in href or not is_utf8(href) or href.startswith("/vsi") or "://" in href:
        raise RasterError(f"{what} lies at {href!r:.200}, which is no file and no http URL")
    file = os.path.realpath(os.path.join(item.folder, href))
    if not allow_outside and not is_inside(file, item.folder):
        raise RasterError(
            f"{what} lies at {file}, outside the folder {item.folder}; "
            "if you trust it, add --allow-outside (Python: allow_outside=True)"
        )
    return file


def _crs(item: _Item, asset: _Asset) -> CRS | None:
    code, epsg = asset.proj["code"], asset.proj["epsg"]
    if code is None and epsg is None:
        return None
    name = str(code) if code is not None else f"EPSG:{epsg}"
    try:
        return CRS.from_user_input(name)
    except (CRSError, UnicodeError, ValueError) as error:
        raise GridError(f"{item.path}: the projection {name!r:.60} of asset {asset.key!r} is unknown") from error


def _grid(item: _Item, asset: _Asset, crs: CRS, source: Source) -> Grid:
    """The grid by the projection extension; the file's own transform where the item gives none."""
    numbers = [_number(value) for value in _list(asset.proj["transform"])[:6]]
    if len(numbers) == 6 and source.grid.transform.is_identity:
        try:
            return Grid(crs, Affine(*[float("nan") if n is None else n for n in numbers]), source.grid.shape)
        except GridError as error:
            raise GridError(f"{item.path}: asset {asset.key!r}: {error}") from error
    return Grid(crs, source.grid.transform, source.grid.shape)


def _rects(item: _Item, grid: Grid, reference: Grid) -> str:
    """Where a file's pixels lie on the reference grid, as elements of a VRT."""
    if grid.crs != reference.crs:
        raise GridError(f"{item.path}: its assets have different CRSs ({grid.crs}, {reference.crs}); warp them first")
    height, width = grid.shape
    rows, cols = grid.map_to(reference, [0, 0, height, height], [0, width, 0, width])
    turned = max(abs(rows[1] - rows[0]), abs(cols[2] - cols[0]))
    if turned > _ALIGNED_PX or rows[2] <= rows[0] or cols[1] <= cols[0]:
        raise GridError(f"{item.path}: its assets are turned against each other; warp them to one grid first")
    x, y, across, down = cols[0], rows[0], cols[1] - cols[0], rows[2] - rows[0]
    if min(x + across, reference.width) - max(x, 0) <= 0 or min(y + down, reference.height) - max(y, 0) <= 0:
        raise GridError(f"{item.path}: its assets do not overlap")
    return (
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect xOff="{float(x)!r}" yOff="{float(y)!r}" xSize="{float(across)!r}" ySize="{float(down)!r}"/>'
    )


def _source(view: str, band: int, rects: str) -> str:
    name = f'<SourceFilename relativeToVRT="0">{escape(view)}</SourceFilename>'
    return f"<SimpleSource>{name}<SourceBand>{band}</SourceBand>{rects}</SimpleSource>"


def _meaning(item: _Item, parts: Sequence[tuple[str, _Asset, int, Source]]) -> Meaning | None:
    """What the values mean: by the item's scale and offset, its baseline, or what the files say."""
    properties = item.properties
    sensor = "Sentinel-2" if str(properties.get("constellation", "")).lower() == "sentinel-2" else ""
    sensor = "Sentinel-2" if str(properties.get("platform", "")).lower().startswith("sentinel-2") else sensor
    applied = properties.get("earthsearch:boa_offset_applied", properties.get("sentinel:boa_offset_applied"))
    known = [asset.bands[number - 1] if number <= len(asset.bands) else None for _, asset, number, _ in parts]
    if all(band is not None and band.scale for band in known):
        gains = tuple(band.scale or 1.0 for band in known if band is not None)
        offsets = tuple(0.0 if applied is True else band.offset or 0.0 for band in known if band is not None)
        note = ", whose offset was added before" if applied is True else ""
        return Meaning(f"the STAC item{note}", gains, offsets, sensor)
    integers = all(np.dtype(source.dtype([number])).itemsize > 1 for *_, number, source in parts)
    baseline = str(properties.get("s2:processing_baseline", properties.get("processing:version", "")))
    if sensor and integers and (applied is True or re.fullmatch(r"\d{1,2}\.\d{1,2}", baseline)):
        number = 0 if applied is True else round(float(baseline) * 100)
        return sentinel_meaning(number, "the STAC item", len(parts))
    meanings = [source.meaning for *_, source in parts]
    if all(meaning is not None and meaning.gain for meaning in meanings):
        pairs = [m.of(s.positions([n]))[0] for m, (*_, n, s) in zip(meanings, parts, strict=True) if m is not None]
        gains, offsets = (tuple(values) for values in zip(*pairs, strict=True))
        return Meaning(meanings[0].origin if meanings[0] else "", gains, offsets, sensor)
    return Meaning("the STAC item", sensor=sensor) if sensor and integers else None
