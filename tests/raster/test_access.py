"""Nothing reaches the network, or leads to other files, unless it was asked for."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
import skimage.io
from affine import Affine
from rasterio.io import DatasetReader

from terradelta.errors import RasterError
from terradelta.geo.grid import Grid
from terradelta.products.gpkg import GpkgWriter
from terradelta.products.polygons import ChangePolygon
from terradelta.raster import access
from terradelta.raster.access import check_beside, open_image, vector_name
from terradelta.raster.pair import open_pair
from terradelta.raster.source import read_source

from .test_vrt import band, image, vrt

PREFIXES = ("", "/vsicurl/", "/vsicurl_streaming/", "/vsicurl?url=", "/vsis3/", "/vsigs/", "/vsigzip//vsicurl/")

WMS = (
    '<GDAL_WMS><Service name="TMS"><ServerUrl>{}/${{z}}</ServerUrl></Service><DataWindow><UpperLeftX>-1</UpperLeftX>'
    "<UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX><LowerRightY>-1</LowerRightY><TileLevel>2</TileLevel>"
    "<TileCountX>1</TileCountX><TileCountY>1</TileCountY></DataWindow><Projection>EPSG:3857</Projection>"
    "<BlockSizeX>8</BlockSizeX><BlockSizeY>8</BlockSizeY><BandsCount>1</BandsCount></GDAL_WMS>"
)
STACIT = '{{"type": "FeatureCollection", "features": [], "links": [{{"rel": "next", "href": "{}"}}]}}'


@pytest.fixture(autouse=True)
def cloud(monkeypatch, tripwire):
    """All clouds are on the tripwire."""
    host = tripwire.root.removeprefix("http://")
    for key, value in {
        "AWS_S3_ENDPOINT": host,
        "AWS_HTTPS": "NO",
        "AWS_NO_SIGN_REQUEST": "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "CPL_GS_ENDPOINT": tripwire.root,
        "GS_NO_SIGN_REQUEST": "YES",
    }.items():
        monkeypatch.setenv(key, value)


def test_the_tripwire_can_fail(tripwire, tmp_path):
    """Plain GDAL does follow such files."""
    path = vrt(tmp_path / "x.vrt", band(tripwire.url("x.tif")))
    with pytest.raises(rasterio.errors.RasterioIOError), rasterio.open(path) as file:
        file.read()
    assert tripwire.requests
    tripwire.requests.clear()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_no_vrt_leads_to_the_network(tripwire, tmp_path, prefix):
    path = vrt(tmp_path / "x.vrt", band(prefix + tripwire.url("x.tif")))
    with pytest.raises(RasterError, match=r"x\.vrt names"):
        read_source(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.xml", WMS), ("x.tif", WMS), ("x.json", STACIT), ("x.wmts", "<Capabilities><a>{}</a></Capabilities>")],
)
def test_no_format_leads_to_the_network(tripwire, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text.format(tripwire.root))
    with pytest.raises(RasterError, match=name):
        read_source(path)


def test_gdal_itself_is_sealed(tripwire, tmp_path):
    """The second fence: were a description let through, GDAL would still find no way out."""
    for number, prefix in enumerate(PREFIXES):
        path = vrt(tmp_path / f"{number}.vrt", band(prefix + tripwire.url("x.tif")))
        with rasterio.Env(**access.SEALED), pytest.raises(access.GDAL_ERRORS), open_image(str(path), ("VRT",)) as file:
            file.read()
    path = tmp_path / "x.xml"
    path.write_text(WMS.format(tripwire.root))
    with rasterio.Env(**access.SEALED), pytest.raises(access.GDAL_ERRORS), open_image(str(path), ("WMS",)) as file:
        file.read()


def test_an_image_in_another_wrapping_is_no_vrt(tmp_path):
    """A raw image with a header beside it that is a VRT at the same time."""
    raw = tmp_path / "x"
    raw.write_bytes(b"BM" + vrt(tmp_path / "v.vrt", band("/etc/passwd", relative=0)).read_bytes())
    (tmp_path / "x.hdr").write_text("ENVI\nsamples = 8\nlines = 8\nbands = 1\ndata type = 1\n")
    with pytest.raises(RasterError, match="describes data that lie elsewhere; give the image itself"):
        read_source(raw)


@pytest.mark.parametrize("suffix", [".ovr", ".msk"])
def test_what_lies_beside_an_image_must_be_an_image_in_its_folder(tmp_path, suffix):
    (tmp_path / "in").mkdir()
    path, secret = image(tmp_path / "in" / "a.tif"), image(tmp_path / "secret.tif")
    beside = Path(f"{path}{suffix}")
    beside.write_text("<VRTDataset/>")
    with pytest.raises(RasterError, match="is no TIFF, but GDAL would take it for part of the image; remove it"):
        read_source(path)
    beside.unlink()
    beside.symlink_to(secret)
    with pytest.raises(RasterError, match=r"leads to .*secret\.tif, outside the folder of the image"):
        read_source(path)
    check_beside(str(path), None)
    beside.unlink()
    beside.symlink_to(tmp_path / "in" / "nothing")
    with pytest.raises(RasterError, match="is no TIFF"):
        read_source(path)


def test_an_overview_named_by_a_text_beside_is_refused(tmp_path, tripwire):
    path = image(tmp_path / "a.tif")
    text = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/{}</MDI></Metadata></PAMDataset>'
    Path(f"{path}.aux.xml").write_text(text.format(tripwire.url("x.ovr")))
    with pytest.raises(RasterError, match=r"aux\.xml names another file as overviews of the image; remove it"):
        read_source(path)


def test_an_overview_named_inside_a_tiff_is_not_fetched(tmp_path, tripwire):
    path = image(tmp_path / "a.tif", np.full((1, 3000, 3000), 7, "uint8"))
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/vsicurl/" + tripwire.url("x.ovr"))
    with open_pair(path, path) as pair:
        assert pair.preview.valid.all()


def test_overviews_and_masks_beside_are_used(tmp_path):
    path = image(tmp_path / "a.tif", np.full((1, 3000, 3000), 7, "uint8"))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    assert Path(f"{path}.ovr").is_file()
    with open_pair(path, path) as pair:
        assert (pair.preview.before[pair.preview.valid[None]] == 7).all()


def test_the_environment_may_set_other_waits(monkeypatch):
    assert access.settings(remote=True)["GDAL_HTTP_TIMEOUT"] == "120"
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "7")
    assert "GDAL_HTTP_TIMEOUT" not in access.settings(remote=True)
    monkeypatch.setenv("CPL_VSIL_CURL_ALLOWED_FILENAME", "/vsicurl/x")
    assert access.settings(remote=False)["CPL_VSIL_CURL_ALLOWED_FILENAME"] == "nothing"


def test_unreadable_files(tmp_path):
    path = image(tmp_path / "a.tif")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read anything")
    with pytest.raises(RasterError, match="cannot be read"):
        read_source(path)


@pytest.mark.parametrize("folder", ["a!b", "a;b", "plain", "a.zip!c"])
def test_vector_files_in_folders_that_look_like_archives(tmp_path, folder):
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "x.gpkg"
    grid = Grid(None, Affine.identity(), (5, 5))
    polygon = ChangePolygon(shapely.box(0, 0, 2, 2), 4.0, 8.0, 0.5, 0.9, 4, "px")
    with GpkgWriter(path, grid) as writer:
        writer.add([polygon])
    assert [each.name for each in (tmp_path / folder).iterdir()] == ["x.gpkg"]
    with vector_name(path) as name:
        shapes = pyogrio.raw.read(name, layer="change")[2]
    assert shapely.from_wkb(shapes)[0].equals(polygon.geometry)
    with pytest.raises(RasterError, match=r"may hold neither '!' nor ';'; rename it"), vector_name("a!b.gpkg"):
        pass


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_files_that_may_never_end_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.geojson"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(RasterError, match=r"a\.geojson is no ordinary file"), vector_name(path):
        pass
    with pytest.raises(RasterError, match=r"a\.geojson is no ordinary file"):
        open_image(str(path), ("GTiff",))


def test_images_without_a_place_are_opened_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a thread that has opened its image would end the silence of one that is about to."""
    inside = threading.Semaphore(1)

    def opened(name: str, **options: Any) -> DatasetReader:
        assert inside.acquire(blocking=False), "two at once"
        time.sleep(0.02)
        try:
            return DatasetReader(name, **options)
        finally:
            inside.release()

    monkeypatch.setattr(access, "DatasetReader", opened)
    plain = tmp_path / "plain.png"
    skimage.io.imsave(plain, np.zeros((4, 4), np.uint8), check_contrast=False)
    with ThreadPoolExecutor(4) as threads:
        for dataset in threads.map(lambda _: open_image(str(plain), ("PNG",)), range(8)):
            dataset.close()
