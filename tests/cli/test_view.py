import re
import sys
from pathlib import Path

import pytest
import shapely
from tests.review.conftest import made, product
from typer.testing import CliRunner

from terradelta.cli import app
from terradelta.review.store import NewVerdict, ReviewStore
from terradelta.view import serving

__all__ = ["made", "product"]

RUN = CliRunner()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list:
    """The sessions that would have been served until Ctrl-C."""
    monkeypatch.setenv("TERRADELTA_HOME", str(tmp_path / "home"))
    found: list = []

    def serve(session, listening, names):
        found.append((session, listening.getsockname()))
        session.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve", serve)
    monkeypatch.setattr("webbrowser.open", found.append)
    return found


def test_the_address_is_printed_and_opened(product: Path, served: list):
    done = RUN.invoke(app, ["view", str(product), "--author", "ann"])
    assert done.exit_code == 0, done.output
    url, (session, _) = served
    assert url in done.stdout
    assert session.token in url
    assert session.author == "ann"
    again = RUN.invoke(app, ["view", str(product), "--no-open"])
    assert f"/{session.token}/" in again.stdout  # a page that is open goes on
    assert "Closed." in done.output


def test_nothing_is_opened_unless_wanted(product: Path, served: list):
    assert RUN.invoke(app, ["view", str(product), "--no-open", "--port", "0"]).exit_code == 0
    assert len(served) == 1


def test_images_that_are_gone_are_told_at_once(product: Path, made: Path, served: list, tmp_path: Path):
    receipt = product / "receipt.json"
    receipt.write_text(receipt.read_text().replace(str(made / "after.tif"), str(tmp_path / "gone.tif")))
    done = RUN.invoke(app, ["view", str(product), "--no-open"])
    assert done.exit_code == 0
    assert "--after FILE" in done.output.replace("\n", " ")
    given = RUN.invoke(app, ["view", str(product), "--no-open", "--after", str(made / "after.tif")])
    assert "FILE" not in given.output


def test_what_is_no_product_ends_with_2(tmp_path: Path, served: list):
    done = RUN.invoke(app, ["view", str(tmp_path), "--no-open"])
    assert done.exit_code == 2
    assert "is no product" in " ".join(done.output.split())
    assert served == []


def test_a_port_in_use_ends_with_2_and_names_another(product: Path, served: list):
    with serving.bind() as taken:
        port = taken.getsockname()[1]
        done = RUN.invoke(app, ["view", str(product), "--no-open", "--port", str(port)])
    assert done.exit_code == 2
    assert re.search(rf"port {port} of 127\.0\.0\.1 cannot be had .* --port \d+", " ".join(done.output.split()))
    assert served == []


def test_a_review_of_another_product_ends_with_2_and_stays_as_it_is(product: Path, served: list):
    review = product / "review.gpkg"
    ReviewStore(product).add([NewVerdict("judged", "accept", shapely.box(0, 0, 1, 1), 1)], "ann")
    receipt = product / "receipt.json"
    receipt.write_text(receipt.read_text().replace('"created": "', '"created": "1'))
    before = review.read_bytes()
    done = RUN.invoke(app, ["view", str(product), "--no-open"])
    assert done.exit_code == 2
    assert "is the review of another product" in " ".join(done.output.split())
    assert "move it away to begin a new one" in " ".join(done.output.split())
    assert review.read_bytes() == before
    assert served == []


def test_a_missing_extra_is_named_with_its_cure(product: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("terradelta.view.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    done = RUN.invoke(app, ["view", str(product)])
    assert done.exit_code == 1
    assert "[view]" in done.output
    assert "pip install" in done.output


def test_samples_are_drawn_and_labelled_at_once(product: Path, served: list, tmp_path: Path):
    samples = tmp_path / "samples.gpkg"
    done = RUN.invoke(app, ["area", str(product), "--draw", "20", "-o", str(samples), "--view"])
    assert done.exit_code == 0, done.output
    _, (session, _) = served
    assert session.task.path == samples
    assert session.task.record()["total"] == 20
    assert f"--task {samples}" in " ".join(done.output.split())
    assert RUN.invoke(app, ["area", str(product), "--view"]).exit_code == 2
    assert RUN.invoke(app, ["area", str(product), "--draw", "20", "-o", f"{samples}.csv", "--view"]).exit_code == 2
