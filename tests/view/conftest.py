"""A product with the client of a server for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.review.conftest import made, product

from terradelta.view.server import create_app
from terradelta.view.view_session import Session, ViewOptions

__all__ = ["made", "product"]

ADDRESS = "http://127.0.0.1:8000"


def client_of(folder: Path, **options: object) -> TestClient:
    """A client of a server for a product, whose addresses begin behind the token."""
    session = Session(folder, ViewOptions(**{"author": "ann", **options}))  # type: ignore[arg-type]
    return TestClient(create_app(session), base_url=f"{ADDRESS}/{session.token}/", follow_redirects=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's secret is kept."""
    monkeypatch.setenv("TERRADELTA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def client(product: Path) -> Iterator[TestClient]:
    with client_of(product) as found:
        yield found
