"""VRTs are read without following them: folders, links, nesting, code, the network."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.vrt import WarpedVRT

from terradelta.errors import RasterError
from terradelta.raster.pair import Reading, open_pair
from terradelta.raster.source import read_source
from terradelta.raster.vrt import check_vrt

HEAD = (
    '<VRTDataset rasterXSize="50" rasterYSize="40"><SRS>EPSG:32614</SRS>'
    "<GeoTransform>500000,5,0,5200000,0,-5</GeoTransform>"
)
VALUES = np.random.default_rng(0).integers(1, 255, (2, 40, 50)).astype("uint8")


def image(path: Path, values: np.ndarray = VALUES) -> Path:
    count, height, width = values.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
    place = Affine(5, 0, 500000, 0, -5, 5200000)
    with rasterio.open(path, "w", crs="EPSG:32614", transform=place, **profile) as file:
        file.write(values)
    return path


def band(source: object, number: int = 1, relative: int = 1, kind: str = "SimpleSource") -> str:
    return (
        f'<VRTRasterBand dataType="Byte"><{kind}><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        f"<SourceBand>{number}</SourceBand></{kind}></VRTRasterBand>"
    )


def vrt(path: Path, *bands: str, head: str = HEAD) -> Path:
    path.write_text(head + "".join(bands) + "</VRTDataset>")
    return path


def values_of(path: Path, **options: bool) -> np.ndarray:
    with open_pair(path, path, reading=Reading(**options)) as pair:
        return pair.read(pair.grid.tile).before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``tmp_path / "in"`` with a.tif in it, and secret.tif outside."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    image(tmp_path / "secret.tif")
    image(tmp_path / "in" / "a.tif")
    return tmp_path / "in"


def test_a_stack_is_read_as_gdal_reads_it(folder):
    path = vrt(folder / "x.vrt", band("a.tif", 2), band(folder / "a.tif", 1, relative=0))
    with rasterio.open(path) as file:
        expected = file.read()
    np.testing.assert_array_equal(values_of(path), expected)
    np.testing.assert_array_equal(expected, VALUES[::-1])
    source = read_source(path)
    assert (source.driver, source.path) == ("VRT", str(path))
    assert source.files == (str(path), str(folder / "a.tif"))


def test_a_mosaic_and_a_warped_view_of_gdals_own_making(folder):
    image(folder / "deep" / "b.tif", VALUES[:, ::-1])
    mosaic = vrt(
        folder / "m.vrt",
        '<VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue><ColorInterp>Gray</ColorInterp>'
        '<ComplexSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand>'
        '<SrcRect xOff="0" yOff="0" xSize="50" ySize="20"/><DstRect xOff="0" yOff="0" xSize="50" ySize="20"/>'
        "<NODATA>0</NODATA></ComplexSource>"
        '<SimpleSource><SourceFilename relativeToVRT="1">deep/b.tif</SourceFilename><SourceBand>1</SourceBand>'
        '<SrcRect xOff="0" yOff="20" xSize="50" ySize="20"/><DstRect xOff="0" yOff="20" xSize="50" ySize="20"/>'
        "</SimpleSource></VRTRasterBand>",
    )
    np.testing.assert_array_equal(values_of(mosaic)[0], np.concatenate([VALUES[0, :20], VALUES[0, ::-1][20:]]))
    warped = folder / "w.vrt"
    with rasterio.open(folder / "a.tif") as file, WarpedVRT(file, crs="EPSG:32613") as view:
        expected = view.read()
        rasterio.shutil.copy(view, warped, driver="VRT")
    np.testing.assert_array_equal(values_of(warped), expected)


def test_nested_vrts_are_checked_and_read(folder):
    vrt(folder / "deep" / "inner.vrt", band("../a.tif", 2))
    outer = vrt(folder / "outer.vrt", band("deep/inner.vrt"))
    np.testing.assert_array_equal(values_of(outer)[0], VALUES[1])
    assert [Path(file).name for file in read_source(outer).files] == ["outer.vrt", "inner.vrt", "a.tif"]
    vrt(folder / "deep" / "inner.vrt", band("../../secret.tif"))
    with pytest.raises(RasterError, match=r"inner\.vrt names .*secret\.tif, outside the folder .*in; if you trust it"):
        read_source(outer)
    np.testing.assert_array_equal(values_of(outer, allow_outside=True)[0], VALUES[0])


def test_the_inner_vrt_may_be_text(folder):
    inner = (HEAD + band("a.tif", 2) + "</VRTDataset>").replace("<", "&lt;")
    np.testing.assert_array_equal(values_of(vrt(folder / "x.vrt", band(inner)))[0], VALUES[1])
    inner = (HEAD + band("../secret.tif") + "</VRTDataset>").replace("<", "&lt;")
    with pytest.raises(RasterError, match="outside the folder"):
        read_source(vrt(folder / "x.vrt", band(inner)))


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        ("../secret.tif", 1),
        ("deep/../../secret.tif", 1),
        ("{outside}/secret.tif", 0),
        ("link.tif", 1),
        ("ln/secret.tif", 1),
    ],
)
def test_files_outside_the_folder_are_refused_unless_allowed(folder, name, relative):
    (folder / "link.tif").symlink_to(folder.parent / "secret.tif")
    (folder / "ln").symlink_to(folder.parent)
    path = vrt(folder / "x.vrt", band(name.format(outside=folder.parent), relative=relative))
    with pytest.raises(RasterError, match=r"secret\.tif, outside the folder .*add --allow-outside \(Python:"):
        read_source(path)
    np.testing.assert_array_equal(values_of(path, allow_outside=True)[0], VALUES[0])


def test_gdal_reads_the_checked_copy_only(folder):
    """GDAL takes attributes for elements and ignores case; what it makes of the original must not matter."""
    tricks = [
        f'<VRTRasterBand dataType="Byte"><SimpleSource SourceFilename="{folder.parent}/secret.tif"/></VRTRasterBand>',
        '<VRTRasterBand dataType="Byte"><simplesource><SOURCEFILENAME relativeToVRT="1">../secret.tif'
        "</SOURCEFILENAME></simplesource></VRTRasterBand>",
        band("../secret.tif<!-- -->/../../in/a.tif"),
        f"<MaskBand>{band('../secret.tif')}</MaskBand>",
        '<VRTRasterBand dataType="Byte"><Overview><SourceFilename relativeToVRT="1">../secret.tif</SourceFilename>'
        "</Overview></VRTRasterBand>",
    ]
    for trick in tricks:
        with pytest.raises(RasterError, match=r"x\.vrt (holds|names) "):
            read_source(vrt(folder / "x.vrt", trick))
    checked = check_vrt(str(vrt(folder / "x.vrt", band("a.tif<!-- -->"))), allow_outside=False)
    assert f'relativeToVRT="0">{folder / "a.tif"}</SourceFilename>' in checked.xml


def test_metadata_that_gdal_follows_is_left_out(folder):
    domain = '<Metadata domain="GEOLOCATION"><MDI key="X_DATASET">/etc/passwd</MDI></Metadata>'
    checked = check_vrt(str(vrt(folder / "x.vrt", domain, band("a.tif"))), allow_outside=False)
    assert "passwd" not in checked.xml
    assert "a.tif" in checked.xml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<VRTRasterBand subClass="VRTRawRasterBand" dataType="Byte"/>', 'holds subClass="vrtrawrasterband"'),
        ("<PansharpeningOptions/>", "holds <PansharpeningOptions>.*make a GeoTIFF of it first with gdal_translate"),
        ("<Metadata><Secret/></Metadata>", "holds <Secret>"),
        ('<Metadata odd="1"/>', "holds odd= in <Metadata>"),
        ("<PixelFunctionLanguage>Python</PixelFunctionLanguage>", "a pixel function in Python, which would run code"),
        ("<PixelFunctionCode>import os</PixelFunctionCode>", "holds <PixelFunctionCode>"),
        ("<RPCTransformer><DEMPath>/x</DEMPath></RPCTransformer>", "holds <RPCTransformer>"),
        (band("none.tif"), "names .*none.tif, which does not exist"),
        (band(""), "names ''; a VRT may name image files only"),
        (band("/vsizip/a.zip/x.tif"), "names '/vsizip/a.zip/x.tif'; a VRT may name image files only"),
        (band("text.txt"), "text.txt, which is no image of a format that is read inside VRTs"),
        (band("map.xml"), "map.xml, which is no image"),
        (band("x.vrt"), "names itself as its source"),
        ("<Metadata>" * 40 + "</Metadata>" * 40, "nests XML elements more than 32 deep"),
        ("<SRS>&x;</SRS>", "cannot be opened as a VRT"),
        ("</VRTDataset><x>", "cannot be opened as a VRT"),
    ],
)
def test_what_is_not_read(folder, text, words):
    (folder / "text.txt").write_text("hello")
    (folder / "map.xml").write_text("<GDAL_WMS></GDAL_WMS>")
    with pytest.raises(RasterError, match=words):
        read_source(vrt(folder / "x.vrt", text))


def test_entities_are_not_expanded(folder):
    lol = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + HEAD
    path = vrt(folder / "x.vrt", "<SRS>&b;</SRS>", head=lol)
    with pytest.raises(RasterError, match=r"x\.vrt"):
        read_source(path)


def test_vrts_that_multiply_are_refused(folder, monkeypatch):
    monkeypatch.setattr("terradelta.raster.vrt._MAX_FILES", 200)
    vrt(folder / "0.vrt", *[band("a.tif")] * 8)
    for level in (1, 2, 3):
        vrt(folder / f"{level}.vrt", *[band(f"{level - 1}.vrt")] * 8)
    with pytest.raises(RasterError, match=r"3\.vrt names more than 200 files"):
        read_source(folder / "3.vrt")


def test_deep_nesting_is_refused(folder):
    vrt(folder / "0.vrt", band("a.tif"))
    for level in range(1, 10):
        vrt(folder / f"{level}.vrt", band(f"{level - 1}.vrt"))
    with pytest.raises(RasterError, match=r"9\.vrt nests VRTs more than 8 deep"):
        read_source(folder / "9.vrt")


def test_a_huge_vrt_is_refused(folder):
    path = vrt(folder / "x.vrt", band("a.tif"))
    os.truncate(path, 65 * 2**20)
    with pytest.raises(RasterError, match="larger than 64 MiB"):
        read_source(path)


def test_a_link_to_a_vrt_counts_from_where_it_is(folder):
    real = vrt(folder / "deep" / "x.vrt", band("../a.tif"))
    with pytest.raises(RasterError, match="outside the folder"):
        read_source(real)
    (folder / "link.vrt").symlink_to(real)
    with pytest.raises(RasterError, match="outside the folder"):
        read_source(folder / "link.vrt")


SEGMENT = st.sampled_from(
    ["..", ".", "deep", "in", "a.tif", "secret.tif", "ln", "link.tif", "", "//", "inner.vrt", "x"]
)


@settings(max_examples=150)
@given(segments=st.lists(SEGMENT, min_size=1, max_size=7), relative=st.booleans(), absolute=st.booleans())
def test_whatever_a_vrt_names_lies_in_its_folder(tmp_path_factory, segments, relative, absolute):
    root = tmp_path_factory.getbasetemp() / "anywhere"
    folder = root / "in"
    if not root.exists():
        (folder / "deep").mkdir(parents=True)
        image(root / "secret.tif")
        image(folder / "a.tif")
        (folder / "link.tif").symlink_to(root / "secret.tif")
        (folder / "ln").symlink_to(root)
        vrt(folder / "deep" / "inner.vrt", band("../a.tif"))
    name = "/".join(segments)
    path = vrt(folder / "x.vrt", band(f"{folder}/{name}" if absolute else name, relative=int(relative)))
    try:
        found = check_vrt(os.path.realpath(path), allow_outside=False)
    except RasterError:
        return
    assert found.files
    assert all(Path(file) == Path(os.path.realpath(file)) for file in found.files)
    assert all(Path(file).is_relative_to(os.path.realpath(folder)) for file in found.files)
    assert "secret" not in found.xml
