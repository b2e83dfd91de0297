"""Hostile files, names and options, made to trouble whoever reads them: each kind with a seed gives one command.

They stand beside the whole files of `Samples`. Nothing here is damaged at random: headers claim what cannot be, texts
hold what terminals act upon, files lead elsewhere or back to themselves.
"""

import csv
import gzip
import io
import json
import os
import random
import shutil
import sqlite3
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

__all__ = ["KINDS", "hostile"]

Arguments = tuple[str, ...]
Maker = Callable[[Path, random.Random], Arguments]
KINDS: dict[str, Maker] = {}

TERMINAL = (
    *(
        "\x1b]0;title\x07",
        "\x1b[2J\x1b[31mred",
        "\x9b31m",
        "a\rb\x08c",
        "\u202egnp.exe",
        "\u2028",
        "\x7f",
        "[red]a[/red]",
    ),
    *("</script><script>alert(1)</script>", "{{7*7}}", "%s%n%p", "' OR 1=1 --", '"><img src=x onerror=alert(1)>'),
    *("../../../etc/passwd", "con:", "a" * 5000, "\ufeff", "\U0001f600", "&lt;&amp;", "]]>", "$(id)`id`"),
)
"""Texts that terminals, pages, databases or shells might act upon."""
NUMBERS = (
    *("nan", "inf", "-inf", "1e308", "-1e308", "1e999", "-0.0", "1e-320", "0", "-1", "9" * 400, "1_000", "٣", "0x10"),
    *(str(2**31), str(2**63), str(2**64), str(-(2**63) - 1), "", " ", "1,2", "1;2", "None", "true"),
)
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 1e300, 5e-324, 0.0, 1e-300, -1.0)
METHODS = ("cva", "irmad", "pca-kmeans")
DEEP = 100_000


def hostile(kind: str, seed: int, folder: Path) -> Arguments:
    """Make the files of a kind in a folder with the whole samples; gives the command that reads them."""
    return KINDS[kind](folder, random.Random(f"hostile {kind} {seed}"))


def _kind(maker: Maker) -> Maker:
    KINDS[maker.__name__.strip("_")] = maker
    return maker


def _pair(one: str, draw: random.Random) -> Arguments:
    """`map` of a file and a whole one, in either order, or of the file alone."""
    dates = draw.choice(((one, "plain.tif"), ("plain.tif", one), (one, one), (one, one), (one, one)))
    return ("map", *dates, "--method", draw.choice(METHODS))


def _text(draw: random.Random) -> str:
    return draw.choice(TERMINAL)


def _bomb(draw: random.Random) -> str:
    """JSON that is deep, long or no text."""
    return draw.choice(
        (
            *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[" * DEEP, '{"a": ' + "9" * 5000 + "}"),
            *('{"a": 1e999}', '"\\ud800"', "null", "[]", "{}", '{"type": "\\u001b]0;x\\u0007"}', "NaN", '{"a":1}' * 10),
        )
    )


# --- TIFF by hand: headers that no library would write


def _tiff(tags: dict[int, tuple[str, object]], tail: bytes = b"", chain: int = 0) -> bytes:
    """A little-endian TIFF of one directory; values by struct format, ``s`` for text."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, (code, value) in sorted(tags.items()):
        if code == "s":
            data = str(value).encode("latin-1", "replace") + b"\0"
            kind, count = 2, len(data)
        else:
            values = value if isinstance(value, list | tuple) else (value,)
            kind, count = {"H": 3, "I": 4, "d": 12}[code], len(values)
            data = struct.pack(f"<{count}{code}", *values)
        if len(data) > 4:
            place, extra = struct.pack("<I", start + len(extra)), extra + data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, count) + place
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", chain) + extra + tail


def _plain_tags(width: int = 8, height: int = 8, bands: int = 1) -> dict[int, tuple[str, object]]:
    tags: dict[int, tuple[str, object]] = {256: ("I", width), 257: ("I", height), 258: ("H", [8] * bands)}
    tags |= {259: ("H", 1), 262: ("H", 1), 273: ("I", 8), 277: ("H", bands), 278: ("I", height)}
    tags |= {279: ("I", min(width * height * bands, 2**31)), 339: ("H", [1] * bands)}
    place = [0.0, 0.0, 0.0, 600000.0, 3400000.0, 0.0]
    return tags | {33550: ("d", [0.5, 0.5, 0.0]), 33922: ("d", place), 34735: ("H", [1, 1, 0, 1, 3072, 0, 1, 32614])}


@_kind
def _tiff_size(folder: Path, draw: random.Random) -> Arguments:
    width, height, bands = draw.choice(
        (
            *((10**6, 10**6, 1), (2**31 - 1, 2**31 - 1, 1), (0, 8, 1), (8, 0, 3), (2**32 - 1, 1, 1), (1, 2**31 - 1, 3)),
            *((8, 8, 65535), (8, 8, 0), (65500, 65500, 100), (50_000, 50_000, 4)),
        )
    )
    (folder / "h.tif").write_bytes(_tiff(_plain_tags(width, height, bands), bytes(4096)))
    return (*_pair("h.tif", draw), *draw.choice(((), ("--yes",), ("--aoi", "-97.96,30.72,-97.95,30.73"))))


@_kind
def _tiff_sparse(folder: Path, draw: random.Random) -> Arguments:
    side = draw.choice((200_000, 10**6, 2 * 10**6))
    block = draw.choice((4096, 16384))
    profile = {
        "driver": "GTiff",
        "count": draw.choice((1, 4)),
        "dtype": draw.choice(("uint8", "float64")),
        "tiled": True,
    }
    with rasterio.open(
        folder / "h.tif", "w", width=side, height=side, crs="EPSG:32614", SPARSE_OK=True, bigtiff="yes",
        transform=Affine(0.5, 0, 600000, 0, -0.5, 3400000), blockxsize=block, blockysize=block, **profile,
    ):  # fmt: skip
        pass
    return (*_pair("h.tif", draw), *draw.choice(((), (), ("--aoi", "600000,3399990,600010,3400000,EPSG:32614"))))


@_kind
def _tiff_tags(folder: Path, draw: random.Random) -> Arguments:
    """Tags that lie: sizes of values, loops of directories, georeference from nowhere."""
    tags, chain = _plain_tags(), 0
    float_list = [draw.choice(FLOATS) for _ in range(16)]
    lies: tuple[tuple[int, tuple[str, object]], ...] = (
        *((34264, ("d", float_list)), (33550, ("d", float_list[:3])), (33922, ("d", float_list[:6])), (258, ("H", 63))),
        *(
            (33922, ("d", float_list * 600)),
            (42113, ("s", draw.choice(NUMBERS))),
            (42113, ("s", _text(draw))),
            (259, ("H", 7)),
        ),
        (42112, ("s", "<GDALMetadata>" + "<Item>" * 5000)),
        (42112, ("s", f'<GDALMetadata><Item name="{_text(draw)}" role="offset">1e999</Item></GDALMetadata>')),
        *((305, ("s", "x" * 10**6)), (273, ("I", [2**32 - 1] * 5)), (279, ("I", 2**32 - 1)), (322, ("I", 2**31 - 16))),
        *(
            (278, ("I", 2**32 - 1)),
            (320, ("H", [7] * 11)),
            (274, ("H", 99)),
            (339, ("H", 6)),
            (262, ("H", 6)),
            (317, ("H", 3)),
        ),
        (34735, ("H", [1, 1, 0, 3, *(draw.randrange(65536) for _ in range(12))])),
        (34735, ("H", [1, 1, 0, 2, 3072, 0, 1, 32767, 1026, 34737, 60000, 0])),
        *(
            (34737, ("s", _text(draw) * 100)),
            (330, ("I", [8, 8, 8])),
            (50844, ("d", float_list)),
            (270, ("s", _text(draw))),
        ),
    )
    for tag, value in draw.sample(lies, draw.choice((1, 1, 2, 3))):
        tags[tag] = value
    if draw.random() < 0.2:
        chain = 8
    (folder / "h.tif").write_bytes(_tiff(tags, bytes(2048), chain))
    return _pair("h.tif", draw)


def _written(path: Path, values: np.ndarray, **options: object) -> None:
    """A TIFF by rasterio, without its warnings."""
    place = {"crs": "EPSG:32614", "transform": Affine(0.5, 0, 600000, 0, -0.5, 3400000)}
    count, height, width = values.shape
    size = {"driver": "GTiff", "dtype": values.dtype.name, "count": count, "height": height, "width": width}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", **(size | place | options)) as file:
            file.write(values)


def _noise(draw: random.Random, shape: tuple[int, int, int] = (3, 48, 48)) -> np.ndarray:
    return np.random.default_rng(draw.randrange(2**32)).integers(1, 255, shape).astype("uint8")


@_kind
def _values(folder: Path, draw: random.Random) -> Arguments:
    """Numbers that no sensor measures, in every type."""
    kind = draw.choice(("float32", "float64", "int16", "uint32", "int64", "uint64", "int8", "complex64", "complex128"))
    values = _noise(draw).astype(kind)
    if kind.startswith(("float", "complex")):
        limit = float(np.finfo(kind).max)
        found = [each for each in FLOATS if not np.isfinite(each) or abs(each) <= limit] + [limit, -limit]
    else:
        found = [np.iinfo(kind).max, np.iinfo(kind).min, 0]
    for _ in range(draw.choice((1, 2, 3))):
        rows, cols = (slice(*sorted(draw.sample(range(49), 2))) for _ in range(2))
        values[draw.choice((slice(None), slice(0, 1))), rows, cols] = draw.choice(found)
    if draw.random() < 0.4:
        values[...] = draw.choice(found)
    nodata = draw.choice((None, None, 0, found[-1]))
    _written(folder / "h.tif", values, nodata=nodata)
    return _pair("h.tif", draw)


@_kind
def _sizes(folder: Path, draw: random.Random) -> Arguments:
    height, width = draw.choice(((1, 1), (1, 2), (2, 2), (1, 70_000), (70_000, 1), (3, 4000), (48, 1)))
    _written(folder / "h.tif", _noise(draw, (draw.choice((1, 3)), height, width)))
    if draw.random() < 0.2:
        (folder / "h.tif").write_bytes(b"")
    return _pair("h.tif", draw)


@_kind
def _bands(folder: Path, draw: random.Random) -> Arguments:
    count = draw.choice((1000, 1024, 20_000, 65_535))
    (folder / "h.tif").write_bytes(_tiff(_plain_tags(4, 4, count), bytes(16 * count)))
    chosen = draw.choice(((), ("--bands", "1,2,65535"), ("--bands", ",".join("1" for _ in range(20_000)))))
    return ("map", "h.tif", "h.tif", "--method", draw.choice(METHODS), *chosen)


@_kind
def _transform(folder: Path, draw: random.Random) -> Arguments:
    parts = [0.5, 0.0, 600000.0, 0.0, -0.5, 3400000.0]
    for k in draw.sample(range(6), draw.choice((1, 2, 6))):
        parts[k] = draw.choice(FLOATS)
    crs = draw.choice(("EPSG:32614", "EPSG:4326", "EPSG:3857", "EPSG:32661", "EPSG:4978", "EPSG:5773", None))
    _written(folder / "h.tif", _noise(draw), transform=Affine(*parts), crs=crs)
    return (*_pair("h.tif", draw), *draw.choice(((), ("--aoi", "-180,-90,180,90"), ("--coregister",))))


@_kind
def _points(folder: Path, draw: random.Random) -> Arguments:
    """Control points and coefficients without sense."""
    _written(folder / "h.tif", _noise(draw), crs=None, transform=None)
    number = draw.choice((1, 2, 3, 4, 5000))
    same = draw.random() < 0.3
    points = [
        GroundControlPoint(
            row=0 if same else draw.choice((*FLOATS, 3, 40)), col=0 if same else draw.choice((*FLOATS, 3, 40)),
            x=draw.choice((*FLOATS, 600000, 600020)), y=draw.choice((*FLOATS, 3400000, 3399990)), id=_text(draw),
        )
        for _ in range(number)
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(folder / "h.tif", "r+") as file:
            if draw.random() < 0.7:
                file.gcps = (points, draw.choice((CRS.from_epsg(32614), CRS.from_epsg(4326), CRS())))
            else:
                names = ("height_off", "height_scale", "lat_off", "lat_scale", "line_off", "line_scale", "long_off")
                numbers = {name: draw.choice(FLOATS) for name in (*names, "long_scale", "samp_off", "samp_scale")}
                lists = {
                    name: [draw.choice(FLOATS) for _ in range(20)] for name in ("line_num_coeff", "line_den_coeff")
                }
                lists |= {name: [0.0] * 20 for name in ("samp_num_coeff", "samp_den_coeff")}
                file.rpcs = RPC(**numbers, **lists, err_bias=None, err_rand=None)
    return _pair("h.tif", draw)


@_kind
def _names(folder: Path, draw: random.Random) -> Arguments:
    """Texts in descriptions, tags, colour names and the file's own name."""
    name = draw.choice(TERMINAL).replace("/", "_").replace("\0", "")[:60].strip(".") + ".tif"
    try:
        _written(folder / "h.tif", _noise(draw))
        with rasterio.open(folder / "h.tif", "r+") as file:
            file.descriptions = tuple(_text(draw) for _ in range(3))
            file.update_tags(TIFFTAG_DATETIME=_text(draw), ACQUISITIONDATETIME=_text(draw), **{"a": _text(draw)})
            file.update_tags(1, BandName=_text(draw))
        os.rename(folder / "h.tif", folder / name)
    except UnicodeError:
        name = "plain.tif"
    chosen = draw.choice(((), ("--bands", _text(draw)), ("--bands", "1,2,3"), ("--qgis",)))
    return ("map", name, draw.choice((name, "plain.tif")), "--method", draw.choice(METHODS), *chosen)


@_kind
def _crs(folder: Path, draw: random.Random) -> Arguments:
    """A CRS with any text for a name, or none that PROJ knows."""
    name = _text(draw).replace('"', "'")
    wkt = draw.choice(
        (
            f'LOCAL_CS["{name}",UNIT["metre",1]]',
            f'GEOGCS["{name}",DATUM["{name}",SPHEROID["{name}",0,0]],PRIMEM["a",1e308],UNIT["degree",0]]',
            f'PROJCS["{name}",GEOGCS["a",DATUM["b",SPHEROID["c",6378137,1e-300]],PRIMEM["d",0],UNIT["e",0.01745]],'
            f'PROJECTION["{draw.choice(("Transverse_Mercator", "Nothing", name))}"],'
            f'UNIT["f",{draw.choice(("0", "1e308", "-1"))}]]',
            f'COMPD_CS["{name}",' * 500,
            f'ENGCRS["{name}",EDATUM[""],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
            "EPSG:999999",
            name * 100,
            '{"$schema": "x", "type": ' + "[" * 5000,
            "+proj=pipeline +step +proj=utm +zone=99",
            "+proj=longlat +nadgrids=/dev/zero +type=crs",
        )
    )
    shutil.copy(folder / "plain.tif", folder / "h.tif")
    pam = f"<PAMDataset><SRS>{_xml(wkt)}</SRS><GeoTransform>1,1,0,1,0,-1</GeoTransform></PAMDataset>"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        _written(folder / "h.tif", _noise(draw), crs=None, transform=None)
    (folder / "h.tif.aux.xml").write_text(pam, errors="replace")
    if draw.random() < 0.3:
        (folder / "h.tif.aux.xml").unlink()
        (folder / "h.tfw").write_text("0.5\n0\n0\n-0.5\n600000\n3400000\n")
        (folder / "h.prj").write_text(wkt, errors="replace")
    return _pair("h.tif", draw)


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@_kind
def _sidecars(folder: Path, draw: random.Random) -> Arguments:
    """What lies beside an image and is no plain file, leads elsewhere, or is a bomb."""
    shutil.copy(folder / "plain.tif", folder / "h.tif")
    ending = draw.choice(
        (".tif.aux.xml", ".tif.ovr", ".tif.msk", ".tfw", ".prj", ".aux", ".rrd", ".hdr", "_RPC.TXT", ".tab", ".IMD")
    )
    beside = folder / f"h{ending}"
    what = draw.choice(("pipe", "loop", "zero", "stdin", "folder", "deep", "entities", "vrt", "far", "long"))
    if what == "pipe":
        os.mkfifo(beside)
    elif what in ("loop", "zero", "stdin", "far"):
        targets = {"loop": beside.name, "zero": "/dev/zero", "stdin": "/dev/stdin", "far": "/etc/passwd"}
        beside.symlink_to(targets[what])
    elif what == "folder":
        beside.mkdir()
    else:
        entities = (
            '<!DOCTYPE a [<!ENTITY x "y">'
            + "".join(f'<!ENTITY x{k} "{f"&x{k - 1};" * 10}">' for k in range(1, 20))
            + "]>"
        )
        texts = {
            "deep": "<PAMDataset>" + "<a>" * DEEP,
            "entities": f"{entities}<PAMDataset><SRS>&x19;</SRS></PAMDataset>",
            "vrt": "<VRTDataset rasterXSize='9' rasterYSize='9'><VRTRasterBand><SimpleSource><SourceFilename>"
            "/vsicurl/http://127.0.0.1:9/x.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
            "long": "<PAMDataset><Metadata><MDI key='a'>" + "x" * 5_000_000 + "</MDI></Metadata></PAMDataset>",
        }
        beside.write_text(texts[what])
    return _pair("h.tif", draw)


@_kind
def _vrt(folder: Path, draw: random.Random) -> Arguments:
    """Sources that are the VRT itself, far away, or without end; functions; sizes."""
    source = draw.choice(
        (
            *(
                "h.vrt",
                "./h.vrt",
                "other.vrt",
                "http://127.0.0.1:9/a.tif",
                "/vsicurl/http://127.0.0.1:9/a.tif",
                "/dev/zero",
            ),
            *(
                "pipe",
                "../../etc/passwd",
                "/vsizip/bomb.zip/a.tif",
                "plain.tif",
                "<VRTDataset/>",
                "h.vrt\x1b[31m",
                "stack.vrt",
            ),
        )
    )
    size = draw.choice((48, 48, 0, -1, 2**31 - 1, 10**12))
    function = "<PixelFunctionType>a</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    function += "<PixelFunctionCode><![CDATA[import os; os.system('touch ran')]]></PixelFunctionCode>"
    kernel = "<Kernel normalized='1'><Size>9999</Size><Coefs>" + "1 " * 20000 + "</Coefs></Kernel>"
    bands = draw.choice((1, 3, 3, 20_000))
    body = (
        f'<VRTRasterBand dataType="{draw.choice(("Byte", "CFloat64", "x"))}" band="{{n}}" '
        f"{draw.choice(('', '', 'subClass=' + repr('VRTDerivedRasterBand')))}>"
        f"{draw.choice(('', '', function))}<{{kind}}><SourceFilename relativeToVRT='1'>{_xml(source)}</SourceFilename>"
        f"<SourceBand>{draw.choice(('1', '{n}', '0', 'mask,1', '99999'))}</SourceBand>{draw.choice(('', '', kernel))}"
        f"<SrcRect xOff='{draw.choice(('0', 'nan', '-1e308'))}' yOff='0' xSize='48' ySize='48'/></{{kind}}>"
        "</VRTRasterBand>"
    )
    kind = draw.choice(("SimpleSource", "ComplexSource", "KernelFilteredSource", "ArraySource"))
    text = "".join(body.replace("{n}", str(n)).replace("{kind}", kind) for n in range(1, bands + 1))
    head = f'<VRTDataset rasterXSize="{size}" rasterYSize="{draw.choice((48, size))}">'
    deep = "<a>" * draw.choice((0, 0, 0, DEEP))
    (folder / "h.vrt").write_text(f"{head}<SRS>EPSG:32614</SRS>{deep}{text}</VRTDataset>", errors="replace")
    (folder / "other.vrt").write_text((folder / "h.vrt").read_text().replace("other.vrt", "h.vrt"))
    os.mkfifo(folder / "pipe")
    _zip(folder / "bomb.zip", "a.tif")
    return (*_pair("h.vrt", draw), *draw.choice(((), (), ("--allow-outside",))))


def _zip(path: Path, name: str) -> None:
    """49 MB of zeros in 50 kB, behind a TIFF's head."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, _tiff(_plain_tags(7000, 7000), bytes(49_000_000)))


@_kind
def _archives(folder: Path, draw: random.Random) -> Arguments:
    """Names of GDAL's file systems, and archives given as files."""
    if draw.random() < 0.5:
        name = draw.choice(("bomb.zip", "bomb.tar", "bomb.gz", "bomb.tif.gz", "bomb.shp.zip", "bomb.gpkg.zip"))
        if name.endswith("zip"):
            _zip(folder / name, draw.choice(("a.tif", "a.shp", "a.gpkg", "../../a.tif")))
        elif name.endswith("gz"):
            with gzip.open(folder / name, "wb") as stream:
                stream.write(_tiff(_plain_tags(4000, 4000), bytes(16_000_000)))
        else:
            with tarfile.open(folder / name, "w") as file:
                entry = tarfile.TarInfo("../../a.tif")
                entry.size = 10
                file.addfile(entry, io.BytesIO(b"II*\0000000000"))
        paths = (name, f"/vsizip/{name}/a.tif", f"/vsitar/{name}", f"/vsigzip/{name}", f"zip://{name}!a.tif")
        one = draw.choice(paths)
    else:
        one = draw.choice(
            (
                *(
                    "/vsistdin/",
                    "/vsimem/x",
                    "/vsisubfile/0_100,plain.tif",
                    "GTIFF_DIR:1:plain.tif",
                    "HDF5:x://a",
                    "WMS:x",
                ),
                *(
                    "PG:host=127.0.0.1 port=9",
                    "ftp://127.0.0.1:9/a.tif",
                    "file:///etc/passwd",
                    "s3://a/b.tif",
                    "/vsis3/a/b",
                ),
                *(
                    "http://127.0.0.1:9/a.tif",
                    "http://[::1",
                    "http://",
                    "https://user:secret@127.0.0.1:9/a.tif",
                    "\x1b[31m.tif",
                ),
                *(
                    "/dev/zero",
                    "/dev/stdin",
                    "/proc/self/mem",
                    "/proc/self/environ",
                    ".",
                    "/",
                    "",
                    " ",
                    "-",
                    "~",
                    "a" * 5000,
                ),
                *(
                    "<VRTDataset rasterXSize='9' rasterYSize='9'/>",
                    "vrt://plain.tif?bands=9",
                    "DERIVED_SUBDATASET:LOGAMPLITUDE:plain.tif",
                ),
            )
        )
    if draw.random() < 0.25:
        return ("map", "plain.tif", "after.tif", "--method", "cva", "--aoi", one)
    return _pair(one, draw)


@_kind
def _pipes(folder: Path, draw: random.Random) -> Arguments:
    """A pipe that nobody writes to, a link to itself and a folder, in every place that takes a file."""
    one = "h" + draw.choice(
        (".tif", ".png", ".vrt", ".json", ".gpkg", ".geojson", ".onnx", ".ckpt", ".safetensors", ".csv", "")
    )
    what = draw.choice(("pipe", "loop", "folder", "zero"))
    if what == "pipe":
        os.mkfifo(folder / one)
    elif what == "folder":
        (folder / one).mkdir()
    else:
        (folder / one).symlink_to(one if what == "loop" else "/dev/zero")
    model = ("map", "plain.tif", "after.tif", "--model", one)
    places = [_pair(one, draw), model, ("map", "plain.tif", "after.tif", "--method", "cva", "--aoi", one)]
    places += [
        ("area", "product", "--regions", one),
        ("evaluate", one, "--data", "data"),
        ("models", one),
        ("area", one),
    ]
    places += [
        ("evaluate", "tiny.onnx", "--data", one),
        ("export", "tiny.onnx", "--receipt", one),
        ("data", "check", one),
    ]
    places += [("evaluate", "tiny.onnx", "--data", "data", "--against", one)]
    if what != "pipe":  # a table may come from a pipe
        places += [("map", "--pairs", one, "--method", "cva"), ("area", "product", "--samples", one)]
    elif not one.endswith(".csv"):
        places.append(("area", "product", "--samples", one))
    return draw.choice(places)


# --- models


def _with_card(folder: Path, change: Callable[[dict[str, object]], str]) -> None:
    """``h.onnx``: the small model with another card."""
    import onnx

    from terradelta.card import CARD_KEY

    model = onnx.load(folder / "tiny.onnx")
    entry = next(each for each in model.metadata_props if each.key == CARD_KEY)
    entry.value = change(json.loads(entry.value))
    (folder / "h.onnx").write_bytes(model.SerializeToString())


@_kind
def _cards(folder: Path, draw: random.Random) -> Arguments:
    """Cards with sizes, scales and texts that cannot be."""

    def change(card: dict[str, object]) -> str:
        if draw.random() < 0.25:
            return _bomb(draw)
        for key in draw.sample(sorted(card), draw.choice((1, 2, 5))):
            card[key] = draw.choice(
                (
                    *(10**9, -1, 0, 0.5, 1e308, float("nan"), float("inf"), 2**63, 10**200, None, True, [], {}, ""),
                    *(
                        [1e308] * 3,
                        [0.0] * 3,
                        [float("nan")] * 3,
                        ["x"] * 100_000,
                        _text(draw),
                        [_text(draw)] * 3,
                        {"a": {"b": []}},
                    ),
                )
            )
        return json.dumps(card)

    _with_card(folder, change)
    ways = (("map", "plain.tif", "after.tif", "--model", "h.onnx", "--anyway"), ("models", "h.onnx"))
    return draw.choice((*ways, ways[0], ("evaluate", "h.onnx", "--data", "data"), ("export", "h.onnx")))


@_kind
def _graphs(folder: Path, draw: random.Random) -> Arguments:
    """Weights that lie elsewhere, or are none."""
    import onnx

    model = onnx.load(folder / "tiny.onnx")
    tensor = model.graph.initializer[0]
    what = draw.choice(("outside", "pipe", "zero", "huge", "dims", "names"))
    if what in ("outside", "pipe", "zero", "huge"):
        place = {"outside": "../../../etc/passwd", "pipe": "pipe", "zero": "/dev/zero", "huge": "plain.tif"}[what]
        os.mkfifo(folder / "pipe")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", place), ("offset", "0"), ("length", str(2**62) if what == "huge" else "108")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        tensor.ClearField("raw_data")
    elif what == "dims":
        tensor.dims[0] = 2**62
    else:
        model.graph.node[0].name = model.producer_name = _text(draw)
        model.graph.node[0].op_type = _text(draw)
    (folder / "h.onnx").write_bytes(model.SerializeToString())
    return ("map", "plain.tif", "after.tif", "--model", "h.onnx", "--anyway")


@_kind
def _safetensors(folder: Path, draw: random.Random) -> Arguments:
    """Headers of weights that claim more than there is."""
    head = draw.choice(
        (
            _bomb(draw),
            json.dumps({"w": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}),
            json.dumps({"w": {"dtype": _text(draw), "shape": [1], "data_offsets": [0, 2**62]}}),
            json.dumps({"__metadata__": {"terradelta": _bomb(draw)}}),
            json.dumps({_text(draw): {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}),
        )
    ).encode()
    length = draw.choice((len(head), 2**63, 0, len(head) + 1))
    (folder / "h.safetensors").write_bytes(struct.pack("<Q", length) + head + bytes(64))
    return ("map", "plain.tif", "after.tif", "--model", "h.safetensors")


# --- texts and vectors


@_kind
def _stac(folder: Path, draw: random.Random) -> Arguments:
    """Items whose assets lead elsewhere, back, or nowhere; with numbers and texts that cannot be."""
    item = json.loads((folder / "item.json").read_text())
    os.mkfifo(folder / "pipe")
    hrefs = (
        "./h.json",
        "pipe",
        "/dev/zero",
        "http://127.0.0.1:9/a.tif",
        "../../etc/passwd",
        _text(draw),
        "stack.vrt",
        "",
        7,
        None,
    )
    for key, asset in item["assets"].items():
        change = draw.choice(("href", "bands", "transform", "scale", "key", "properties", "many"))
        if change == "href":
            asset["href"] = draw.choice(hrefs)
        elif change == "bands":
            asset["eo:bands"] = draw.choice(
                ([{"name": _text(draw), "common_name": key}], [{}] * 10_000, {"a": 1}, [[]], "red")
            )
        elif change == "transform":
            asset["proj:transform"] = draw.choice(([0] * 6, ["x"] * 6, [1e308] * 9, [], {"a": 1}, [10**300] * 6, "1,2"))
        elif change == "scale":
            numbers = (0, 1e308, "1", None, 10**299, [1], True)
            asset["raster:bands"] = [{"nodata": draw.choice((*numbers, "nan")), "scale": draw.choice(numbers)}]
        elif change == "properties":
            item["properties"] = draw.choice(
                (None, [], {"datetime": _text(draw), "platform": _text(draw)}, {"proj:epsg": 10**20})
            )
    if draw.random() < 0.3:
        item["assets"] |= {f"{_text(draw)}{k}": {"href": "plain.tif"} for k in range(draw.choice((2, 3000)))}
    text = _bomb(draw) if draw.random() < 0.2 else json.dumps(item)
    (folder / "h.json").write_text(text)
    return (
        "map",
        "h.json",
        draw.choice(("h.json", "item.json")),
        "--method",
        "cva",
        "--bands",
        draw.choice(("red,nir", "red", _text(draw))),
    )


@_kind
def _areas(folder: Path, draw: random.Random) -> Arguments:
    """Areas of interest: shapes, numbers and texts."""
    ring: list[list[object]] = [[-97.96, 30.72], [-97.95, 30.72], [-97.95, 30.73], [-97.96, 30.72]]
    for point in draw.sample(ring, 2):
        point[draw.randrange(2)] = draw.choice((1e308, -1e308, 10**299, None, "x", [], 720.0, float("nan"), 95.0))
    nest: dict[str, object] = {"type": "Point", "coordinates": [0, 0]}
    for _ in range(draw.choice((3, 25))):
        nest = {"type": "GeometryCollection", "geometries": [nest]}
    text = draw.choice(
        (
            *(_bomb(draw), json.dumps({"type": "Polygon", "coordinates": [ring]}), json.dumps(nest)),
            json.dumps(
                {
                    "type": "Polygon",
                    "coordinates": [[[-97.955 + k % 7 * 1e-6, 30.72 + k % 5 * 1e-6] for k in range(200_000)]],
                }
            ),
            json.dumps(
                {
                    "type": "FeatureCollection",
                    "crs": {"type": "name", "properties": {"name": _text(draw)}},
                    "features": [7],
                }
            ),
            json.dumps({"type": _text(draw), "features": {"a": []}}),
        )
    )
    (folder / "h.geojson").write_text(text)
    words = (
        *(
            "0,0,inf,inf",
            "nan,nan,nan,nan",
            "0,0,1e308,1e308",
            "1,1,0,0",
            "0,0,0,0",
            "1,2,3,4,EPSG:99999",
            f"1,2,3,4,{_text(draw)}",
        ),
        *(
            "POLYGON((0 0,1e308 1,1 1,0 0))",
            "POLYGON EMPTY",
            "GEOMETRYCOLLECTION(" * 3000,
            "POINT(nan nan)",
            _text(draw),
            "h.gpkg|layername=v",
        ),
    )
    aoi = draw.choice((*words, *("h.geojson",) * 12))
    return ("map", "plain.tif", "after.tif", "--method", "cva", "--aoi", aoi)


@_kind
def _layers(folder: Path, draw: random.Random) -> Arguments:
    """GeoPackages whose names, texts, geometries and tables are a stranger's; as area, regions, samples or image."""
    import pyogrio.raw
    import shapely

    name = _text(draw).replace("\0", "")[:50] or "x"
    shapes = [
        shapely.box(600000, 3399980, 600020, 3400000),
        shapely.from_wkt(draw.choice(("POINT(600005 3399995)", "POLYGON EMPTY"))),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pyogrio.raw.write(
                folder / "h.gpkg",
                shapely.to_wkb(np.array(shapes)),
                [np.array([_text(draw)] * 2, object)],
                [draw.choice(("label", "name", name))],
                **{"layer": name, "driver": "GPKG", "geometry_type": "Unknown", "crs": "EPSG:32614"},
            )
        except Exception:  # GDAL refuses some names: then there is no such file
            return ("map", "plain.tif", "after.tif", "--method", "cva", "--aoi", "h.gpkg")
    statement = draw.choice(
        (
            *(
                "",
                "",
                "UPDATE gpkg_contents SET srs_id = 424242",
                "UPDATE gpkg_geometry_columns SET geometry_type_name = x'00ff'",
            ),
            "UPDATE gpkg_spatial_ref_sys SET definition = '" + "[" * 9000 + "'",
            "UPDATE gpkg_contents SET table_name = 'sqlite_master'",
            "DROP TABLE gpkg_geometry_columns",
            "CREATE TRIGGER t AFTER UPDATE ON gpkg_contents BEGIN SELECT load_extension('x'); END",
            f"PRAGMA user_version = {draw.choice((0, 2**31 - 1))}",
        )
    )
    base = sqlite3.connect(folder / "h.gpkg")
    try:
        if statement:
            base.execute("PRAGMA writable_schema = 1")
            base.executescript(statement)
        if draw.random() < 0.4:
            quoted = name.replace('"', '""')
            blob = draw.choice(
                (b"GP\0\1" + bytes(60), b"x", b"", b"GP\0\1\0\0\0\0\1" + b"\6\0\0\0\xff\xff\xff\x7f", None, "text")
            )
            base.execute(f'UPDATE "{quoted}" SET geom = ?', (blob,))
        base.commit()
    except sqlite3.Error:
        pass
    finally:
        base.close()
    mapping = ("map", "plain.tif", "after.tif", "--method", "cva", "--aoi", "h.gpkg")
    return draw.choice(
        (
            mapping,
            mapping,
            ("area", "product", "--regions", "h.gpkg"),
            ("area", "product", "--samples", "h.gpkg"),
            _pair("h.gpkg", draw),
        )
    )


@_kind
def _tables(folder: Path, draw: random.Random) -> Arguments:
    """Tables of pairs, and of samples."""
    if draw.random() < 0.4:
        rows = [
            ["id", "x", "y", "label"],
            *([k, draw.choice(NUMBERS), draw.choice(NUMBERS), draw.choice((*TERMINAL, "0", "1"))] for k in range(20)),
        ]
        with (folder / "h.csv").open("w", newline="", errors="replace") as stream:
            csv.writer(stream).writerows(rows)
        return ("area", "product", "--samples", "h.csv")
    names = ("../../x", _text(draw), "con", "", ".", "a/b", "a\\b", "x" * 300, "one", "one")
    line = ("plain.tif", "after.tif", draw.choice(names), draw.choice(("", _text(draw))), draw.choice(("", *NUMBERS)))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("before", "after", "name", "aoi", draw.choice(("threshold", "values", "bands", _text(draw)))))
    writer.writerows(
        [line, ("h.csv", "h.csv", draw.choice(names), "", ""), ("/vsicurl/http://127.0.0.1:9/a", "pipe", "", "", "")]
    )
    content = text.getvalue().encode("utf-8", "replace")
    if draw.random() < 0.3:
        content = draw.choice(
            (
                b"\0" * 5000,
                b"before,after\n" + b"a" * 10_000_000,
                b"," * 10**6,
                b"\xff\xfe" + content,
                b'before,after\n"' + b"x\n" * 10**5,
            )
        )
    (folder / "h.csv").write_bytes(content)
    return ("map", "--pairs", "h.csv", "--method", "cva")


# --- products and receipts of strangers


@_kind
def _products(folder: Path, draw: random.Random) -> Arguments:
    """A product folder in which one part is a stranger's."""
    shutil.copytree(folder / "product", folder / "strange")
    part = draw.choice(("change.tif", "change.tif", "receipt.json", "receipt.json", "change.gpkg"))
    path = folder / "strange" / part
    path.unlink()
    if part == "change.tif":
        size = draw.choice(((10**6, 10**6), (0, 8), (8, 8), (2**31 - 1, 1)))
        what = draw.choice(("claims", "pipe", "loop", "plain", "float"))
        if what == "claims":
            path.write_bytes(_tiff(_plain_tags(*size), bytes(4096)))
        elif what == "pipe":
            os.mkfifo(path)
        elif what == "loop":
            path.symlink_to("change.tif")
        elif what == "plain":
            shutil.copy(folder / "plain.tif", path)
        else:
            _written(path, np.full((1, 48, 48), draw.choice(FLOATS)))
    elif part == "receipt.json":
        receipt = json.loads((folder / "product" / "receipt.json").read_text())
        for key in draw.sample(sorted(receipt), 3):
            receipt[key] = draw.choice(
                (_text(draw), [], {}, None, 10**299, -1, {"a": _text(draw)}, [_text(draw)] * 1000)
            )
        path.write_text(_bomb(draw) if draw.random() < 0.3 else json.dumps(receipt))
    else:
        path.write_bytes(draw.choice((b"", b"SQLite format 3\0" + bytes(500), b"x" * 5000)))
    ways = (
        ("area", "strange"),
        ("area", "strange", "--samples", "labelled.csv"),
        ("area", "strange", "--regions", "area.geojson"),
    )
    return draw.choice(
        (
            *ways,
            ("area", "strange", "--draw", "10"),
            ("train", "--from", "buildings", "--review", "strange", "--steps", "1"),
        )
    )


@_kind
def _receipts(folder: Path, draw: random.Random) -> Arguments:
    """Receipts of scores, to compare with and to put into a card."""
    scores: dict[str, object] = {
        "schema": draw.choice((1, 2, "x", 10**299)),
        "kind": "evaluate",
        "model": _text(draw),
        "images": [],
    }
    scores |= {
        "images": draw.choice(([], {}, [{"name": _text(draw), "confusion_px": [1e308] * 4}] * 3, None)),
        "scores": draw.choice(({}, [], {"f1": "x"})),
    }
    (folder / "h.json").write_text(draw.choice((_bomb(draw), json.dumps(scores))))
    return draw.choice(
        (
            ("evaluate", "tiny.onnx", "--data", "data", "--against", "h.json"),
            ("export", "tiny.onnx", "--receipt", "h.json"),
        )
    )


@_kind
def _data_sets(folder: Path, draw: random.Random) -> Arguments:
    """Folders of labelled pairs in which one file is a stranger's."""
    shutil.copytree(folder / "data", folder / "h")
    place = folder / "h" / "test" / draw.choice(("A", "B", "label"))
    what = draw.choice(("pipe", "loop", "size", "bomb", "name", "up", "empty", "csv"))
    victim = next(iter(sorted(place.iterdir())))
    if what == "name":
        for part in ("A", "B", "label"):
            shutil.copy(
                folder / "h" / "test" / part / victim.name, folder / "h" / "test" / part / "a\x1b[31m\u202e.png"
            )
    elif what == "up":
        (place / "again").symlink_to("..")
    elif what == "csv":
        (folder / "h.csv").write_text(
            f"before,after,label,split,coding\n/dev/zero,pipe,{_xml(_text(draw))},test,x\n", errors="replace"
        )
    else:
        victim.unlink()
        if what == "pipe":
            os.mkfifo(victim)
        elif what == "loop":
            victim.symlink_to(victim.name)
        elif what == "size":
            victim.write_bytes(_tiff(_plain_tags(10**5, 10**5), bytes(4096)))
        elif what == "bomb":
            victim.write_bytes(_png(draw.choice((20_000, 50_000, 2**31 - 1))))
        else:
            victim.write_bytes(b"")
    data = "h.csv" if what == "csv" else "h"
    return draw.choice(
        (("evaluate", "tiny.onnx", "--data", data), ("data", "check", data), ("data", "tile", data, "--size", "16"))
    )


def _png(side: int) -> bytes:
    """A PNG that claims a size, with rows of zeros for a part of it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(10_000_000), 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


@_kind
def _formats(folder: Path, draw: random.Random) -> Arguments:
    """Headers of other formats that claim any size."""
    n = draw.choice(("99999999", "2147483647", "-5", "0", "1e9", "x", "65000"))
    hdr = f"ENVI\nsamples = {n}\nlines = {draw.choice((n, '48'))}\nbands = {draw.choice(('3', n))}\nbyte order = 0\n"
    hdr += f"header offset = {draw.choice(('0', '-1', n))}\ndata type = {draw.choice(('1', '4', '12', '99'))}\n"
    hdr += f"interleave = {draw.choice(('bsq', 'bip', 'x'))}\nband names = {{{_text(draw)}, a, b}}\n"
    hdr += f"map info = {{UTM, {n}, nan, 1e308, 1, 0, 0, 99, North, {_text(draw)}}}\n"
    kind = draw.choice(("envi", "png", "pnm", "asc", "bmp", "ehdr", "gif", "jp2", "jpg"))
    name = {"envi": "h.dat", "ehdr": "h.bil"}.get(kind, f"h.{kind}")
    asc = f"ncols {n}\nnrows {n}\nxllcorner nan\nyllcorner 1e308\ncellsize 0\nnodata_value {_text(draw)}\n1 2 3\n"
    contents = {
        "envi": bytes(6912),
        "png": _png(draw.choice((50_000, 2**31 - 1, 30_000))),
        "pnm": f"P6 {n} {n} 255\n".encode() + bytes(99),
        "asc": asc.encode("utf-8", "replace"),
        "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        "ehdr": bytes(100),
        "gif": b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(9),
        "jpg": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + bytes(99),
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + bytes(40),
    }
    (folder / name).write_bytes(contents[kind])
    if kind == "envi":
        (folder / "h.hdr").write_text(hdr, errors="replace")
    if kind == "ehdr":
        (folder / "h.hdr").write_text(
            f"NROWS {n}\nNCOLS {n}\nNBANDS {n}\nNBITS {draw.choice(('8', '3', n))}\nLAYOUT BIL\nSKIPBYTES {n}\n"
        )
    return _pair(name, draw)


@_kind
def _options(folder: Path, draw: random.Random) -> Arguments:
    """Numbers and words on the command line that no option means."""
    number = draw.choice(NUMBERS)
    words = (
        *NUMBERS,
        *TERMINAL,
        "0:0",
        "nan:nan",
        "1e308:1e308",
        "s2,s2,s2",
        "auto,",
        ",",
        "1-3",
        "red,red,red",
        "999999999999",
    )
    numbers = ("threshold", "min-area", "tile", "overlap", "sieve", "simplify")
    texts = ("nodata", "values", "bands", "vector", "nodata-bands", "precision", "model", "method", "aoi", "cluster")
    option = draw.choice((*numbers, *texts, "progress", "device"))
    value = (number if option in numbers else draw.choice(words)).replace("\0", "")
    method = () if option in ("model", "method") else ("--method", draw.choice(METHODS))
    return ("map", "plain.tif", "after.tif", *method, f"--{option}={value}")


@_kind
def _outputs(folder: Path, draw: random.Random) -> Arguments:
    """Places that cannot be written to; the command has its own ``-o``."""
    (folder / "link").symlink_to("link")
    (folder / "file").write_text("x")
    out = draw.choice(
        (
            *(
                "/proc/x",
                "/dev/null/x",
                "file/x",
                "file",
                "link/x",
                "link",
                "plain.tif",
                ".",
                "..",
                "/",
                "a" * 300,
                "b/" * 3000 + "c",
            ),
            *(
                "product",
                "x!y/out",
                "x;y/out",
                "a\x1b[31mb",
                "\u202eout",
                "new/deep/er/out",
                "é😀",
                " ",
                "out\n",
                "?a=b#c",
                "%2e%2e/out",
            ),
        )
    )
    if draw.random() < 0.3:
        return ("area", "product", "--draw", "10", "-o", f"{out}{draw.choice(('.csv', '.gpkg', '.json', ''))}")
    return (
        "map",
        "plain.tif",
        "after.tif",
        "--method",
        "cva",
        "-o",
        out,
        *draw.choice(((), ("--qgis",), ("--vector", "gpkg,geojson,flatgeobuf"))),
    )
