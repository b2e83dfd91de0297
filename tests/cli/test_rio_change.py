"""`rio change` is `terradelta map` under rasterio's command."""

import importlib
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rasterio.rio.main import main_group
from tests.mapping.conftest import pair_values, write_tiff

__all__ = ["pair_values", "write_tiff"]


@pytest.fixture
def rio():
    """rasterio's command with the plugin that pyproject.toml names."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["rasterio.rio_plugins"]["change"].partition(":")
    command = getattr(importlib.import_module(module), name)
    assert isinstance(command, click.Command)
    group = click.Group("rio", commands={**main_group.commands, "change": command}, params=main_group.params)
    group.callback = main_group.callback
    return lambda *arguments: CliRunner().invoke(group, list(map(str, arguments)))


def test_it_makes_a_map(tmp_path, rio, write_tiff, pair_values):
    files = [write_tiff(f"{name}.tif", values) for name, values in zip("ab", pair_values, strict=True)]
    done = rio("change", *files, "-o", tmp_path / "out", "--method", "cva", "--min-area", "20")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "change.tif").is_file()
    assert done.stdout.strip() == str(tmp_path / "out" / "report.html")


def test_its_help_is_that_of_map_under_its_own_name(rio):
    done = rio("change", "--help")
    assert done.exit_code == 0
    assert "rio change" in done.output
    assert "--coregister" in done.output
    assert "change" in rio("--help").output


def test_errors_have_the_exit_code_of_map(tmp_path, rio):
    assert rio("change", tmp_path / "a.tif", tmp_path / "b.tif", "-o", tmp_path / "out").exit_code == 2
    assert rio("change", "--nonsense").exit_code == 2
