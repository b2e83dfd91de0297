"""One input file: what it is, and a uniform view of it.

A view is a GDAL VRT in memory with the selected bands in the selected order and dtype, and one alpha band that says
where all of them are valid: nodata values, alpha bands, mask files and NaN become the same thing. GDAL's warper then
neither mixes invalid pixels into their neighbours nor needs to know why they are invalid.
"""

import dataclasses
import datetime
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from terradelta.errors import GridError, RasterError
from terradelta.geo.grid import Grid
from terradelta.raster.access import (
    GDAL_ERRORS,
    IMAGE_DRIVERS,
    REMOTE_DRIVERS,
    check_beside,
    is_utf8,
    leads_elsewhere,
    open_image,
    settings,
    vsi_name,
)
from terradelta.raster.bands import Band
from terradelta.raster.nodata import NodataBands, Told, in_all_bands
from terradelta.raster.placing import by_points, file_grid, refuse_unplaced, upright, warped_by_points
from terradelta.raster.remote import RemoteFile, full_url, is_url, probe
from terradelta.raster.values import Meaning, band_names, recognise
from terradelta.raster.vrt import check_vrt, is_vrt

__all__ = ["Source", "gdal_type", "read_source"]

_OTHER_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # pathlib has made one slash of two
_REASON_CHARS = 500
_RAW_DRIVERS = ("ENVI", "EHdr")
_ALPHA_WINDOW, _ALPHA_PLACES, _ALPHA_SHARE = 256, (0.0, 0.5, 1.0), 0.05
"""Windows of an alpha band that are looked at, pixels and places; share of its values that may be half transparent."""
_MOST_BANDS = 1024
"""Imaging spectrometers have about 450; a header may claim 65,535, whose covariance alone would take 34 GB."""

_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
}


@dataclass(frozen=True)
class Source:
    """A readable raster file, described once; no file stays open."""

    path: str
    """Absolute path, or the URL without what may be secret; for people."""
    address: str
    """What `read_source` finds it again by: the path or the URL, signature included, so not to be shown."""
    name: str
    """What GDAL opens: the path, GDAL's name of the URL, or the text of a VRT that names nothing unchecked."""
    grid: Grid
    bands: tuple[Band, ...]
    """Image bands in file order, alpha bands left out."""
    alpha: tuple[int, ...]
    """Numbers of the alpha bands."""
    nodata: tuple[float | None, ...]
    """Declared nodata value of each image band."""
    masks: tuple[str, ...]
    """Which mask GDAL keeps for each image band.

    ``all_valid``, ``nodata``, ``alpha``, ``mask`` (one for all bands, in the file or beside it) or ``band_mask``.
    """
    driver: str
    block: tuple[int, int]
    """(height, width) of the blocks that the file is stored in."""
    palette: bool
    """Whether the values are indices into a colour table."""
    meaning: Meaning | None = None
    """What the values mean, where it is known."""
    conversion: tuple[tuple[float, float], ...] | None = None
    """(gain, offset) of each selected band, by which values become reflectance when read; None: they stay."""
    told: bool = False
    """Whether `nodata` is what the user says, and not in the file's own masks."""
    nodata_bands: NodataBands = "auto"
    """In which bands a nodata value must stand to take a pixel out, see `terradelta.raster.nodata`."""
    files: tuple[str, ...] = ()
    """Real paths of all local files that the image consists of, in order."""
    upright: Affine | None = None
    """Where the pixels (col, row) of a plain picture that was taken sideways lie in its upright plane."""
    warnings: tuple[str, ...] = ()
    """Sentences about how the file was understood, without a full stop."""
    remotes: tuple[RemoteFile, ...] = ()
    """All files behind URLs that it consists of, in order."""
    acquired: str = ""
    """When it was taken, as its metadata say, ISO 8601; empty where they do not."""

    @property
    def settings(self) -> dict[str, str]:
        """GDAL's options to enter around every use of the file: without network unless it was given by URL."""
        return settings(remote=bool(self.remotes))

    @property
    def changed(self) -> datetime.datetime:
        """When the newest of its files was last changed; 1970 where no server says.

        Raises:
            RasterError: if a file has vanished.
        """
        try:
            seconds = [os.stat(file).st_mtime for file in self.files]
        except OSError as error:
            raise RasterError(f"{error.filename} was there when the run began, but is no more") from error
        seconds += [each.modified_s for each in self.remotes if each.modified_s is not None]
        return datetime.datetime.fromtimestamp(max([0.0, *seconds]), datetime.UTC)

    def open(self) -> DatasetReader:
        """Open the file, inside a `rasterio.Env` with `settings`.

        Raises:
            RasterioError, CPLE_BaseError, UnicodeError: see `GDAL_ERRORS`.
        """
        return open_image(self.name, (self.driver,))

    def reason(self, error: BaseException) -> str:
        """GDAL's message, shortened, without what may be secret in URLs."""
        return _reason(error.__cause__ or error, self.remotes)

    def dtype(self, selected: Sequence[int]) -> np.dtype[Any]:
        """The dtype that holds the selected bands without loss (bands of one file may differ)."""
        dtypes = {band.index: band.dtype for band in self.bands}
        return np.result_type(*(np.dtype(dtypes[number]) for number in selected))

    def with_nodata(self, value: float) -> "Source":
        """The same image, with a nodata value in all bands in place of the file's masks; without alpha bands."""
        size = f'rasterXSize="{self.grid.width}" rasterYSize="{self.grid.height}"'
        bands = "".join(
            f'<VRTRasterBand dataType="{_GDAL_TYPES[band.dtype]}"><NoDataValue>{value!r}</NoDataValue>'
            f"{self._input(str(band.index), '')}</VRTRasterBand>"
            for band in self.bands
        )
        count = len(self.bands)
        return dataclasses.replace(
            self,
            name=f"<VRTDataset {size}>{bands}</VRTDataset>",
            driver="VRT",
            bands=tuple(dataclasses.replace(band, index=i) for i, band in enumerate(self.bands, 1)),
            alpha=(),
            nodata=(value,) * count,
            masks=("nodata",) * count,
        )

    def rolled(self, columns: int) -> "Source":
        """The same image with its first columns moved behind the last one, without masks of its own; `grid` stays."""
        height, width = self.grid.shape
        parts = ((columns, 0, width - columns), (0, width - columns, columns))
        rects = [
            f'<SrcRect xOff="{start}" yOff="0" xSize="{size}" ySize="{height}"/>'
            f'<DstRect xOff="{to}" yOff="0" xSize="{size}" ySize="{height}"/>'
            for start, to, size in parts
        ]
        numbers = [*(band.index for band in self.bands), *self.alpha]
        nodata = dict(zip(numbers, self.nodata, strict=False))
        dtypes = {band.index: band.dtype for band in self.bands}
        bands = ""
        for number in sorted(numbers):
            value = "" if nodata.get(number) is None else f"<NoDataValue>{nodata[number]!r}</NoDataValue>"
            colour = "<ColorInterp>Alpha</ColorInterp>" if number in self.alpha else ""
            kind = _GDAL_TYPES[dtypes.get(number, self.bands[0].dtype)]
            inputs = "".join(self._input(str(number), rect) for rect in rects)
            bands += f'<VRTRasterBand dataType="{kind}">{value}{colour}{inputs}</VRTRasterBand>'
        text = f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{bands}</VRTDataset>'
        return dataclasses.replace(self, name=text, driver="VRT")

    def with_told(self, told: Told | None, rule: NodataBands) -> "Source":
        """The same image with what the user says of its nodata value in place of what the file declares.

        Masks and alpha bands stay.

        Args:
            told: None: as the file says.
            rule: in which bands a nodata value must stand.
        """
        if told is None:
            return dataclasses.replace(self, nodata_bands=rule)
        masks = tuple("all_valid" if mask == "nodata" else mask for mask in self.masks)
        nodata = tuple(told.value if told.fits(band.dtype) else None for band in self.bands)
        return dataclasses.replace(
            self, nodata_bands=rule, nodata=nodata, masks=masks, told=any(value is not None for value in nodata)
        )

    def shared_nodata(self, selected: Sequence[int]) -> list[int]:
        """Numbers of the selected bands whose nodata value takes a pixel out only where all of them hold theirs."""
        found = []
        for position in self.positions(selected):
            value, band = self.nodata[position], self.bands[position]
            declared = self.told or self.masks[position] == "nodata"
            if declared and value is not None and in_all_bands(value, band.dtype, self.nodata_bands):
                found.append(band.index)
        return found if len(found) > 1 else []

    def positions(self, selected: Sequence[int]) -> list[int]:
        """Positions in `bands` of the bands with some numbers."""
        numbers = [band.index for band in self.bands]
        return [numbers.index(number) for number in selected]

    def convert(self, values: NDArray[Any]) -> NDArray[Any]:
        """``(C, ...)`` stored values of the selected bands, as they are or, with a `conversion`, as float32."""
        if self.conversion is None:
            return values
        gain, offset = np.array(self.conversion, np.float64).T.reshape(2, -1, *[1] * (values.ndim - 1))
        with np.errstate(over="ignore"):  # infinite values are no data
            converted: NDArray[np.float32] = (values * gain + offset).astype(np.float32)
        return converted

    def mask_bands(self, selected: Sequence[int]) -> list[int]:
        """Numbers of the bands whose GDAL masks, together with the alpha bands, say where all selected are valid."""
        kept = {band.index: mask for band, mask in zip(self.bands, self.masks, strict=True)}
        shared = [n for n in selected if kept[n] == "mask"][:1]
        return [n for n in dict.fromkeys(selected) if kept[n] in ("nodata", "band_mask")] + shared

    def by_value(self, selected: Sequence[int]) -> dict[int, float]:
        """Nodata values of the selected bands that can be compared with their values; others need GDAL's mask."""
        found: dict[int, float] = {}
        for number, position in zip(selected, self.positions(selected), strict=True):
            value, integers = self.nodata[position], np.dtype(self.bands[position].dtype).kind in "iu"
            if value is None or not (self.told or self.masks[position] == "nodata"):
                continue
            if integers and float(value).is_integer():
                found[number] = int(value)
            elif self.told:
                found[number] = value
        return found

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded row of blocks, one pixel high, all bands."""
        across = math.ceil(self.grid.width / self.block[1]) * self.block[1]
        return across * (sum(np.dtype(band.dtype).itemsize for band in self.bands) + len(self.alpha))

    def view(self, selected: Sequence[int], factor: int = 1) -> str:
        """XML of the VRT that shows the selected bands and, last, their joint validity (255 valid, 0 not).

        Args:
            selected: band numbers, from 1.
            factor: read every ``factor``-th pixel only; GDAL takes overviews where the file has them.
        """
        height, width = (max(1, round(side / factor)) for side in self.grid.shape)
        rect = ""
        if factor > 1:
            rect = (
                f'<SrcRect xOff="0" yOff="0" xSize="{self.grid.width}" ySize="{self.grid.height}"/>'
                f'<DstRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            )
        kind = _GDAL_TYPES[self.dtype(selected).name]
        bands = [f'<VRTRasterBand dataType="{kind}">{self._input(str(n), rect)}</VRTRasterBand>' for n in selected]
        transform = ",".join(map(repr, self.grid.resized((height, width)).transform.to_gdal()))
        return (
            f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><GeoTransform>{transform}</GeoTransform>'
            f"{''.join(bands)}{self._validity(selected, rect)}</VRTDataset>"
        )

    def _input(self, band: str, rect: str, path: str = "", ratio: int = 1) -> str:
        kind = "SimpleSource" if ratio == 1 else "ComplexSource"
        scale = "" if ratio == 1 else f"<ScaleOffset>0</ScaleOffset><ScaleRatio>{ratio}</ScaleRatio>"
        return (
            f'<{kind}><SourceFilename relativeToVRT="0">{escape(path or self.name)}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>{rect}{scale}</{kind}>"
        )

    def _validity(self, selected: Sequence[int], rect: str) -> str:
        """The alpha band: the product of every mask that can be 0 somewhere."""
        shared = self.shared_nodata(selected)
        inputs = [self._input(f"mask,{n}", rect) for n in self.mask_bands(selected) if n not in shared]
        inputs += [self._input(str(n), rect, ratio=255) for n in self.alpha]
        if self.told and not shared:
            told_view = self._nodata_view(selected)
            inputs += [self._input(f"mask,{i}", rect, told_view) for i in range(1, len(selected) + 1)]
        if shared:
            inputs.append(self._input("1", rect, self._any_valid(shared)))
        if self.dtype(selected).kind == "f":
            nan_view = self._nodata_view(selected, math.nan)
            inputs += [self._input(f"mask,{i}", rect, nan_view) for i in range(1, len(selected) + 1)]
        # The product even of one mask with itself: GDAL 3.10 reads the band in place of its mask when it meets
        # nothing but simple sources in a read of several bands.
        inputs = inputs or [self._input(f"mask,{selected[0]}", rect)]
        inputs = inputs if len(inputs) > 1 else inputs * 2
        return (
            '<VRTRasterBand dataType="Byte" subClass="VRTDerivedRasterBand"><ColorInterp>Alpha</ColorInterp>'
            f"<PixelFunctionType>mul</PixelFunctionType>{''.join(inputs)}</VRTRasterBand>"
        )

    def _nodata_view(self, selected: Sequence[int], value: float | None = None) -> str:
        """XML of a VRT whose masks are 0 where the bands hold a value (their own nodata value by default)."""
        own = dict(zip((band.index for band in self.bands), self.nodata, strict=True))
        kind = _GDAL_TYPES[self.dtype(selected).name]
        bands = (
            f'<VRTRasterBand dataType="{kind}"><NoDataValue>{own[n] if value is None else value!r}</NoDataValue>'
            f"{self._input(str(n), '')}</VRTRasterBand>"
            for n in selected
        )
        size = f'rasterXSize="{self.grid.width}" rasterYSize="{self.grid.height}"'
        return f"<VRTDataset {size}>{''.join(bands)}</VRTDataset>"

    def _any_valid(self, numbers: Sequence[int]) -> str:
        """XML of a VRT of one band: 0 where all of some bands hold their nodata value, 255 elsewhere."""
        inside = self._nodata_view(numbers) if self.told else ""
        masks = [self._input(f"mask,{i if self.told else n}", "", inside) for i, n in enumerate(numbers, 1)]
        size = f'rasterXSize="{self.grid.width}" rasterYSize="{self.grid.height}"'
        return (
            f'<VRTDataset {size}><VRTRasterBand dataType="Byte" subClass="VRTDerivedRasterBand">'
            f"<PixelFunctionType>sum</PixelFunctionType>{''.join(masks)}</VRTRasterBand></VRTDataset>"
        )


def gdal_type(dtype: str) -> str:
    """GDAL's name of a dtype."""
    return _GDAL_TYPES[dtype]


def read_source(path: str | Path, *, allow_outside: bool = False) -> Source:
    """Describe a raster file.

    Args:
        path: a local file in one of `IMAGE_DRIVERS`' formats, a VRT, or an http URL of an image in one of
            `REMOTE_DRIVERS`' formats, of which only the parts that are needed are fetched.
        allow_outside: whether a VRT may name files outside its folder, and URLs.

    Raises:
        RasterError: if there is no such file, it is no raster, it names what it may not, or it holds nothing that can
            be compared.
        GridError: if its transform is degenerate.
    """
    if is_url(str(path)):
        return _remote_source(full_url(str(path)))
    name = _local_file(path)
    try:
        if is_vrt(name):
            checked = check_vrt(name, allow_outside)
            return _opened(name, checked.xml, ("VRT",), tuple(checked.files), tuple(checked.remotes.values()))
        if leads_elsewhere(name):
            raise RasterError(f"{name} describes data that lie elsewhere; give the image itself")
        check_beside(name, None if allow_outside else os.path.dirname(name))
    except OSError as error:
        raise RasterError(f"{name} cannot be read ({error.strerror}); check its permissions") from error
    return _opened(name, name, IMAGE_DRIVERS, (name,), ())


def _remote_source(url: str) -> Source:
    remote = probe(url)
    found = _opened(remote.name, vsi_name(url), REMOTE_DRIVERS, (), (remote,))
    return dataclasses.replace(found, address=url)


def _opened(
    path: str, name: str, drivers: Sequence[str], files: tuple[str, ...], remotes: tuple[RemoteFile, ...]
) -> Source:
    try:
        with rasterio.Env(**settings(bool(remotes))), open_image(name, drivers) as dataset:
            refuse_unplaced(dataset, path)
            if by_points(dataset) and file_grid(dataset) is None:
                text = warped_by_points(dataset, path)
                found = _opened(path, text, ("VRT",), files, remotes)
                note = f"{path} is placed by ground control points that no affine transform fits: it was warped by them"
                return dataclasses.replace(found, warnings=(*found.warnings, note))
            _check(dataset, path)
            _refuse_truncated(dataset, path)
            return dataclasses.replace(_describe(dataset, path), name=name, files=files, remotes=remotes)
    except GDAL_ERRORS as error:
        raise RasterError(
            f"{path} cannot be opened as a raster ({_reason(error, remotes)}); give a GeoTIFF or another of "
            f"{', '.join(drivers)}, and check that the file is complete"
        ) from error


def _reason(error: BaseException, remotes: Sequence[RemoteFile]) -> str:
    """GDAL's message, without what may be secret in URLs."""
    text = str(error)
    for remote in remotes:
        text = text.replace(remote.url, remote.name)
    return text if len(text) <= _REASON_CHARS else text[:_REASON_CHARS] + "..."


def _local_file(path: str | Path) -> str:
    if _OTHER_URL.match(str(path)) or str(path).startswith("/vsi"):
        raise RasterError(
            f"{path} is no local file and no http URL; terradelta reads no other URLs and no /vsi paths: download it "
            "first, or give its https URL"
        )
    file = os.path.expanduser(path)
    if os.path.isdir(file):
        raise RasterError(f"{path} is a folder; give the raster file inside it")
    if not os.path.isfile(file):  # also False where the name itself is impossible
        raise RasterError(f"{path} does not exist; check the path")
    name = os.path.realpath(file)
    if not is_utf8(name):
        raise RasterError(f"{name!r} is no UTF-8 file name, which GDAL needs; rename the file")
    return name


def _refuse_truncated(dataset: DatasetReader, name: str) -> None:
    """Refuse a raw file that is shorter than its header says: GDAL fills what is missing with zeros, without a word.

    Raises:
        RasterError: says both sizes.
    """
    if dataset.driver not in _RAW_DRIVERS or not os.path.isfile(name):
        return
    header = {key.lower(): value.strip() for key, value in dataset.tags(ns=dataset.driver).items()}
    if header.get("file_compression", "0") not in ("", "0"):
        return
    pixels, offset = dataset.height * dataset.width, header.get("header_offset", "")
    bits = [
        int(dataset.tags(i, ns="IMAGE_STRUCTURE").get("NBITS", 8 * np.dtype(dataset.dtypes[i - 1]).itemsize))
        for i in dataset.indexes
    ]
    needed = sum(pixels * each // 8 for each in bits) + (int(offset) if offset.isdecimal() else 0)
    size = os.path.getsize(name)
    if size < needed:
        raise RasterError(
            f"{name} has {size:,} of the {needed:,} bytes that its header names: it is truncated; fetch it again"
        )


def _is_opacity(dataset: DatasetReader, number: int) -> bool:
    """Whether an alpha band says how opaque pixels are: nearly all wholly or not at all.

    A near infrared band that is flagged as alpha, as in NAIP, has other values. Some windows are looked at.
    """
    height, width = dataset.shape
    side = _ALPHA_WINDOW
    rows, cols = (sorted({round(at * max(0, n - side)) for at in _ALPHA_PLACES}) for n in (height, width))
    parts = [dataset.read(number, window=Window(c, r, min(side, width), min(side, height))) for r in rows for c in cols]
    values = np.concatenate([part.ravel() for part in parts])
    dtype = np.dtype(dataset.dtypes[number - 1])
    ends = {0, 1, 255, np.iinfo(dtype).max if dtype.kind in "iu" else 1}
    return float(np.isin(values, sorted(ends), invert=True).mean()) <= _ALPHA_SHARE


def _check(dataset: DatasetReader, name: str) -> None:
    if dataset.count > _MOST_BANDS:
        raise RasterError(
            f"{name} has {dataset.count:,} bands; at most {_MOST_BANDS:,} are compared: extract some with "
            "gdal_translate -b"
        )
    image = [
        dtype for dtype, colour in zip(dataset.dtypes, dataset.colorinterp, strict=True) if colour != ColorInterp.alpha
    ]
    if not image:
        what = f"{len(dataset.subdatasets)} subdatasets" if dataset.subdatasets else "no image band"
        raise RasterError(f"{name} holds {what}; extract the image to compare with gdal_translate first")
    unknown = sorted(set(image) - _GDAL_TYPES.keys())
    if unknown:
        raise RasterError(
            f"{name} holds {', '.join(unknown)} values; only integers and real floats can be compared: "
            "convert it first, for complex radar data for example to its amplitude"
        )


def _describe(dataset: DatasetReader, name: str) -> Source:
    flagged = [i for i, colour in enumerate(dataset.colorinterp, 1) if colour == ColorInterp.alpha]
    alpha = {i for i in flagged if _is_opacity(dataset, i)}
    image = [i for i in dataset.indexes if i not in alpha]
    try:
        grid = file_grid(dataset)
    except GridError as error:
        raise GridError(f"{name}: {error}") from error
    assert grid is not None  # else it was warped before
    described = _bands(dataset)
    bands = [described[i - 1] for i in image]
    commons = band_names(name, [band.code for band in bands])
    scales = list(zip(dataset.scales, dataset.offsets, strict=True))
    nodata, masks = dataset.nodatavals, dataset.mask_flag_enums
    return Source(
        path=name,
        address=name,
        name=name,
        grid=grid,
        bands=tuple(dataclasses.replace(band, common=common) for band, common in zip(bands, commons, strict=True)),
        meaning=recognise(name, dataset.tags(), [scales[i - 1] for i in image], [band.dtype for band in bands]),
        alpha=tuple(sorted(alpha)),
        nodata=tuple(nodata[i - 1] for i in image),
        masks=tuple(_mask(masks[i - 1], bool(alpha)) for i in image),
        driver=dataset.driver,
        block=dataset.block_shapes[0],
        upright=upright(dataset),
        warnings=tuple(
            f"band {i} of {name} is flagged as alpha, but most of its values lie between transparent and opaque: it is "
            f"taken for a band, as near infrared in NAIP; --bands chooses others"
            for i in flagged
            if i not in alpha
        ),
        palette=any(band.colour == ColorInterp.palette.name for band in bands),
        acquired=dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", ""),
    )


def _bands(dataset: DatasetReader) -> list[Band]:
    """All bands; each property of a dataset goes through all of them, so it is asked once."""
    columns = zip(dataset.indexes, dataset.dtypes, dataset.descriptions, dataset.colorinterp, strict=True)
    return [Band(number, dtype, text or "", colour.name) for number, dtype, text, colour in columns]


def _mask(flags: Sequence[MaskFlags], alpha: bool) -> str:
    if MaskFlags.all_valid in flags:
        return "all_valid"
    if MaskFlags.alpha in flags:
        return "alpha" if alpha else "all_valid"
    if MaskFlags.per_dataset in flags:
        return "mask"
    return "nodata" if MaskFlags.nodata in flags else "band_mask"
