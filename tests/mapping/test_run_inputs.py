"""Inputs that are more than one local file, from the file to the receipt."""

import hashlib
import json

import numpy as np
import pytest
import rasterio

from terradelta.errors import InputError, RasterError
from terradelta.mapping.provenance import input_record
from terradelta.mapping.run import MapOptions, map_change
from terradelta.raster.identity import input_stamp
from terradelta.raster.source import read_source
from terradelta.receipt.map_record import PlacementRecord

from .conftest import BoxPredictor, PixelPredictor

PLACE = PlacementRecord(warped=False, shift_px=(0.0, 0.0), pixel_ratio=1.0, coverage=1.0, resampling=None)
SMALL = MapOptions(tile=64, overlap=16, min_area_m2=0)


@pytest.fixture
def served(file_server, write_tiff, pair_values):
    """Both dates on the server: (server, URL, URL)."""
    for name, values in zip("ab", pair_values, strict=True):
        write_tiff(f"served/{name}.tif", values, tiled=True, blockxsize=128, blockysize=128)
    return file_server, file_server.url("a.tif"), file_server.url("b.tif")


def test_a_pair_by_url_gives_the_same_map_and_records_what_the_server_says(tmp_path, served):
    server, before, after = served
    local = map_change(server.folder / "a.tif", server.folder / "b.tif", tmp_path / "local", PixelPredictor(), SMALL)
    server.token = "key=SECRET"
    made = map_change(f"{before}?key=SECRET", f"{after}?key=SECRET", tmp_path / "out", PixelPredictor(), SMALL)
    with rasterio.open(made.change) as one, rasterio.open(local.change) as other:
        np.testing.assert_array_equal(one.read(), other.read())
    assert read_source(f"{before}?key=SECRET").changed.isoformat() == "2020-03-02T10:00:00+00:00"
    size = (server.folder / "a.tif").stat().st_size
    date = "Mon, 02 Mar 2020 10:00:00 GMT"
    found = made.receipt.inputs.before
    assert (found.path, found.bytes, found.etag, found.modified) == (before, size, f'"1-{size}"', date)
    assert (found.sha256, found.files) == (None, None)
    assert not any(b"SECRET" in path.read_bytes() for path in made.folder.iterdir())


def test_a_file_that_changes_on_the_server_ends_the_run(tmp_path, served):
    server, before, after = served

    def change(done: int, total: int) -> None:
        if done == total // 2:
            server.version = "2"

    with pytest.raises(RasterError, match=r"a\.tif has changed since the run began.*--fresh"):
        map_change(before, after, tmp_path / "out", BoxPredictor(), SMALL, progress=change)
    assert not (tmp_path / "out").exists()


def test_a_run_by_url_is_resumed_while_the_file_is_the_same(tmp_path, served):
    server, before, after = served

    def stop(done: int, _: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_change(before, after, tmp_path / "out", BoxPredictor(), SMALL, progress=stop)
    server.version = "2"
    with pytest.raises(InputError, match="differs from this one in: inputs"):
        map_change(before, after, tmp_path / "out", BoxPredictor(), SMALL)
    server.version, server.token = "1", "signature=new"
    predictor = BoxPredictor()
    made = map_change(f"{before}?signature=new", f"{after}?signature=new", tmp_path / "out", predictor, SMALL)
    assert 0 < made.receipt.resumed_tile_rows < 7
    assert len(predictor.calls) < 63


def test_a_vrt_is_identified_by_all_its_files(tmp_path, write_tiff, pair_values):
    write_tiff("a.tif", pair_values[0])
    text = (
        '<VRTDataset rasterXSize="420" rasterYSize="300"><SRS>EPSG:32614</SRS>'
        "<GeoTransform>600000,0.5,0,3400000,0,-0.5</GeoTransform>{}</VRTDataset>"
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte"><SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename>'
        f"<SourceBand>{n}</SourceBand></SimpleSource></VRTRasterBand>"
        for n in (1, 2, 3)
    )
    vrt = tmp_path / "x.vrt"
    vrt.write_text(text.format(bands))
    source = read_source(vrt)
    record, stamp = input_record(source, PLACE), input_stamp(source)
    assert [part.sha256 for part in record.files] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (vrt, tmp_path / "a.tif")
    ]
    assert record.bytes == vrt.stat().st_size + (tmp_path / "a.tif").stat().st_size
    assert source.changed.timestamp() == pytest.approx(vrt.stat().st_mtime)
    write_tiff("a.tif", pair_values[1])
    assert input_stamp(source) != stamp
    assert input_record(source, PLACE).sha256 != record.sha256
    assert json.loads(json.dumps(stamp)) == stamp
    (tmp_path / "a.tif").unlink()
    with pytest.raises(RasterError, match=r"a\.tif was there when the run began, but is no more"):
        input_stamp(source)
