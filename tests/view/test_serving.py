"""A running server."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

import terradelta
from terradelta.errors import InputError
from terradelta.view.serving import bind, bind_usual


def get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=600) as answer:
        found: dict = json.loads(answer.read())
        return found


def test_a_port_in_use_is_told_with_a_free_one():
    with bind() as taken:
        host, port = taken.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(InputError, match=rf"port {port} of 127\.0\.0\.1 cannot be had .* --port \d+") as error:
            bind(port=port)
        other = int(str(error.value).rsplit(" ", 1)[1])
        bind(port=other).close()
    bind(port=port).close()


def test_the_usual_port_or_another():
    with bind_usual() as first, bind_usual() as second:
        assert first.getsockname() != second.getsockname()


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no.such.name.invalid", 0), ("127.0.0.1", 70000)])
def test_places_that_are_none_of_this_machine(host: str, port: int):
    with pytest.raises(InputError, match=r"is no address of this machine|the port is 70000"):
        bind(host, port)


def test_a_page_in_a_notebook_is_a_frame_until_it_is_closed(product: Path):
    with terradelta.view(product, author="ann", height=500) as page:
        assert get(f"{page.url}api/scene")["author"] == "ann"
        shown = page._repr_html_()
        assert f'src="{page.url}"' in shown
        assert "height:500px" in shown
        assert page.url in repr(page)
        request = urllib.request.Request(f"{page.url}api/review", b'{"polygon": 1, "verdict": "accept"}')
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=600) as answer:
            assert json.loads(answer.read())["number"] == 1
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(page.url, timeout=600)
    page.close()  # once more does no harm


@pytest.mark.parametrize(
    "path",
    [
        "../receipt.json",
        "../../etc/passwd",
        "..%2f..%2freceipt.json",
        "%2e%2e/%2e%2e/receipt.json",
        "..\\..\\receipt.json",
        "//etc/passwd",
        "assets/../../view_session.py",
        "assets/%2e%2e/%2e%2e/view_session.py",
        "tiles/../before/0/0/0.png",
        "api/export.gpkg/../../receipt.json",
        "receipt.json%00.png",
    ],
)
def test_paths_as_no_browser_would_send_them_lead_nowhere(product: Path, path: str):
    with terradelta.view(product) as page:
        place = urllib.parse.urlsplit(page.url)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=600)
        connection.request("GET", f"{place.path}{path}")
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
    assert answer.status == 404
    assert set(json.loads(content)) == {"error"}


def test_it_is_closed_with_the_interpreter(product: Path):
    code = "import sys, terradelta; print(terradelta.view(sys.argv[1]).url)"
    command = [sys.executable, "-c", code, str(product)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    port = int(done.stdout.split(":")[2].split("/")[0])
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(product: Path, number: signal.Signals):
    command = [sys.executable, "-m", "terradelta", "view", str(product), "--no-open"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = started.stdout.readline().strip()
    assert get(f"{url}api/scene")["name"] == "out"
    started.send_signal(number)
    _, said = started.communicate(timeout=600)
    assert "Traceback" not in said
    assert started.returncode == (0 if number == signal.SIGINT else 143)
