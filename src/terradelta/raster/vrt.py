"""GDAL's virtual rasters: what one names is checked, and GDAL gets a copy that names nothing else.

A VRT is a text that may name any file, URL, or code to run, and GDAL follows it without asking. So the text is parsed
here, with nested VRTs. Only what a mosaic, a band stack or a warped view needs is let through; each file must be an
image in the folder of the outermost VRT, or below it, once links are resolved. The copy holds full paths, and nested
VRTs in place of their names. GDAL never sees the original, so it cannot read it in another way than this module does.
Overviews and masks beside the VRT itself are not used.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from terradelta.errors import RasterError
from terradelta.raster.access import check_beside, is_image, is_inside, is_utf8, vsi_name
from terradelta.raster.remote import RemoteFile, full_url, is_url, probe

__all__ = ["CheckedVrt", "check_vrt", "is_vrt"]

_MAX_BYTES = 64 * 2**20
_MAX_DEPTH = 8
_MAX_LEVELS = 32
_MAX_FILES = 100_000
_VSICURL = "/vsicurl/"

_FILES = {"sourcefilename", "sourcedataset"}
_ALLOWED = _FILES | {
    *("vrtdataset", "srs", "geotransform", "metadata", "mdi", "gcplist", "gcp", "overviewlist", "maskband"),
    *("vrtrasterband", "description", "unittype", "offset", "scale", "nodatavalue", "hidenodatavalue", "colorinterp"),
    *("colortable", "entry", "categorynames", "category", "histograms", "histitem", "histmin", "histmax"),
    *("bucketcount", "includeoutofrange", "approximate", "histcounts", "blockxsize", "blockysize", "overview"),
    *("simplesource", "complexsource", "averagedsource", "kernelfilteredsource", "sourceband", "sourceproperties"),
    *("srcrect", "dstrect", "nodata", "scaleoffset", "scaleratio", "srcmin", "srcmax", "dstmin", "dstmax", "exponent"),
    *("clamp", "lut", "usemaskband", "colortablecomponent", "kernel", "size", "coefs", "openoptions"),
    *("pixelfunctiontype", "pixelfunctionarguments", "pixelfunctionlanguage", "sourcetransfertype", "bufferradius"),
    *("skipnoncontributingsources", "gdalwarpoptions", "warpmemorylimit", "resamplealg", "workingdatatype", "option"),
    *("transformer", "approxtransformer", "maxerror", "basetransformer", "genimgprojtransformer", "srcgeotransform"),
    *("srcinvgeotransform", "dstgeotransform", "dstinvgeotransform", "reprojecttransformer", "reprojectiontransformer"),
    *("sourcesrs", "targetsrs", "bandlist", "bandmapping", "srcnodatareal", "srcnodataimag", "dstnodatareal"),
    *("dstnodataimag", "srcalphaband", "dstalphaband", "cutline", "cutlineblenddist", "options", "suffix"),
    *("srcgcptransformer", "gcptransformer", "srctpstransformer", "tpstransformer", "order", "reversed"),
}
_ATTRIBUTES = {
    *("rasterxsize", "rasterysize", "subclass", "band", "datatype", "relativetovrt", "name", "key", "shared", "domain"),
    *("dataaxistosrsaxismapping", "coordinateepoch", "resampling", "xoff", "yoff", "xsize", "ysize", "blockxsize"),
    *("blockysize", "format", "c1", "c2", "c3", "c4", "id", "info", "pixel", "line", "x", "y", "z", "projection"),
    *("normalized", "src", "dst", "nodata", "scale", "k", "default", "min", "max", "buffer_radius"),
}
_SUBCLASSES = {"", "vrtwarpeddataset", "vrtwarpedrasterband", "vrtderivedrasterband", "vrtsourcedrasterband"}


@dataclass
class CheckedVrt:
    """A VRT that names nothing but checked images."""

    xml: str = ""
    """What to open in its place."""
    files: dict[str, None] = field(default_factory=dict)
    """Real paths of the VRT, the VRTs in it, and the images, in order."""
    remotes: dict[str, RemoteFile] = field(default_factory=dict)
    """Images behind URLs."""


def is_vrt(path: str) -> bool:
    """Whether a file starts like a VRT.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, "rb") as stream:
        head = stream.read(1024)
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and b"<vrtdataset" in head.lower()


def check_vrt(path: str, allow_outside: bool) -> CheckedVrt:
    """Check a VRT and everything that it names.

    Args:
        path: real path of the VRT.
        allow_outside: whether it may name files outside its folder, and URLs.

    Raises:
        RasterError: if it is damaged, names something that is not allowed or is no image, or holds what is not
            supported; the message names both files.
    """
    check = _Check(os.path.dirname(path), allow_outside)
    check.found.xml = check.file(path, ())
    return check.found


class _Check:
    def __init__(self, folder: str, allow_outside: bool) -> None:
        self.folder = folder
        self.allow_outside = allow_outside
        self.found = CheckedVrt()
        self._count = 0

    def file(self, path: str, above: tuple[str, ...]) -> str:
        """The checked text of a VRT file."""
        if path in above:
            raise RasterError(f"{above[0]} names itself as its source, by way of {path}; make it again")
        try:
            if os.path.getsize(path) > _MAX_BYTES:
                raise RasterError(f"{path} is larger than {_MAX_BYTES // 2**20} MiB; make a GeoTIFF of it first")
            content = Path(path).read_bytes()
        except OSError as error:
            raise RasterError(f"{path} cannot be read ({error.strerror})") from error
        self.found.files[path] = None
        return self.text(content, (*above, path))

    def text(self, content: bytes | str, above: tuple[str, ...]) -> str:
        """The checked text of a VRT's XML."""
        path = above[-1]
        if len(above) > _MAX_DEPTH:
            raise RasterError(f"{above[0]} nests VRTs more than {_MAX_DEPTH} deep; make a GeoTIFF of the inner ones")
        root = _parsed(content, path)
        if _depth(root) > _MAX_LEVELS:
            raise RasterError(f"{path} nests XML elements more than {_MAX_LEVELS} deep; make it again")
        if root.tag.lower() != "vrtdataset":
            raise RasterError(f"{path} cannot be opened as a VRT: it starts with <{root.tag:.40}>")
        for element in root.iter():
            _check_element(element, path)
        _drop_metadata(root)
        for element in root.iter():
            if element.tag.lower() in _FILES:
                self._resolve(element, above)
        return ElementTree.tostring(root, encoding="unicode")

    def _resolve(self, element: ElementTree.Element, above: tuple[str, ...]) -> None:
        """Replace what an element names by its full path, or by the checked text of a nested VRT."""
        self._count += 1
        named = (element.text or "").strip()
        if self._count > _MAX_FILES:
            raise RasterError(f"{above[0]} names more than {_MAX_FILES:,} files; make a GeoTIFF of it first")
        if named.startswith("<"):
            element.text = self.text(named, (*above, above[-1]))
        elif is_url(named.removeprefix(_VSICURL)):
            element.text = self._remote(full_url(named.removeprefix(_VSICURL)), above)
        else:
            element.text = self._local(named, _attribute(element, "relativetovrt") == "1", above)
        for name in [name for name in element.attrib if name.lower() == "relativetovrt"]:
            del element.attrib[name]
        element.set("relativeToVRT", "0")

    def _remote(self, url: str, above: tuple[str, ...]) -> str:
        if not self.allow_outside:
            raise RasterError(
                f"{above[-1]} names the URL {url:.200}; a file that was not given by URL may not lead to the network. "
                "If you trust it, add --allow-outside (Python: allow_outside=True)"
            )
        if url not in self.found.remotes:
            self.found.remotes[url] = probe(url)
        return vsi_name(url)

    def _local(self, named: str, relative: bool, above: tuple[str, ...]) -> str:
        vrt = above[-1]
        if not named or named.startswith("/vsi") or not is_utf8(named) or "\0" in named:
            raise RasterError(f"{vrt} names {named!r:.200}; a VRT may name image files only: unpack or copy them first")
        path = os.path.realpath(os.path.join(os.path.dirname(vrt), named) if relative else named)
        if not self.allow_outside and not is_inside(path, self.folder):
            raise RasterError(
                f"{vrt} names {path}, outside the folder {self.folder}; "
                "if you trust it, add --allow-outside (Python: allow_outside=True)"
            )
        if not os.path.isfile(path):
            raise RasterError(f"{vrt} names {path}, which does not exist; put it there, or make the VRT again")
        return self._known(path, above)

    def _known(self, path: str, above: tuple[str, ...]) -> str:
        try:
            if is_vrt(path):
                return self.file(path, above)
            if path not in self.found.files:
                if not is_image(path):
                    raise RasterError(
                        f"{above[-1]} names {path}, which is no image of a format that is read inside VRTs; "
                        "convert it to a GeoTIFF"
                    )
                check_beside(path, None if self.allow_outside else self.folder)
        except OSError as error:
            raise RasterError(f"{path}, named by {above[-1]}, cannot be read ({error.strerror})") from error
        self.found.files[path] = None
        return path


def _parsed(content: bytes | str, path: str) -> ElementTree.Element:
    marks = (b"<!doctype", b"<!entity") if isinstance(content, bytes) else ("<!doctype", "<!entity")
    try:
        if any(mark in content.lower() for mark in marks):  # type: ignore[operator]
            raise ValueError("it declares a document type")
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise RasterError(f"{path} cannot be opened as a VRT ({error}); make it again with gdalbuildvrt") from error


def _check_element(element: ElementTree.Element, path: str) -> None:
    tag = element.tag.lower() if isinstance(element.tag, str) else "?"
    odd = [name for name in element.attrib if name.lower() not in _ATTRIBUTES]
    subclass = _attribute(element, "subclass")
    if tag not in _ALLOWED or (tag in _FILES and len(element)) or (tag == "openoptions" and len(element)):
        problem = f"<{element.tag!s:.40}>"
    elif odd:
        problem = f"{odd[0]:.40}= in <{element.tag:.40}>"
    elif subclass not in _SUBCLASSES:
        problem = f'subClass="{subclass:.40}"'
    elif tag == "pixelfunctionlanguage" and (element.text or "").strip().lower() not in ("", "c"):
        problem = "a pixel function in Python, which would run code"
    else:
        return
    raise RasterError(
        f"{path} holds {problem}; of VRTs, mosaics, band stacks and warped views are read: "
        "make a GeoTIFF of it first with gdal_translate"
    )


def _depth(root: ElementTree.Element) -> int:
    """Levels of elements, at most one more than allowed; without recursion, as the file may be built to exhaust it."""
    depth, level = 0, [root]
    while level and depth <= _MAX_LEVELS:
        depth, level = depth + 1, [child for element in level for child in element]
    return depth


def _drop_metadata(root: ElementTree.Element) -> None:
    """Drop metadata of special domains: GDAL follows file names in some of them."""
    for parent in list(root.iter()):
        for element in list(parent):
            if element.tag.lower() == "metadata" and (_attribute(element, "domain") or element.get("format")):
                parent.remove(element)


def _attribute(element: ElementTree.Element, name: str) -> str:
    return next((value.strip().lower() for key, value in element.attrib.items() if key.lower() == name), "")
