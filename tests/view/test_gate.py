"""Who is let in."""

import base64
import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from terradelta.review.store import read_review
from terradelta.view.gate import MOST_BYTES, Gate, lasting_token

from .conftest import ADDRESS

VERDICT = {"polygon": 1, "verdict": "accept"}


def test_a_lasting_token_is_the_same_for_the_same_words_and_user(monkeypatch: pytest.MonkeyPatch, home: Path):
    mine = lasting_token("out", "2026")
    assert mine == lasting_token("out", "2026")
    assert len({mine, lasting_token("out", "2027"), lasting_token("out2026", "")}) == 3
    assert len(base64.urlsafe_b64decode(mine)) == 24
    (secret,) = home.iterdir()
    assert len(secret.read_bytes()) == 32
    assert mine != base64.urlsafe_b64encode(secret.read_bytes()[:24]).decode()
    if os.name == "posix":
        assert secret.stat().st_mode & 0o777 == 0o600
        secret.chmod(0o644)  # others may have read it
        assert lasting_token("out", "2026") not in (mine, lasting_token("out", "2026"))
    monkeypatch.setenv("TERRADELTA_HOME", str(home / "other"))
    assert lasting_token("out", "2026") != mine
    monkeypatch.setenv("TERRADELTA_HOME", str(secret))  # where nothing can be kept
    assert lasting_token("out", "2026") != lasting_token("out", "2026")


def test_a_wrong_token_finds_nothing(client: TestClient):
    token = client.base_url.path.strip("/")
    for path in ("/", "/api/scene", f"/{token[:-1]}/api/scene", f"/{token}x/api/scene", "//api/scene", f"/x/{token}/"):
        found = client.get(f"{ADDRESS}{path}")
        assert found.status_code == 404, path
        assert "use the whole address" in found.json()["error"]
    assert client.get(f"{ADDRESS}/{token}/api/scene").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7", 200),
        ("LOCALHOST.:8000", 200),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
def test_names_that_could_be_made_to_lead_here_are_refused(client: TestClient, host: str, status: int):
    assert client.get("api/scene", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_pages_of_other_sites_can_write_nothing(client: TestClient, product: Path, headers: dict[str, str]):
    answer = client.post("api/review", json=VERDICT, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "pages of other sites may not use this server")
    assert read_review(product) == []


def test_pages_of_other_sites_can_read_nothing_but_lead_to_the_page(client: TestClient):
    assert client.get("api/scene", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("tiles/before/0/0/0.png", headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert client.options("api/review", headers={"Origin": "https://evil.example"}).status_code == 405
    frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}  # of a notebook
    assert client.get("", headers=frame).status_code in (200, 503)


def test_the_page_itself_is_let_in(client: TestClient):
    headers = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert client.post("api/review", json=VERDICT, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),  # what a form of another site can send
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 422),
        ({"Content-Type": "application/json", "Content-Length": str(MOST_BYTES + 1)}, 413),
        ({"Content-Type": "application/json", "Content-Length": "9" * 5000}, 413),
        ({"Content-Type": "application/json", "Content-Length": "-1"}, 411),
    ],
)
def test_bodies_are_looked_at_before_they_are_read(client: TestClient, headers: dict[str, str], status: int):
    assert client.post("api/review", content=b"{}", headers=headers).status_code == status


def test_a_body_of_unknown_length_is_refused(client: TestClient):
    answer = client.post("api/review", content=iter([b"{}"]), headers={"Content-Type": "application/json"})
    assert answer.status_code == 411


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_change_nothing(client: TestClient, method: str):
    assert client.request(method, "api/review", json={}).status_code in (404, 405)  # 404 where the page is not built


def test_every_answer_says_what_a_browser_may_do_with_it(client: TestClient):
    for path in ("api/scene", "tiles/before/0/0/0.png", "api/none", ""):
        headers = client.get(path).headers
        assert "access-control-allow-origin" not in headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "script-src 'self';" in headers["content-security-policy"]
    assert client.get("api/scene").headers["cache-control"] == "no-store"


def test_sockets_are_not_spoken():
    called = []

    async def app(*_: object) -> None:
        called.append(1)

    import asyncio

    asyncio.run(Gate(app, "secret")({"type": "websocket"}, None, None))  # type: ignore[arg-type]
    assert called == []
