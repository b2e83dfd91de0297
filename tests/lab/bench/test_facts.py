import json

import pytest
import torch

from terradelta import machine
from terradelta.errors import ModelError
from terradelta.lab.bench import speed
from terradelta.lab.bench.facts import network_facts, switches
from terradelta.lab.networks import create_model


def test_facts_are_those_of_the_built_network():
    facts = network_facts("fc_siam_diff")
    assert facts.parameters == sum(p.numel() for p in create_model("fc_siam_diff").parameters())
    assert facts.macs.true == 4_227_858_432  # counted on the authors' code
    assert not facts.symmetric
    assert network_facts("mlla_sianet").symmetric
    assert network_facts("snunet", {"width": 16}).parameters == 3_012_178
    with pytest.raises(ModelError, match="cannot be built with"):
        network_facts("bit", {"widht": 3})


def test_switches_are_the_builders_arguments():
    assert switches("mccrnet") == {"width": 1.0, "aspca": True, "ccr": True}
    assert switches("fc_ef") == {}


def test_machine_says_what_it_is():
    text = machine.describe_machine()
    assert f"{machine.cores()} cores" in text
    assert f"torch {torch.__version__.split('+')[0]}" in text
    assert machine.cores() >= 1


def test_nothing_is_known_where_the_system_tells_nothing(monkeypatch):
    monkeypatch.setattr(machine, "_read", lambda path: "")
    monkeypatch.setattr(machine, "_sysconf", lambda name: None)
    assert machine.total_memory() is None
    assert machine.cpu_name()


def test_speeds_are_ratios_to_the_default_network():
    threads, seen = torch.get_num_threads(), []
    found = speed.measure_speeds(
        {"itself": ("mlla_sianet", {}), "large": ("mlla_sianet_large", {})}, side=32, progress=seen.append
    )
    assert torch.get_num_threads() == threads
    assert seen == ["itself", "large"]
    assert 0.3 < found["itself"].ratio < 3
    assert found["large"].ratio < 0.9  # five times the multiply-adds
    assert found["large"].pairs_per_s > 0


def test_speeds_are_remembered_for_this_machine_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert speed.known_speeds() == {}
    one, two = speed.Speed(2.0, 0.5, 256), speed.Speed(4.0, 1.0, 256)
    speed.remember_speeds({"bit": one})
    speed.remember_speeds({"ifn": two})
    assert speed.known_speeds() == {"bit": one, "ifn": two}
    monkeypatch.setattr(speed, "cpu_name", lambda: "another CPU")
    assert speed.known_speeds() == {}


@pytest.mark.parametrize("content", ["no json", "[]", json.dumps({"x": 1})])
def test_a_damaged_memory_of_speeds_counts_as_none(tmp_path, monkeypatch, content):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "terradelta").mkdir()
    (tmp_path / "terradelta" / "speed.json").write_text(content)
    assert speed.known_speeds() == {}


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    speed.remember_speeds({"bit": speed.Speed(1.0, 1.0, 256)})
    assert speed.known_speeds() == {}
