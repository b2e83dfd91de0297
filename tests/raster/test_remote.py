"""Images by URL: parts are fetched, waits are bounded, secrets are kept, against a server on this machine."""

import http.server
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from rio_cogeo import cog_validate

from terradelta.errors import RasterError, RemoteError
from terradelta.geo.grid import Tile
from terradelta.mapping.damage import TolerantPair
from terradelta.mapping.provenance import input_record
from terradelta.raster import remote
from terradelta.raster.overlap import Area
from terradelta.raster.pair import Reading, open_pair
from terradelta.raster.remote import fetch_text, full_url, is_url, probe, public_url
from terradelta.raster.source import read_source

from .test_vrt import band, image, vrt

SIDE = 1792


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(remote, "_PAUSE_S", 0.01)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")


def cog(path: Path) -> np.ndarray:
    """A Cloud Optimised GeoTIFF of noise, which no coder can shorten; gives its values."""
    values = np.random.default_rng(0).integers(1, 255, (1, SIDE, SIDE)).astype("uint8")
    plain = image(path.with_name("plain.tif"), values)
    with rasterio.open(plain) as file:
        rasterio.shutil.copy(file, path, driver="COG", blocksize=256, compress="deflate", level=1)
    plain.unlink()
    assert cog_validate(path)[0]
    return values


def test_an_area_of_a_cog_needs_a_small_part_of_it(file_server):
    values = cog(file_server.folder / "a.tif")
    whole = (file_server.folder / "a.tif").stat().st_size
    area = Area(shapely.box(500000 + 5 * 800, 5200000 - 5 * 900, 500000 + 5 * 1000, 5200000 - 5 * 700), "EPSG:32614")
    with open_pair(file_server.url("a.tif"), file_server.url("a.tif"), aoi=area) as pair:
        np.testing.assert_array_equal(pair.read(pair.grid.tile).before, values[:, 700:900, 800:1000])
        assert pair.preview.valid.all()
    # 200 x 200 pixels lie in at most 4 of the 49 blocks, a date each, and the index is small.
    assert 2 * 200 * 200 < file_server.sent < 0.2 * whole
    assert {name for _, name in file_server.requests} == {"/a.tif"}  # no guesses at .ovr, .aux.xml or the folder


def test_warped_and_local_dates_mix(file_server, tmp_path):
    first = image(tmp_path / "first.tif")
    image(file_server.folder / "b.tif")
    with rasterio.open(file_server.folder / "b.tif", "r+") as file:
        file.transform = Affine(5, 0, 500002, 0, -5, 5200000)
    with open_pair(first, file_server.url("b.tif")) as pair:
        by_url = pair.read(pair.grid.tile)
    with open_pair(first, file_server.folder / "b.tif") as pair:
        local = pair.read(pair.grid.tile)
        assert pair.preflight.placements[1].warped
    np.testing.assert_array_equal(by_url.after, local.after)


def test_pathlib_takes_a_slash(file_server):
    image(file_server.folder / "a.tif")
    assert read_source(Path(file_server.url("a.tif"))).path == file_server.url("a.tif")


def test_what_the_server_says_identifies_the_file(file_server):
    image(file_server.folder / "a.tif")
    found = probe(file_server.url("a.tif"))
    size = (file_server.folder / "a.tif").stat().st_size
    assert (found.size, found.etag) == (size, f'"1-{size}"')
    assert found.modified_s == 1583143200  # 2 March 2020, 10:00 UTC
    assert file_server.sent == 1
    assert remote.RemoteFile("u", 1, "", "").modified_s is None
    assert remote.RemoteFile("u", 1, "", "yesterday").modified_s is None


def test_a_signature_is_used_and_not_shown(file_server):
    image(file_server.folder / "a.tif")
    file_server.token = "sig=SECRET&x=1"
    url = file_server.url("a.tif")
    source = read_source(f"{url}?sig=SECRET&x=1")
    assert source.path == url
    with open_pair(f"{url}?sig=SECRET&x=1", f"{url}?sig=SECRET&x=1") as pair:
        assert pair.read(pair.grid.tile).valid.all()
        records = [input_record(*each) for each in zip(pair.sources, pair.preflight.placements, strict=True)]
        assert "SECRET" not in str(records) + str(pair.preflight.lines())
    with pytest.raises(RasterError, match=r"a\.tif: the server answered 403") as caught:
        read_source(f"{url}?sig=WRONG")
    assert "WRONG" not in str(caught.value)
    (file_server.folder / "a.tif").write_text("no image")
    with pytest.raises(RasterError, match=r"a\.tif cannot be opened as a raster") as caught:
        read_source(f"{url}?sig=SECRET&x=1")
    assert "SECRET" not in str(caught.value)
    assert public_url("https://me:pw@host:8/a/b.tif?q=1#f") == "https://host:8/a/b.tif"


def test_a_server_that_fails_twice_is_asked_again(file_server):
    image(file_server.folder / "a.tif")
    file_server.failures = 2
    assert read_source(file_server.url("a.tif")).grid.shape == (40, 50)
    file_server.failures = 3
    with pytest.raises(RasterError, match=r"the server answered 503 .*; check the URL"):
        read_source(file_server.url("a.tif"))


def test_a_server_that_fails_while_tiles_are_read(file_server):
    cog(file_server.folder / "a.tif")
    with open_pair(file_server.url("a.tif"), file_server.url("a.tif")) as pair:
        file_server.failures = 1000
        with pytest.raises(RemoteError, match=r"a\.tif cannot be read at rows 900 to 909.*the server failed"):
            TolerantPair.like(pair).read(Tile(900, 900, 10, 10))  # a failure of the server is no damage to skip


def test_a_missing_file_and_a_dead_server(file_server):
    with pytest.raises(RasterError, match=r"none\.tif: the server answered 404"):
        read_source(file_server.url("none.tif"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RasterError, match=r"a\.tif cannot be reached \(.*refused\); check the URL and the connection"):
        read_source(f"http://127.0.0.1:{port}/a.tif")
    with pytest.raises(RasterError, match="cannot be reached"):
        read_source("http://:x/")


def test_a_server_that_never_answers(monkeypatch):
    monkeypatch.setattr(remote, "_TIMEOUT_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        taken: list[socket.socket] = []
        thread = threading.Thread(target=lambda: taken.extend(silent.accept()[0] for _ in range(3)))
        thread.start()
        with pytest.raises(RasterError, match=r"cannot be reached \(.*timed out\)"):
            probe(f"http://127.0.0.1:{silent.getsockname()[1]}/a.tif")
        thread.join()
        for each in taken:
            each.close()


def test_a_server_without_ranges_is_refused(file_server):
    image(file_server.folder / "a.tif")
    file_server.ranges = False
    with pytest.raises(RasterError, match=r"cannot send a part of the file .*download it first"):
        read_source(file_server.url("a.tif"))


def test_a_vrt_by_url_is_no_image(file_server):
    image(file_server.folder / "a.tif")
    vrt(file_server.folder / "x.vrt", band("a.tif"))
    with pytest.raises(RasterError, match=r"x\.vrt cannot be opened as a raster .*GTiff, JP2OpenJPEG, PNG"):
        read_source(file_server.url("x.vrt"))


def test_a_vrt_may_name_urls_if_allowed(file_server, tmp_path):
    image(file_server.folder / "a.tif")
    for prefix in ("", "/vsicurl/"):
        path = vrt(tmp_path / "x.vrt", band(prefix + file_server.url("a.tif")))
        with pytest.raises(RasterError, match=r"may not lead to the network.*--allow-outside"):
            read_source(path)
        with open_pair(path, path, reading=Reading(allow_outside=True)) as pair:
            assert pair.read(pair.grid.tile).valid.all()
        assert [each.name for each in read_source(path, allow_outside=True).remotes] == [file_server.url("a.tif")]


def test_text_is_fetched_whole_and_bounded(file_server, monkeypatch):
    (file_server.folder / "a.json").write_text("{}")
    assert fetch_text(file_server.url("a.json")) == "{}"
    (file_server.folder / "b.json").write_bytes(b"\xff")
    with pytest.raises(RasterError, match="is no JSON text"):
        fetch_text(file_server.url("b.json"))
    monkeypatch.setattr(remote, "_TEXT_BYTES", 1)
    with pytest.raises(RasterError, match="more than 1 bytes"):
        fetch_text(file_server.url("a.json"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [("http://a/b", True), ("HTTPS:/a/b", True), ("ftp://a/b", False), ("/data/http:/x", False), ("http.tif", False)],
)
def test_urls_are_told_from_paths(text, answer):
    assert is_url(text) is answer
    assert not answer or full_url(text).lower().split("//")[0] in ("http:", "https:")


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/a.tif", "file:///etc/passwd", "gopher://127.0.0.1/"])
def test_a_redirect_leads_to_http_only(target):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with pytest.raises(RasterError, match=r"answered 302|cannot be reached"):
                probe(f"http://127.0.0.1:{server.server_port}/a.tif")
        finally:
            server.shutdown()
            thread.join()
