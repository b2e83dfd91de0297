"""A missing extra names a command that works where terradelta came from."""

from importlib import metadata
from pathlib import Path

import pytest

from terradelta import errors
from terradelta.errors import MissingExtraError, cure

ROOT = Path(__file__).parents[1]


def test_in_a_checkout_its_folder_is_named():
    assert cure("train") == f"run: pip install -c {ROOT}/constraints.txt '{ROOT}[train]'"
    assert str(MissingExtraError("x", "train")) == f"x needs the optional dependencies [train]; {cure('train')}"


class Installed:
    def __init__(self, text: str | None) -> None:
        self.text = text

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.text


def test_elsewhere_the_folder_that_it_was_installed_from(tmp_path, monkeypatch):
    sources = tmp_path / "my sources"
    sources.mkdir()
    (sources / "constraints.txt").touch()
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "lib" / "site-packages" / "terradelta" / "errors.py"))
    found = Installed(f'{{"url": "{sources.as_uri()}", "dir_info": {{}}}}')
    monkeypatch.setattr(metadata, "distribution", lambda name: found)
    assert cure("cluster") == f"run: pip install -c '{sources}/constraints.txt' '{sources}[cluster]'"


def test_elsewhere_the_wheel_that_it_was_installed_from(tmp_path, monkeypatch):
    wheel = tmp_path / "terradelta-1.0-py3-none-any.whl"
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "lib" / "site-packages" / "terradelta" / "errors.py"))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(f'{{"url": "{wheel.as_uri()}"}}'))
    assert cure("view") == "in the folder of terradelta's sources run: pip install -c constraints.txt '.[view]'"
    wheel.touch()
    assert cure("view") == f"run: pip install '{wheel}[view]'"


@pytest.mark.parametrize("text", [None, "", "x", "[]", "{}", '{"url": 5}', '{"url": "https://x.example/y.whl"}'])
def test_else_what_to_do_in_the_sources(tmp_path, monkeypatch, text):
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "lib" / "site-packages" / "terradelta" / "errors.py"))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(text))
    words = "in the folder of terradelta's sources run: pip install -c constraints.txt '.[train]'"
    assert cure("train") == words
