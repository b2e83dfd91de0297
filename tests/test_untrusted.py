"""Files from strangers stay harmless: no code in weights is run, on any way in, and models read no other files."""

import ast
import contextlib
import os
import pickle
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine

from terradelta import cli
from terradelta.card import CARD_KEY, ModelCard
from terradelta.errors import InputError, ModelError
from terradelta.mapping.batch import map_pairs, read_pairs
from terradelta.mapping.plan import MapOptions, make_plan
from terradelta.mapping.run import map_change
from terradelta.predict.classical import load_method
from terradelta.predict.load import load_predictor
from terradelta.predict.openvino import OpenVINOPredictor
from terradelta.raster.aoi import parse_area, read_area
from terradelta.raster.pair import open_pair

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

SOURCES = sorted((Path(__file__).parents[1] / "src").rglob("*.py"))
UNSAFE = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def poisoned(folder: Path) -> dict[str, Path]:
    """Files with a payload in the formats that torch reads; each would make the folder ``ran``."""
    content = {"weights": {"w": torch.zeros(1)}, CARD_KEY: Payload(folder / "ran")}
    zipped, legacy, plain = (folder / f"{name}.ckpt" for name in ("zipped", "legacy", "plain"))
    torch.save(content, zipped)
    torch.save(content, legacy, _use_new_zipfile_serialization=False)
    plain.write_bytes(pickle.dumps(content))
    stored = folder / "array.ckpt"
    np.save(folder / "array.npy", np.array([Payload(folder / "ran")], object), allow_pickle=True)
    (folder / "array.npy").rename(stored)
    return {"zipped": zipped, "legacy": legacy, "plain": plain, "array": stored}


@pytest.mark.parametrize("kind", ["zipped", "legacy", "plain", "array"])
def test_no_way_in_runs_code(tmp_path, kind, monkeypatch, capsys):
    """Prediction, a run's folder, export, resumption of training, ImageNet weights; and the payload does work."""
    from terradelta.lab.networks import create_model
    from terradelta.lab.networks.pretrained import initialise_encoder

    path = poisoned(tmp_path)[kind]
    run = tmp_path / "run"
    run.mkdir()
    for name in ("best.ckpt", "last.ckpt", "state.ckpt"):
        (run / name).write_bytes(path.read_bytes())
    for model in (path, run):
        with pytest.raises(ModelError, match="is not a checkpoint"):
            load_predictor(str(model))
    with pytest.raises(ModelError, match="holds no weights of torch"):
        initialise_encoder(create_model("mlla_sianet_large"), path)
    commands = (
        ("export", str(run), "-o", str(tmp_path / "x.onnx")),
        ("models", str(path)),
        ("evaluate", str(run), "--data", str(tmp_path)),
        ("map", "a.tif", "b.tif", "--model", str(path), "-o", str(tmp_path / "out")),
    )
    for arguments in commands:
        monkeypatch.setattr(sys, "argv", ["terradelta", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2, (arguments, capsys.readouterr().err)
    assert not (tmp_path / "ran").exists()
    if kind == "plain":
        pickle.loads(path.read_bytes())
        assert (tmp_path / "ran").exists()


def test_a_training_state_runs_no_code(tmp_path):
    from terradelta.lab.networks.checkpoint import load_checkpoint

    for path in poisoned(tmp_path).values():
        with pytest.raises(ModelError, match="is not a checkpoint of terradelta"):
            load_checkpoint(path)
    with zipfile.ZipFile(tmp_path / "zipped.ckpt") as archive:
        assert any(b"mkdir" in archive.read(name) for name in archive.namelist())
    assert not (tmp_path / "ran").exists()


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [call for call in found if ast.unparse(call.func).endswith(name)]


def keyword(call: ast.Call, name: str) -> object:
    return next((ast.literal_eval(k.value) for k in call.keywords if k.arg == name), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.name))
def test_the_code_has_no_way_to_unpickle(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & UNSAFE
    for call in (*calls(tree, "torch.load"), *calls(tree, "load_state_dict_from_url")):
        assert keyword(call, "weights_only") is True
    for call in calls(tree, "np.load"):
        assert not keyword(call, "allow_pickle")


def test_a_model_reads_no_file_outside_its_folder(tmp_path):
    """ONNX may keep weights in files beside the model."""
    helper, kinds = onnx.helper, onnx.TensorProto
    (tmp_path / "in").mkdir()
    np.ones(27, np.float32).tofile(tmp_path / "secret.bin")
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "../../../../../../etc/passwd"):
        kernel = kinds(name="k", data_type=kinds.FLOAT, dims=[1, 3, 3, 3], data_location=kinds.EXTERNAL)
        for key, value in (("location", location), ("offset", "0"), ("length", "108")):
            kernel.external_data.add(key=key, value=value)
        nodes = [
            helper.make_node("Sub", ["before", "after"], ["d"]),
            helper.make_node("Conv", ["d", "k"], ["logits"], pads=[1, 1, 1, 1]),
        ]
        takes = [helper.make_tensor_value_info(n, kinds.FLOAT, ["b", 3, "h", "w"]) for n in ("before", "after")]
        gives = [helper.make_tensor_value_info("logits", kinds.FLOAT, ["b", 1, "h", "w"])]
        graph = helper.make_graph(nodes, "g", takes, gives, [kernel])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        card = ModelCard("t", "none", ("red", "green", "blue"), (0.5,) * 3, (0.25,) * 3)
        model.metadata_props.add(key=CARD_KEY, value=card.to_json())
        path = tmp_path / "in" / "m.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
            OpenVINOPredictor(path, threads=1)


BOMB = """
import resource, sys
from pathlib import Path
import numpy as np
from terradelta.errors import ModelError
from terradelta.predict.openvino import OpenVINOPredictor
resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9))
images = np.zeros((1, 3, int(sys.argv[2]), 512), np.uint8)
try:
    OpenVINOPredictor(Path(sys.argv[1]), threads=1).predict(images, images)
except ModelError as error:
    print(error)
"""


@pytest.mark.parametrize("height", [32, 512])
@pytest.mark.parametrize("size", [10**9, 10**11])
def test_a_model_that_would_fill_the_memory_ends_with_a_message(tmp_path, size, height):
    """A few hundred bytes that unfold to gigabytes; the limit stands in for a machine's memory."""
    helper, kinds, array = onnx.helper, onnx.TensorProto, onnx.numpy_helper.from_array
    nodes = [
        helper.make_node("Sub", ["before", "after"], ["d"]),
        helper.make_node("ConstantOfShape", ["size"], ["big"], value=array(np.ones(1, np.float32))),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Conv", ["d", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "sum"], ["logits"]),
    ]
    takes = [helper.make_tensor_value_info(n, kinds.FLOAT, ["b", 3, "h", "w"]) for n in ("before", "after")]
    gives = [helper.make_tensor_value_info("logits", kinds.FLOAT, ["b", 1, "h", "w"])]
    weights = [array(np.ones((1, 3, 3, 3), np.float32), "k"), array(np.array([size]), "size")]
    graph = helper.make_graph(nodes, "g", takes, gives, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = ModelCard("t", "none", ("red", "green", "blue"), (0.5,) * 3, (0.25,) * 3)
    model.metadata_props.add(key=CARD_KEY, value=card.to_json())
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size < 2000
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path), str(height)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "OpenVINO cannot run this network" in done.stdout
    assert "Traceback" not in done.stderr


def claims(path: Path, height: int, width: int) -> Path:
    """A TIFF of some kilobytes whose header claims any size."""
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32614", "SPARSE_OK": True, "tiled": True}
    place = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
    blocks = {"blockxsize": min(4096, width), "blockysize": min(4096, height)}
    with rasterio.open(path, "w", height=height, width=width, transform=place, **blocks, **profile):
        pass
    return path


def test_headers_that_claim_any_size(tmp_path):
    """Too wide for the memory is refused; very tall is planned at once, without a list that grows with it."""
    path = claims(tmp_path / "wide.tif", 64, 2**26)
    predictor = load_predictor("default", threads=1)
    with pytest.raises(InputError, match=r"wide, for which .* GB are needed.*give an area of interest"):
        map_change(path, path, tmp_path / "out", predictor)
    assert not (tmp_path / "out").exists()
    path = claims(tmp_path / "tall.tif", 2**26, 64)
    assert path.stat().st_size < 1e6
    with open_pair(path, path) as pair:
        begun = time.process_time()
        plan = make_plan(pair, predictor, None, MapOptions())
    assert time.process_time() - begun < 10
    assert len(plan.tiles.row_spans) < 10_000


@pytest.mark.parametrize("name", ["/vsicurl/{}", "/vsizip//vsicurl/{}", "{}", "/vsicurl/{}|layername=a"])
def test_an_area_leads_nowhere(tmp_path, tripwire, name):
    """Neither on the command line nor from a table of pairs, where it is a text that strangers may write."""
    name = name.format(tripwire.url("a.gpkg"))
    with pytest.raises(InputError, match=r"is neither a file nor|No such file"):
        parse_area(name)
    table = tmp_path / "pairs.csv"
    table.write_text(f'before,after,aoi\na.tif,b.tif,"{name}"\n/vsicurl/{tripwire.url("a.tif")},b.tif,\n')
    outcomes = list(map_pairs(table, tmp_path / "out", load_method("cva"), MapOptions()))
    assert [outcome.receipt for outcome in outcomes] == [None, None]


def test_a_view_in_a_geopackage_reads_no_other_file(tmp_path, tripwire):
    """SQLite calls functions that a view names, and GDAL adds one that reads rasters."""
    path = tmp_path / "a.gpkg"
    square = shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)]))
    pyogrio.raw.write(path, square, [np.array([1])], ["n"], layer="a", geometry_type="Polygon", crs="EPSG:4326")
    call = f"gdal_get_pixel_value('/vsicurl/{tripwire.url('a.tif')}', 1, 'pixel', 0, 0)"
    with contextlib.closing(sqlite3.connect(path)) as base, base:
        for name in ("gpkg_contents", "gpkg_geometry_columns"):
            columns = [row[1] for row in base.execute(f"PRAGMA table_info({name})") if row[1] != "table_name"]
            listed = ", ".join(columns).replace("identifier", "'v'")
            plain = ", ".join(columns)
            base.execute(f"INSERT INTO {name} (table_name, {plain}) SELECT 'v', {listed} FROM {name}")
        base.execute(f"CREATE VIEW v AS SELECT fid, geom, {call} AS n FROM a WHERE {call} IS NULL OR 1")
    with contextlib.suppress(InputError):
        read_area(f"{path}|layername=v")


def test_links_and_special_files_are_no_way_out(tmp_path):
    """A pipe would be waited for for ever; a link to nowhere, and a folder that names itself, are named."""
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    (tmp_path / "gone.tif").symlink_to("nothing.tif")
    for name in ("pipe.tif", "loop.tif", "gone.tif"):
        with pytest.raises(InputError, match=name.partition(".")[0]):
            open_pair(tmp_path / name, tmp_path / name)
        with pytest.raises(InputError):
            parse_area(str(tmp_path / name))
        if name != "pipe.tif":  # a table may come from a pipe
            with pytest.raises(InputError):
                read_pairs(tmp_path / name)
        with pytest.raises(ModelError):
            load_predictor(str(tmp_path / name))
