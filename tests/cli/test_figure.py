"""`terradelta figure`: heat maps from files to a file, and what each command refuses."""

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from PIL import Image
from typer.testing import CliRunner

from terradelta import cli
from terradelta.card import ModelCard
from terradelta.lab.networks import create_model
from terradelta.lab.networks.checkpoint import save_network
from terradelta.predict.load import shipped_models

PLACE = Affine(0.5, 0, 600000, 0, -0.5, 3400000)


def image(path: Path, values: np.ndarray, **options) -> None:
    """A GeoTIFF, or a PNG without a place."""
    profile = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    if path.suffix == ".png":
        Image.fromarray(values.transpose(1, 2, 0).squeeze()).save(path)
        return
    place = {"driver": "GTiff", "crs": "EPSG:32614", "transform": PLACE}
    with rasterio.open(path, "w", **{**profile, **place, **options}) as target:
        target.write(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """full.ckpt and plain.ckpt, a narrow MCCRNet with and without its modules; pairs as PNG and as GeoTIFF."""
    folder = tmp_path_factory.mktemp("heat")
    torch.manual_seed(0)
    for name, modules in {"full": True, "plain": False}.items():
        arguments = {"width": 0.0625, "aspca": modules, "ccr": modules}
        network = create_model("mccrnet", **arguments)
        bands, ones = ("red", "green", "blue"), (0.2, 0.2, 0.2)
        card = ModelCard(name, "mccrnet", bands, ones, ones, network_args=arguments, stride=network.stride)
        save_network(network, card, folder / f"{name}.ckpt")
    rng = np.random.default_rng(0)
    dates = [rng.integers(1, 255, (3, 48, 64)).astype(np.uint8) for _ in range(2)]
    image(folder / "a.png", dates[0])
    image(folder / "b.png", dates[1])
    image(folder / "label.png", (dates[0][:1] > 128).astype(np.uint8) * 255)
    image(folder / "small.png", np.zeros((1, 8, 8), np.uint8))
    image(folder / "wide.png", np.ones((3, 8, 1030), np.uint8))
    image(folder / "a.tif", dates[0])
    image(folder / "b.tif", (dates[1][:, :40, :50].astype(np.uint16) * 9), transform=PLACE @ Affine.translation(4, 2))
    return folder


def call(folder: Path, *arguments: object) -> tuple[int, str]:
    """Exit code, and all output on one line."""
    done = CliRunner().invoke(cli.app, ["figure", *map(str, arguments)], env={"COLUMNS": "300"})
    return done.exit_code, " ".join(done.output.split())


def heat(folder: Path, *more: object, models: tuple[str, ...] = ("full.ckpt",), pair: str = "png") -> tuple[int, str]:
    files = [folder / model for model in models] + [folder / f"a.{pair}", folder / f"b.{pair}"]
    return call(folder, "heat", *files, *more)


@pytest.mark.parametrize("pair", ["png", "tif"])
def test_with_and_without_modules_side_by_side(folder, tmp_path, pair):
    out = tmp_path / "f.svg"
    layers = ["--layer", "attention.0", "--layer", "refine.relation:changed", "--layer", "decoder.0"]
    code, text = heat(
        folder, *layers, "-o", out, "--names", "with,without", models=("full.ckpt", "plain.ckpt"), pair=pair
    )
    assert code == 0, text
    assert text.endswith(str(out))
    picture = out.read_text()
    # 2 models: 2 dates, and a grey image and a map for each of 4 and 3 maps; one bar for each of 3 and 2 layers
    assert picture.count("<image") == 2 * 2 + 2 * (4 + 3) + 3 + 2


def test_a_window_a_label_and_a_place_to_look_from(folder, tmp_path):
    code, text = heat(
        *(folder, "--layer", "attention.2.position:before-after", "--window", "8,16,32,40", "--at", "20,30"),
        *("--label", folder / "label.png", "--reduce", "norm", "--opacity", 1, "--width", 88, "-o", tmp_path / "f.png"),
    )
    assert code == 0, text
    with Image.open(tmp_path / "f.png") as made:
        assert made.width == pytest.approx(88 / 25.4 * 300, abs=2)


def test_the_list_of_layers(folder):
    code, text = heat(folder, "--layers", models=("full.ckpt", "plain.ckpt"))
    assert code == 0
    assert "Layers of full" in text
    assert "Layers of plain" in text
    assert "refine.relation │ RegionRelation │ attention │ 2 x 48 x 64" in text
    assert "attention.0 │ CrossAttention │ features │ before 4 x 24 x 32, after 4 x 24 x 32" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "--layer", "encoder"], "--layers lists the layers and draws nothing"),
        (["--layer", "encoder"], "give --layer NAME (--layers lists the names) and a file to write with -o"),
        (["-o", "f.png"], "give --layer NAME"),
        (["--layer", "decoder.0", "-o", "f.gif"], "f.gif is no name of a figure"),
        (["--layer", "decode.0", "-o", "f.png"], "no layer 'decode.0'; did you mean decoder.0"),
        (["--layer", "attention.0:now", "-o", "f.png"], "has the maps before, after, not 'now'"),
        (["--layer", "decoder.0:before", "-o", "f.png"], "has one map without a name, not 'before'"),
        (
            ["--layer", "decoder.0", "--window", "1,2,3", "-o", "f.png"],
            "--window is '1,2,3'; give ROW,COL,HEIGHT,WIDTH",
        ),
        (["--layer", "decoder.0", "--window", "1,2,0,4", "-o", "f.png"], "sizes above 0"),
        (["--layer", "decoder.0", "--window", "40,2,30,4", "-o", "f.png"], "reach beyond the grid of 48 x 64"),
        (["--layer", "decoder.0", "--at", "a,1", "-o", "f.png"], "--at is 'a,1'; give ROW,COL or ROW,COL,HEIGHT,WIDTH"),
        (["--layer", "decoder.0", "--at", "48,1", "-o", "f.png"], "--at 48,1 is not within rows 0 to 48"),
        (["--layer", "decoder.0", "--at", "4,1", "-o", "f.png"], "no layer drawn has such queries; leave it out"),
        (["--layer", "decoder.0", "--opacity", "2", "-o", "f.png"], "opacity is 2; it must be above 0 and at most 1"),
        (["--layer", "decoder.0", "--width", "2", "-o", "f.png"], "give a width of 40 to 500 mm"),
        (["--layer", "decoder.0", "--names", "a,b", "-o", "f.png"], "--names gives 2 names for 1"),
        (["--layer", "decoder.0", "--reduce", "sum", "-o", "f.png"], "'sum' is not one of 'mean', 'max', 'norm'"),
        (["--layer", "decoder.0", "--bands", "1,2", "-o", "f.png"], "takes 3 bands"),
        (["--layer", "decoder.0", "--device", "tpu9", "-o", "f.png"], "--device tpu9 is not here"),
    ],
)
def test_what_heat_refuses(folder, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, text = heat(folder, *options)
    assert (code, message in text) == (2, True), text
    assert list(tmp_path.iterdir()) == []


def test_files_that_heat_refuses(folder, tmp_path, monkeypatch):
    onnx = shipped_models()["buildings"]
    out = tmp_path / "f.png"
    ask = ["--layer", "decoder.0", "-o", out]
    both = ("full.ckpt", "plain.ckpt")
    refused = {
        "none of the networks has a layer 'decoder.9'; did you mean": heat(
            *(folder, "--layer", "decoder.9", "-o", out), models=both
        ),
        "small.png is 8 x 8, the first date 48 x 64": heat(folder, *ask, "--label", folder / "small.png"),
        "a label with 3 differing bands": heat(folder, *ask, "--label", folder / "a.png"),
        "8 x 1030 pixels are too many": call(folder, "heat", folder / "full.ckpt", *[folder / "wide.png"] * 2, *ask),
        "buildings.onnx is an ONNX file": call(folder, "heat", onnx, *[folder / "a.png"] * 2, *ask),
        "there is no model 'nothing'": call(folder, "heat", "nothing", *[folder / "a.png"] * 2, *ask),
        "is not a checkpoint": call(folder, "heat", *[folder / "a.png"] * 3, *ask),
    }
    for message, (code, text) in refused.items():
        assert (code, message in text) == (2, True), (message, text)
    assert not out.exists()
    out.write_text("mine")
    assert "is there already" in heat(folder, *ask)[1]
    monkeypatch.setitem(sys.modules, "terradelta.lab.networks.checkpoint", None)
    code, text = heat(folder, "--layers")
    assert (code, "`figure heat` needs the optional dependencies [train]" in text) == (1, True)


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("grid", ["default", "--data", "DATA", "-o", "f.gif"], "f.gif is no name of a figure"),
        ("grid", ["default", "--data", "DATA", "-o", "f.png", "--names", "a,b"], "--names gives 2 names for 1"),
        ("grid", ["default", "--data", "DATA", "-o", "f.png", "--width", "9"], "give a width of 40 to 500 mm"),
        ("grid", ["default", "--data", "DATA", "-o", "f.png", "--limit", "0"], "0 pairs cannot be scored"),
        ("grid", ["default", "--data", "DATA", "-o", "f.png", "--split", "val"], "val"),
        ("grid", ["default", "--data", "nowhere", "-o", "f.png"], "nowhere"),
        ("grid", ["nothing", "--data", "DATA", "-o", "f.png"], "there is no model 'nothing'"),
        ("grid", ["default", "--data", "DATA", "-o", "f.png", "--device", "cuda"], "runs on the CPU"),
        ("curves", ["nowhere", "-o", "f.png"], "does not exist; give the folder of a training run"),
        ("curves", ["DATA", "-o", "f.gif"], "f.gif is no name of a figure"),
        ("curves", ["RUN", "-o", "f.png", "--width", "9"], "give a width of 40 to 500 mm"),
        ("curves", ["RUN", "-o", "f.png", "--names", "a,b"], "--names gives 2 names for 1"),
        ("curves", ["RUN", "-o", "RUN"], "is there already"),
    ],
)
def test_what_grid_and_curves_refuse(folder, tmp_path, monkeypatch, command, options, message):
    monkeypatch.chdir(tmp_path)
    for part in ("A", "B", "label"):
        (tmp_path / "DATA" / "test" / part).mkdir(parents=True)
        name = "label.png" if part == "label" else "a.png"
        (tmp_path / "DATA" / "test" / part / "x.png").write_bytes((folder / name).read_bytes())
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "log.csv").write_text("step,loss,lr,val_f1\n1,2.5,0.1,\n")
    code, text = call(folder, command, *options)
    assert (code, message in text) == (2, True), text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DATA", "RUN"]
