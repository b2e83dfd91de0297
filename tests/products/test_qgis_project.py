"""The XML of a QGIS project; that QGIS draws it is in tests/integrations."""

from xml.etree import ElementTree

import pytest
from affine import Affine
from rasterio.crs import CRS

from terradelta.geo.grid import Grid
from terradelta.products.qgis_project import ProjectImage, qgis_project
from terradelta.strangers import printable

UTM = CRS.from_epsg(32614)
GRID = Grid(UTM, Affine(0.5, 0, 600000, 0, -0.5, 3400000), (100, 200))


def image(title: str = "After", source: str = "../after.tif", **options: object) -> ProjectImage:
    return ProjectImage(**{"title": title, "source": source, "crs": UTM, "bands": (3, 2, 1), "limits": None} | options)  # type: ignore[arg-type]


def test_layers_lie_in_one_group_in_drawing_order_by_relative_paths() -> None:
    tree = ElementTree.fromstring(qgis_project("Change in out", [image(), image("Before", "../before.tif")], GRID))
    (group,) = tree.findall("layer-tree-group/layer-tree-group")
    assert group.get("name") == "Change in out"
    nodes = group.findall("layer-tree-layer")
    assert [node.get("source") for node in nodes] == [
        *("./change.gpkg|layername=change", "./change.tif", "./probability.tif", "../after.tif", "../before.tif")
    ]
    layers = tree.findall("projectlayers/maplayer")
    assert [layer.findtext("datasource") for layer in layers] == [node.get("source") for node in nodes]
    assert [layer.findtext("id") for layer in layers] == [node.get("id") for node in nodes]
    assert tree.findtext("properties/Paths/Absolute") == "false"
    assert {layer.findtext("srs/spatialrefsys/authid") for layer in layers} == {"EPSG:32614"}
    extent = tree.find("mapcanvas/extent")
    assert extent is not None
    assert [float(each.text or "") for each in extent] == [600000, 3399950, 600100, 3400000]
    renderer = layers[3].find("pipe/rasterrenderer")
    assert renderer is not None
    assert [renderer.get(f"{colour}Band") for colour in ("red", "green", "blue")] == ["3", "2", "1"]
    assert {each.text for each in renderer.iter("algorithm")} == {"NoEnhancement"}


def test_grey_images_of_many_bits_are_stretched() -> None:
    tree = ElementTree.fromstring(qgis_project("x", [image(bands=(4,), limits=((120.0, 2900.5),))], GRID))
    (renderer,) = tree.iterfind("projectlayers/maplayer/pipe/rasterrenderer[@type='singlebandgray']")
    assert renderer.get("grayBand") == "4"
    assert renderer.findtext("contrastEnhancement/minValue") == "120.0"
    assert renderer.findtext("contrastEnhancement/maxValue") == "2900.5"
    assert renderer.findtext("contrastEnhancement/algorithm") == "StretchToMinimumMaximum"


@pytest.mark.parametrize("name", ["a<b>&\"c'.tif", "]]>", "ä 日本"])
def test_names_are_no_markup(name: str) -> None:
    tree = ElementTree.fromstring(qgis_project(name, [image(name, f"../{name}")], GRID))
    assert tree.findtext("title") == tree.get("projectname") == name
    assert tree.findall("projectlayers/maplayer")[-1].findtext("datasource") == f"../{name}"


@pytest.mark.parametrize("name", ["\x7f\x9b31m.tif", "\u202efit\ufeff.tif", "a\tb\r\n.tif"])
def test_odd_names_lead_to_their_file_but_are_shown_as_escapes(name: str) -> None:
    text = qgis_project(name, [image(name, f"../{name}")], GRID)
    assert printable(text) == text
    (*_, layer) = ElementTree.fromstring(text).findall("projectlayers/maplayer")
    assert layer.findtext("datasource") == f"../{name}"
    assert layer.findtext("layername") == printable(name)


def test_a_name_that_xml_cannot_say_keeps_the_project_whole() -> None:
    text = qgis_project("a\x1b.tif", [image("a\x1b.tif", "../a\x1b\udc80.tif")], GRID)
    tree = ElementTree.fromstring(text)
    assert tree.findall("projectlayers/maplayer")[-1].findtext("datasource") == "../a\\x1b\\udc80.tif"


def test_without_a_place_there_is_no_crs() -> None:
    grid = Grid(None, Affine(1, 0, 0, 0, -1, 0), (100, 200))
    tree = ElementTree.fromstring(qgis_project("x", [image(crs=None)], grid))
    assert {each.text for each in tree.iter("wkt")} == {None}
    assert tree.findtext("mapcanvas/units") == "unknown"
    assert tree.findtext("properties/SpatialRefSys/ProjectionsEnabled") == "0"
