"""An input is another one as soon as GDAL would read something else."""

import os

import numpy as np
import pytest
import rasterio
from affine import Affine

from terradelta.errors import RasterError
from terradelta.raster.access import beside
from terradelta.raster.identity import file_stamp, input_stamp
from terradelta.raster.remote import probe
from terradelta.raster.source import read_source


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=20,
        width=30,
        dtype="uint8",
        crs="EPSG:32614",
        transform=Affine.scale(5),
    ) as file:
        file.write(np.arange(600, dtype="uint8").reshape(1, 20, 30))
    return path


@pytest.mark.parametrize(
    "name",
    ["a.tif.aux.xml", "a.tif.msk", "a.tif.ovr", "a.tfw", "a.TFW", "a.tifw", "a.wld", "a.aux", "a_RPC.TXT", "a.prj"],
)
def test_a_file_that_appears_beside_the_image(image, name):
    source = read_source(image)
    stamp = input_stamp(source)
    assert input_stamp(source) == stamp
    image.with_name("b.tif.aux.xml").write_text("another image's")
    image.with_name("a.png").write_text("another image")
    assert input_stamp(source) == stamp
    image.with_name(name).write_text("<PAMDataset><SRS>LOCAL_CS[]</SRS></PAMDataset>")
    assert input_stamp(source) != stamp
    assert list(beside(str(image))) == [str(image.with_name(name))]


@pytest.mark.parametrize("size", [1000, 10**6])
@pytest.mark.parametrize("where", [0, -1])
def test_content_that_changes_under_the_same_size_and_date(tmp_path, size, where):
    path = tmp_path / "a.dat"
    content = bytearray(size)
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    stamp = file_stamp(str(path))
    content[where] = 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert file_stamp(str(path))[:3] == stamp[:3]
    assert file_stamp(str(path)) != stamp


def test_a_changed_block_in_the_middle_of_a_large_file(tmp_path):
    """A new content as a whole: some of the places that are looked at show it."""
    path = tmp_path / "a.dat"
    stamps = []
    for value in (b"\0", b"\1"):
        path.write_bytes(bytes(1 << 16) + value * (1 << 20) + bytes(1 << 16))
        os.utime(path, ns=(1, 1))
        stamps.append(file_stamp(str(path)))
    assert stamps[0] != stamps[1]


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(RasterError, match="was there when the run began, but is no more"):
        file_stamp(str(tmp_path / "a.dat"))


def test_a_server_that_marks_no_versions(file_server):
    path = file_server.folder / "a.dat"
    path.write_bytes(bytes(100_000))
    marked = probe(file_server.url("a.dat"))
    assert (bool(marked.etag), marked.sample) == (True, "")
    file_server.no_etag = True
    first = probe(file_server.url("a.dat"))
    assert first.etag == ""
    assert probe(file_server.url("a.dat")) == first
    path.write_bytes(bytes(50_000) + b"\1" + bytes(49_999))
    assert probe(file_server.url("a.dat")) != first


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["a.tif.aux.xml", "a.tfw", "a.prj", "a.aux"])
def test_a_pipe_beside_an_image_is_refused_and_not_waited_for(image, name):
    os.mkfifo(image.with_name(name))
    with pytest.raises(RasterError, match=r"is no ordinary file, but GDAL would read it with the image; remove it"):
        read_source(image)


BAND = """<PAMRasterBand band="1">
    {words}
    <Metadata>
      <MDI key="STATISTICS_MAXIMUM">{most}</MDI>
      <MDI key="STATISTICS_APPROXIMATE">YES</MDI>
    </Metadata>
  </PAMRasterBand>"""


@pytest.mark.parametrize("words", ["", "<Histograms><HistItem><HistMin>0</HistMin></HistItem></Histograms>"])
def test_statistics_that_a_program_leaves_beside_the_image_do_not_count(image, words):
    source = read_source(image)
    stamp = input_stamp(source)
    image.with_name("a.tif.aux.xml").write_text(f"<PAMDataset>\n  {BAND.format(words=words, most=9)}\n</PAMDataset>\n")
    assert input_stamp(source) == stamp


def test_what_stands_beside_statistics_counts(image):
    source = read_source(image)
    aux = image.with_name("a.tif.aux.xml")
    stamps = []
    for nodata, most in ((0, 9), (0, 8), (7, 8)):
        words = f"<NoDataValue>{nodata}</NoDataValue>"
        aux.write_text(f"<PAMDataset>{BAND.format(words=words, most=most)}</PAMDataset>")
        stamps.append(input_stamp(source))
    assert stamps[0] == stamps[1] != stamps[2]
    aux.write_bytes(b"<PAMDataset>\xff</PAMDataset>")
    assert input_stamp(source) not in stamps


def test_the_statistics_that_gdal_writes_do_not_count(image):
    stamp = input_stamp(read_source(image))
    with rasterio.open(image) as dataset:
        dataset.stats(indexes=1) if hasattr(dataset, "stats") else dataset.statistics(1)
    assert image.with_name("a.tif.aux.xml").is_file()
    assert input_stamp(read_source(image)) == stamp
