"""Other people's torch files: state dicts, wrapped ones, whole modules of either format, and hostile ones."""

import contextlib
import os
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from terradelta.errors import ModelError
from terradelta.lab.networks import create_model
from terradelta.lab.networks.foreign import read_foreign
from terradelta.lab.networks.official import import_official

SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.max_pool = nn.AdaptiveAvgPool2d(1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.rest = nn.Sequential(Block(), nn.ReLU())
        self.scale = nn.Parameter(torch.randn(2))
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A module whose classes, as far as the reader can know, are in a file of somebody else."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "their_models.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(folder))
    import their_models

    torch.manual_seed(1)
    return their_models.Net()


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "their_models")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not entry.endswith("theirs")])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["module", "parallel", "state", "bit", "dasnet"])
def test_every_form_gives_the_state_dict(
    kind: str, zipped: bool, net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of before torch 1.6 hold the source of each class; nothing of it is looked for or warned of."""
    state = net.state_dict()
    content: Any = {
        "module": net,
        "parallel": nn.DataParallel(net),
        "state": {f"module.{key}": value for key, value in state.items()},
        "bit": {"model_G_state_dict": state, "best_val_acc": np.float64(0.9), "epoch_id": 3},
        "dasnet": {"state_dict": state},
    }[kind]
    path = tmp_path / "their.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    expected = {key: value.clone() for key, value in state.items()}
    _forget(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_foreign(path)
    assert set(found.tensors) == set(expected)
    assert all(torch.equal(found.tensors[key], value) for key, value in expected.items())
    whole = kind in ("module", "parallel")
    assert (found.kinds.get("first.max_pool"), found.kinds.get("rest.1")) == (
        ("AdaptiveAvgPool2d", "ReLU") if whole else (None, None)
    )
    assert "their_models" not in sys.modules


class _SNUNet(nn.Module):
    """The official attribute names of SNUNet's attention, on a network that holds our weights under theirs."""

    def __init__(self, state: dict[str, torch.Tensor], pool: nn.Module) -> None:
        super().__init__()
        for key, value in state.items():
            *parts, name = key.split(".")
            module: nn.Module = self
            for part in parts:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            module.register_buffer(name, value)
        self.get_submodule("ca").max_pool = pool


@pytest.mark.parametrize(("pool", "expected"), [(nn.AdaptiveAvgPool2d(1), "mean"), (nn.AdaptiveMaxPool2d(1), "max")])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_snunet_tells_which_pool_it_has(
    pool: nn.Module, expected: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .official_oracles import Weights, snunet

    weights = Weights()
    snunet(weights, torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16), n=4, pool="max")
    module = types.ModuleType("their_snunet")
    kind = type("SNUNet_ECAM", (_SNUNet,), {"__module__": "their_snunet"})
    module.SNUNet_ECAM = kind
    monkeypatch.setitem(sys.modules, "their_snunet", module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the source of a class that was renamed cannot be saved with it
        torch.save(kind(weights.state, pool), tmp_path / "snunet.pt", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "their_snunet")
    found = import_official([tmp_path / "snunet.pt"], "snunet")
    assert found.card.network_args["ecam_pool"] == expected
    assert found.unknown == ()


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path, call: Any = os.mkdir) -> None:
        self.path, self.call = path, call

    def __reduce__(self) -> Any:
        return self.call, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("call", [os.mkdir, os.makedirs, eval, exec])
def test_nothing_in_a_file_is_run(call: Any, zipped: bool, tmp_path: Path) -> None:
    """What makes objects is answered by empty classes, whatever it is called."""
    target = tmp_path / "ran"
    text = target if call in (os.mkdir, os.makedirs) else f"__import__('os').mkdir({str(target)!r})"
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(1), "more": Payload(text, call)}, path, _use_new_zipfile_serialization=zipped)
    with contextlib.suppress(ModelError):  # torch names some modules that it reads nothing of
        assert list(read_foreign(path).tensors) == ["w"]
    assert not target.exists()
    if call in (eval, exec):
        torch.load(path, weights_only=False)
        assert target.exists()


def test_what_holds_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file of weights .*none.pt"):
        read_foreign(tmp_path / "none.pt")
    for name, content in (("empty", b""), ("text", b"no pickle"), ("zip", b"PK\x05\x06" + bytes(18))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=rf"{name} holds no weights of torch \("):
            read_foreign(tmp_path / name)
    for content, held in (({"epoch": 3, "model": "x"}, "'epoch', 'model'"), ([torch.zeros(1)], "list")):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(
            ModelError, match=rf"other.pt holds no weights \({held}\); needed is a state dict, alone or"
        ):
            read_foreign(tmp_path / "other.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_is_one_message(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(create_model("snunet", width=4).state_dict(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for left in (10, 1000, len(whole) // 2):
        path.write_bytes(whole[:left])
        with pytest.raises(ModelError, match=r"a.pt holds no weights of torch \("):
            read_foreign(path)
