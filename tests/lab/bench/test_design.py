import dataclasses
from typing import Any

import pytest
import torch

from terradelta.errors import InputError
from terradelta.lab.bench.design import BASELINES, Entry, Job, Setup, jobs_of
from terradelta.lab.bench.entries import _ABLATIONS, NARROW, ablation_entries, choose_entries
from terradelta.lab.bench.published import ABLATIONS
from terradelta.lab.losses import LOSSES
from terradelta.lab.networks import count_parameters, create_model, list_models

PROTOCOL = Setup("synthetic")


def test_all_networks_each_with_a_loss_that_exists():
    entries = choose_entries("all")
    assert [entry.network for entry in entries] == list_models()
    assert {entry.loss for entry in entries} <= set(LOSSES)


def test_networks_with_arguments():
    first, second, third = choose_entries("bit, snunet:width=16:ecam=false,ifn:dropout=0.5")
    assert (first.network, first.network_args, first.label) == ("bit", {}, "bit")
    assert second.network_args == {"width": 16, "ecam": False}
    assert second.label == "snunet width=16 ecam=False"
    assert third.network_args == {"dropout": 0.5}


def test_a_gpu_trains_in_bfloat16_and_a_cpu_where_it_is_asked_to():
    made = (PROTOCOL, dataclasses.replace(PROTOCOL, bf16=True), dataclasses.replace(PROTOCOL, device="cuda"))
    assert [each.precision for each in made] == ["32-true", "bf16-mixed", "bf16-mixed"]


def test_an_encoder_may_start_from_imagenet():
    plain, started = choose_entries("mlla_sianet_lite0,mlla_sianet_lite0:encoder_weights=imagenet:mla=false")
    assert (plain.encoder_weights, started.encoder_weights) == (None, "imagenet")
    assert started.network_args == {"mla": False}
    assert started.label == "mlla_sianet_lite0 encoder_weights=imagenet mla=False"
    same = dataclasses.replace(plain, encoder_weights="imagenet")
    assert Job(plain, 0, PROTOCOL).folder != Job(same, 0, PROTOCOL).folder


def test_small_narrows_what_has_no_arguments():
    plain, given = choose_entries("mccrnet,snunet:width=32", small=True)
    assert plain.network_args["width"] < 1
    assert "narrower" in plain.note
    assert given.network_args == {"width": 32}
    with torch.device("meta"):
        for name, arguments in NARROW.items():
            narrow, full = create_model(name, **arguments), create_model(name)
            assert count_parameters(narrow) < count_parameters(full) / 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names none; give `all` or some of bit, dasnet, fc_ef"),
        ("bit,unet", "there is no network 'unet'; there are: bit"),
        ("snunet:width", "'width' is no argument; write NAME:ARGUMENT=VALUE"),
        ("snunet:width=1;2", "'1;2' is neither a number, nor true or false, nor a name"),
    ],
)
def test_networks_that_cannot_be_read(text: str, message: str):
    with pytest.raises(InputError) as raised:
        choose_entries(text)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", _ABLATIONS)
@pytest.mark.parametrize("small", [False, True])
def test_ablations_can_be_built_and_trained(name: str, small: bool):
    entries = ablation_entries(name, small=small)
    assert len({entry.label for entry in entries}) == len(entries)
    with torch.device("meta"):
        for entry in entries:
            assert entry.loss in LOSSES
            assert count_parameters(create_model(entry.network, **entry.network_args)) > 0


@pytest.mark.parametrize("name", ["mccrnet-modules", "mccrnet-loss"])
def test_ablations_of_mccrnet_have_the_rows_of_the_paper(name: str):
    assert [e.label for e in ablation_entries(name)] == [a.label for a in ABLATIONS if a.ablation == name]


def test_the_ablation_of_modules_switches_them():
    with torch.device("meta"):
        networks = {e.label: create_model(e.network, **e.network_args) for e in ablation_entries("mccrnet-modules")}
    sizes = {label: count_parameters(network) for label, network in networks.items()}
    assert sizes == {  # docs/mccrnet.md, table 5
        "baseline": 37_396_034,
        "+ASPCA": 56_937_170,
        "+CCR": 42_876_228,
        "+ASPCA +CCR": 62_417_364,
    }


def test_the_ablation_of_mlla_on_imagenet_weights():
    full, *without, none = ablation_entries("mlla-imagenet")
    assert {e.encoder_weights for e in (full, *without, none)} == {"imagenet"}
    assert [e.network_args for e in without] == [{"dfm": False}, {"dsp": False}, {"mla": False}]
    assert none.network_args == {"dfm": False, "dsp": False, "mla": False}


def test_an_unknown_ablation():
    with pytest.raises(InputError, match="there is no ablation 'x'; there are: mccrnet-modules, mccrnet-loss, mlla"):
        ablation_entries("x")


def test_jobs_run_baselines_and_the_first_seed_first():
    jobs = jobs_of([Entry("a", "bit"), Entry("b", "fc_ef")], [0, 1], PROTOCOL)
    found = [(job.entry.label, job.seed) for job in jobs]
    assert found == [*((name, 0) for name in BASELINES), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [job.name for job in jobs[2:5]] == ["CVA, tuned", "a, seed 0", "b, seed 0"]
    assert len({job.folder for job in jobs}) == len(jobs)


def test_other_arguments_have_another_folder():
    job = Job(Entry("x", "snunet", {"width": 16}), 0, PROTOCOL)
    for other in ({"network_args": {"width": 8}}, {"loss": "eaw_ce"}, {"network": "bit"}):
        assert dataclasses.replace(job, entry=dataclasses.replace(job.entry, **other)).folder != job.folder
    assert dataclasses.replace(job, seed=1).folder != job.folder
    assert Job(Entry("+CCR, EAW", "bit"), 0, PROTOCOL).folder.startswith("ccr-eaw-")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps is 0; it must be at least 1"),
        ({"crop_px": 0}, "--crop is 0"),
        ({"batch_size": -1}, "--batch is -1"),
        ({"tiles": -1}, "--tiles is -1; give the number of tiles, or 0 for all"),
    ],
)
def test_protocols_that_cannot_be(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Setup("synthetic", **options)


def test_entries_and_seeds_that_cannot_be():
    with pytest.raises(InputError, match="a is given more than once"):
        jobs_of([Entry("a", "bit"), Entry("a", "bit")], [0], PROTOCOL)
    for seeds in ([], [-1], [1, 1]):
        with pytest.raises(InputError, match="give different whole numbers"):
            jobs_of([Entry("a", "bit")], seeds, PROTOCOL)
