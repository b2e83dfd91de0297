"""Every recipe by name, through the command line, on its archive: fabricated, a few pixels wide, in its real layout.

Two steps at the full width of each network say that everything fits together, and nothing of scores.
"""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from typer.testing import CliRunner

from terradelta import cli
from terradelta.card import CARD_KEY, ModelCard
from terradelta.lab.data.opening import ArchiveWarning
from terradelta.lab.networks import create_model
from terradelta.lab.networks.checkpoint import load_checkpoint
from terradelta.lab.networks.pretrained import TORCHVISION, _encoder
from terradelta.lab.training.loop import CollapseWarning
from terradelta.lab.training.recipes import RECIPES, load_recipe
from terradelta.lab.training.recipes.paper_data import TRAINING_DATA

DRIVERS = {"png": "PNG", "jpg": "JPEG", "tif": "GTiff"}
SPLITS = {"train": 3, "val": 1, "test": 1}
TEMPLATES = {
    "levir": "{split}/{part}/{split}_{k}.png A B label/png",
    "cdd": "ChangeDetectionDataset/Real/subset/{split}/{part}/{k:05d}.jpg A B OUT/jpg",
    "dsifn": "DSIFN-Dataset/{split}/{part}/{k}.jpg t1 t2 mask/png",
    "sysu": "SYSU-CD/{split}/{part}/{k:05d}.png time1 time2 label/png",
}
FAST = ("fc_siam_diff_levir", "fc_siam_conc_cdd", "fc_ef_gz", "snunet16_dsifn", "fc_siam_diff_sysu")
"""One method an archive, also run without ``--all``."""


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", driver=DRIVERS[path.suffix[1:]], dtype="uint8", **size) as target:
        target.write(values)


def pair(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey noise with a bright rectangle on the second date, which is the label."""
    before, after = np.random.default_rng(seed).integers(70, 110, (2, 3, height, width)).astype(np.uint8)
    label = np.zeros((1, height, width), np.uint8)
    label[:, height // 9 : height * 5 // 9, width // 4 : width * 2 // 3] = 255  # in most crops, whatever the size
    after[:, label[0] > 0] += 120
    return before, after, label


def make_folders(key: str, root: Path) -> None:
    path, before, after, label = TEMPLATES[key].split(" ")
    label, suffix = label.split("/")
    side = 256 if key == "sysu" else 72  # SYSU-CD is known by its size
    for split, count in SPLITS.items():
        for k in range(1, count + 1):
            for part, values in zip((before, after, label), pair(k, side, side), strict=True):
                file = root / path.format(split=split, part=part, k=k)
                save(file.with_suffix(f".{suffix}") if part == label else file, values)


def make_gz(root: Path) -> None:
    for n in range(1, 20):
        before, after, label = pair(n, 64 + n, 70)
        save(root / f"CD_Data_GZ/T1/P_GZ_test{n}_2010_1221_Level_18.tif", before)
        save(root / f"CD_Data_GZ/T2/P_GZ_test{n}_2018_0103_Level_18.tif", after)
        save(root / f"CD_Data_GZ/labels_change/P_GZ_test{n}_2010_2018.png", np.repeat(label, 3, axis=0))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each archive that recipes are for, under the recipes' keys."""
    root = tmp_path_factory.mktemp("archives")
    make_gz(root / "gz")
    for key in TEMPLATES:
        make_folders(key, root / key)
    assert {path.name for path in root.iterdir()} == set(TRAINING_DATA)
    return root


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torch's cache with stand-ins for torchvision's checkpoints: right keys and sizes, small random values."""
    root = tmp_path_factory.mktemp("torch")
    (root / "hub/checkpoints").mkdir(parents=True)
    networks = {"vgg16": "ifn", "resnet18": "stanet", "resnet34": "mlla_sianet_large", "resnet50": "dasnet"}
    for name, network in networks.items():
        state = _encoder(create_model(network)).state_dict()
        torch.save(state, root / "hub/checkpoints" / TORCHVISION[name].rsplit("/", 1)[-1])
    return root


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]
)
def test_two_steps_from_the_command_line(
    name: str, archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    recipe = load_recipe(name)
    if recipe.encoder_weights is not None:
        monkeypatch.setenv("TORCH_HOME", str(request.getfixturevalue("hub")))
    key = name.rsplit("_", 1)[1]
    run = tmp_path / "run"
    place = f"{TRAINING_DATA[key].archive}:{archives / key}"
    options = ("--steps", "2", "--batch-size", "2", "--crop", "64", "--device", "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveWarning)
        warnings.simplefilter("ignore", CollapseWarning)
        done = CliRunner().invoke(cli.app, ["train", name, "--data", place, "-o", str(run), *options])
    assert done.exit_code == 0, (done.output, done.exception)
    with (run / "log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert all(0 < float(row["loss"]) < 1e4 and float(row["grad_norm"]) > 0 for row in rows)
    kept = json.loads((run / "recipe.json").read_text())
    assert (kept["name"], kept["loss"], kept["optimiser"]["kind"]) == (name, recipe.loss, recipe.optimiser.kind)
    card = ModelCard.from_json(load_checkpoint(run / "best.ckpt")[CARD_KEY])
    assert (card.network, card.scores[0]["split"]) == (recipe.network, "val")
    assert card.licence == TRAINING_DATA[key].licence
