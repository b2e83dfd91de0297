"""A QGIS project of a change map: both images and the products, styled, in a group, with relative paths.

It holds what QGIS 3.22 and later need to draw the layers, no more; QGIS completes it when it is saved. The format is
that of ``QgsProject::write`` (https://github.com/qgis/QGIS, ``src/core/project/qgsproject.cpp``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from rasterio.crs import CRS
from rasterio.transform import array_bounds

from terradelta.geo.grid import Grid
from terradelta.products.evidence_style import CHANGE_PIPE, POLYGON_RENDERER, PROBABILITY_PIPE
from terradelta.products.gpkg import LAYER
from terradelta.strangers import printable

__all__ = ["PROJECT", "ProjectImage", "qgis_project"]

PROJECT = "change.qgs"
_NAMES = {"polygons": "change.gpkg", "change": "change.tif", "probability": "probability.tif"}


@dataclass(frozen=True)
class ProjectImage:
    """One date, as QGIS is to show it."""

    title: str
    source: str
    """What GDAL opens: a path relative to the project's folder, or a name such as ``/vsicurl/https://...``."""
    crs: CRS | None
    bands: tuple[int, ...]
    """Numbers of the bands for red, green and blue; or of one, for grey."""
    limits: tuple[tuple[float, float], ...] | None
    """Stored values of each band that become black and white; None: values of 8 bits as they are."""


def qgis_project(title: str, images: Sequence[ProjectImage], grid: Grid) -> str:
    """The XML of ``change.qgs``, to lie beside the products.

    Args:
        title: of the project and of the group of layers.
        images: the dates, the later one first; drawn below the products.
        grid: of the products.
    """
    crs = _srs(grid.crs)
    layers = [
        _vector("polygons", "Changes", crs),
        _raster("change", "Changed pixels", _NAMES["change"], crs, CHANGE_PIPE),
        _raster("probability", "Probability of change", _NAMES["probability"], crs, PROBABILITY_PIPE),
        *(_raster(f"image{i}", each.title, each.source, _srs(each.crs), _pipe(each)) for i, each in enumerate(images)),
    ]
    west, south, east, north = array_bounds(grid.height, grid.width, grid.transform)
    extent = "".join(f"<{k}>{v!r}</{k}>" for k, v in (("xmin", west), ("ymin", south), ("xmax", east), ("ymax", north)))
    tree = "".join(layer.node for layer in layers)
    return f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" projectname={_attribute(title)}>
  <title>{escape(printable(title))}</title>
  <projectCrs>{crs}</projectCrs>
  <layer-tree-group>
    <layer-tree-group name={_attribute(title)} checked="Qt::Checked" expanded="1">{tree}</layer-tree-group>
  </layer-tree-group>
  <mapcanvas name="theMapCanvas">
    <units>{_units(grid.crs)}</units>
    <extent>{extent}</extent>
    <rotation>0</rotation>
    <destinationsrs>{crs}</destinationsrs>
  </mapcanvas>
  <projectlayers>
{"".join(layer.xml for layer in layers)}  </projectlayers>
  <properties>
    <Paths><Absolute type="bool">false</Absolute></Paths>
    <SpatialRefSys><ProjectionsEnabled type="int">{int(grid.crs is not None)}</ProjectionsEnabled></SpatialRefSys>
  </properties>
</qgis>
"""


@dataclass(frozen=True)
class _Layer:
    node: str
    xml: str


def _vector(name: str, title: str, srs: str) -> _Layer:
    source = f"./{_NAMES[name]}|layername={LAYER}"
    head = f'<maplayer type="vector" geometry="Polygon" {_ALWAYS}>'
    return _layer(name, title, source, srs, ("ogr", head, POLYGON_RENDERER, True))


def _raster(name: str, title: str, source: str, srs: str, pipe: str) -> _Layer:
    shown = name.startswith("image")  # the polygons, whose fill is faint, say the same as the other rasters
    place = source if source.startswith(("/", "..")) or ":" in source else f"./{source}"
    return _layer(name, title, place, srs, ("gdal", f'<maplayer type="raster" {_ALWAYS}>', pipe, shown))


_ALWAYS = 'autoRefreshEnabled="0" hasScaleBasedVisibilityFlag="0"'


def _layer(name: str, title: str, source: str, srs: str, kind: tuple[str, str, str, bool]) -> _Layer:
    provider, head, drawn, shown = kind
    key = f"terradelta_{name}"
    place = "".join(_reference(letter) for letter in source)
    node = (
        f'<layer-tree-layer id="{key}" name={_attribute(title)} source="{place}" providerKey="{provider}" '
        f'checked="Qt::{"Checked" if shown else "Unchecked"}" expanded="{int(shown)}"/>'
    )
    xml = f"""    {head}
      <id>{key}</id>
      <datasource>{place}</datasource>
      <layername>{escape(printable(title))}</layername>
      <provider encoding="UTF-8">{provider}</provider>
      <srs>{srs}</srs>
      {drawn}
    </maplayer>
"""
    return _Layer(node, xml)


def _attribute(text: str) -> str:
    return quoteattr(printable(text))


def _reference(letter: str) -> str:
    """A letter of a path: what is not printable by its number where XML allows that, so that QGIS opens that very file.

    XML has no way to say a control character below the space; QGIS will say that there is no such file.
    """
    if letter in '\t\n\r"' or (letter >= " " and not "\ud800" <= letter <= "\udfff" and printable(letter) != letter):
        return f"&#{ord(letter)};"
    return escape(printable(letter))


def _srs(crs: CRS | None) -> str:
    """A CRS by its text; nothing for pixels without a place."""
    if crs is None:
        return '<spatialrefsys nativeFormat="Wkt"><wkt></wkt></spatialrefsys>'
    code = crs.to_authority()
    authid = "" if code is None else f"<authid>{escape(printable(':'.join(code)))}</authid>"
    return f'<spatialrefsys nativeFormat="Wkt"><wkt>{escape(printable(crs.to_wkt()))}</wkt>{authid}</spatialrefsys>'


def _units(crs: CRS | None) -> str:
    return "unknown" if crs is None else "degrees" if crs.is_geographic else "meters"


def _pipe(image: ProjectImage) -> str:
    """How an image is drawn: in colour if it has three bands."""
    limits = image.limits or ((0.0, 255.0),) * len(image.bands)
    algorithm = "NoEnhancement" if image.limits is None else "StretchToMinimumMaximum"

    def enhanced(name: str, ends: tuple[float, float]) -> str:
        low, high = ends
        values = f"<minValue>{low!r}</minValue><maxValue>{high!r}</maxValue><algorithm>{algorithm}</algorithm>"
        return f"<{name}>{values}</{name}>"

    if len(image.bands) == 3:
        red, green, blue = image.bands
        inside = "".join(
            enhanced(f"{colour}ContrastEnhancement", ends)
            for colour, ends in zip(("red", "green", "blue"), limits, strict=True)
        )
        head = f'type="multibandcolor" redBand="{red}" greenBand="{green}" blueBand="{blue}"'
    else:
        head = f'type="singlebandgray" grayBand="{image.bands[0]}" gradient="BlackToWhite"'
        inside = enhanced("contrastEnhancement", limits[0])
    return f'<pipe><rasterrenderer {head} opacity="1" alphaBand="-1">{inside}</rasterrenderer></pipe>'
