"""`terradelta import`: a published checkpoint becomes a run that other commands take."""

import sys
from pathlib import Path

import pytest

from terradelta import cli

torch = pytest.importorskip("torch")

from tests.lab.networks.official_oracles import Weights, fc, snunet  # noqa: E402

from terradelta.lab.networks.checkpoint import load_network  # noqa: E402
from terradelta.predict.load import load_predictor  # noqa: E402


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["terradelta", "import", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    weights = Weights()
    snunet(weights, torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16), n=4, pool="mean")
    torch.save(weights.state, tmp_path / "snunet.pt")
    return tmp_path / "snunet.pt"


def test_a_run_that_predicts_and_says_what_it_does_not_know(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, file, "--network", "snunet", "-o", tmp_path / "runs" / "a") == 0
    said = " ".join(capsys.readouterr().err.split())
    for words in (
        f"{tmp_path / 'runs' / 'a' / 'best.ckpt'}: snunet, every weight of the network found and used",
        "bands: red, green, blue; changed from: the class with the higher score: probability 0.5",
        "not known: whether ECAM's second pool is a mean",
        "not known: its score: nothing was evaluated here",
        "licence: MIT for the code",
    ):
        assert words in said
    predictor = load_predictor(str(tmp_path / "runs" / "a"), threads=1)
    assert predictor.card.network_args["ecam_pool"] == "mean"
    assert _run(monkeypatch, file, "--network", "snunet:ecam_pool=max", "-o", tmp_path / "max") == 0
    assert "not known: whether" not in capsys.readouterr().err
    assert load_network(tmp_path / "max")[1].network_args["ecam_pool"] == "max"
    assert _run(monkeypatch, file, "--network", "snunet", "-o", tmp_path / "max") == 2
    assert "is there already" in " ".join(capsys.readouterr().err.split())


def test_a_scaling_of_one_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = Weights()
    fc(weights, torch.rand(1, 2, 16, 16), torch.rand(1, 2, 16, 16), kind="ef")
    torch.save(weights.state, tmp_path / "fc.pt")
    command = (tmp_path / "fc.pt", "--network", "fc_ef", "-o", tmp_path / "run")
    assert _run(monkeypatch, *command) == 2
    assert "holds no scaling that a card could" in " ".join(capsys.readouterr().err.split())
    assert _run(monkeypatch, *command, "--mean", "0.1,0.2") == 2
    assert "--mean and --std belong together" in capsys.readouterr().err
    assert _run(monkeypatch, *command, "--mean", "0.1,x", "--std", "1,1") == 2
    assert "--mean is '0.1,x'; it must be numbers" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    own = ("--bands", "red,nir", "--mean", "0.1,0.2", "--std", "0.3,0.4")
    assert _run(monkeypatch, *command, *own) == 0
    card = load_network(tmp_path / "run")[1]
    assert (card.bands, card.mean, card.std) == (("red", "nir"), (0.1, 0.2), (0.3, 0.4))
