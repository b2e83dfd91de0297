"""Whole files to damage, a few hundred bytes to some kilobytes each, and the commands that read them."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import rasterio.warp
from affine import Affine
from PIL import Image
from rasterio.vrt import WarpedVRT

from terradelta.area.measure import draw
from terradelta.card import CARD_KEY, ModelCard
from terradelta.mapping.run import map_change
from terradelta.predict.classical import load_method

from .mutate import mutate_bytes, mutate_text

__all__ = ["Case", "Samples"]

SIDE = 48
TIFFS: dict[str, dict[str, object]] = {
    "plain": {},
    "deflate": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "predictor": 2},
    "lzw": {"compress": "lzw", "interleave": "band", "nodata": 0},
    "jpeg": {"compress": "jpeg", "photometric": "ycbcr", "tiled": True, "blockxsize": 16, "blockysize": 16},
    "float": {"dtype": "float32", "nodata": float("nan"), "compress": "zstd"},
    "big": {"bigtiff": "yes", "dtype": "uint16", "compress": "packbits"},
    "cog": {"driver": "COG", "blocksize": 128, "compress": "deflate"},
    "mask": {"compress": "deflate"},
}
PLACE = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
VRT = (
    '<VRTDataset rasterXSize="48" rasterYSize="48"><SRS>EPSG:32614</SRS>'
    "<GeoTransform>600000, 0.5, 0, 3400000, 0, -0.5</GeoTransform>{}</VRTDataset>"
)
BAND = (
    '<VRTRasterBand dataType="Byte" band="{0}"><NoDataValue>0</NoDataValue><ColorInterp>Gray</ColorInterp>'
    '<ComplexSource><SourceFilename relativeToVRT="1">plain.tif</SourceFilename><SourceBand>{0}</SourceBand>'
    '<SourceProperties RasterXSize="48" RasterYSize="48" DataType="Byte" BlockXSize="48" BlockYSize="48"/>'
    '<SrcRect xOff="0" yOff="0" xSize="48" ySize="48"/><DstRect xOff="0" yOff="0" xSize="48" ySize="48"/>'
    "<ScaleOffset>0</ScaleOffset><ScaleRatio>1</ScaleRatio></ComplexSource></VRTRasterBand>"
)


@dataclass(frozen=True)
class Case:
    """A damaged file, and the arguments of a command that reads it; ``{file}`` is its name."""

    name: str
    content: bytes
    arguments: tuple[str, ...]


class Samples:
    """Whole files in a folder, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, options in TIFFS.items():
            _tiff(folder / f"{name}.tif", name, options)
        (folder / "stack.vrt").write_text(VRT.format("".join(BAND.format(n) for n in (1, 2, 3))))
        nested = VRT.format("".join(BAND.format(n).replace("plain.tif", "stack.vrt") for n in (1, 2, 3)))
        (folder / "nested.vrt").write_text(nested)
        with rasterio.open(folder / "plain.tif") as file, WarpedVRT(file, crs="EPSG:4326") as view:
            rasterio.shutil.copy(view, folder / "warped.vrt", driver="VRT")
        _onnx(folder / "tiny.onnx")
        _geojson(folder / "area.geojson")
        _stac(folder / "item.json")
        lines = ("before,after,name,aoi,threshold", "plain.tif,after.tif,one,area.geojson,0.5", "lzw.tif,big.tif,two,,")
        (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
        _product(folder)
        _data(folder / "data" / "test")
        self._makers: dict[str, Callable[[random.Random], Case]] = {
            "tiff": self._of_tiff,
            "vrt": self._of_vrt,
            "onnx": self._of_onnx,
            "geojson": self._of_geojson,
            "stac": self._of_stac,
            "csv": self._of_csv,
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of files that `case` takes."""
        return tuple(self._makers)

    def case(self, kind: str, seed: int) -> Case:
        """The damaged file of a kind and a seed."""
        return self._makers[kind](random.Random(f"{kind} {seed}"))

    def _of_tiff(self, draw: random.Random) -> Case:
        whole = (self.folder / f"{draw.choice(list(TIFFS))}.tif").read_bytes()
        return Case("fuzz.tif", mutate_bytes(whole, draw), _pair(draw))

    def _of_vrt(self, draw: random.Random) -> Case:
        whole = (self.folder / draw.choice(("stack.vrt", "nested.vrt", "warped.vrt"))).read_text()
        return Case("fuzz.vrt", mutate_text(whole, draw), _pair(draw))

    def _of_onnx(self, draw: random.Random) -> Case:
        whole = (self.folder / "tiny.onnx").read_bytes()
        return Case("fuzz.onnx", mutate_bytes(whole, draw), ("map", "plain.tif", "after.tif", "--model", "{file}"))

    def _of_geojson(self, draw: random.Random) -> Case:
        whole = (self.folder / "area.geojson").read_text()
        return Case("fuzz.geojson", mutate_text(whole, draw), (*_method("plain.tif", "after.tif"), "--aoi", "{file}"))

    def _of_stac(self, draw: random.Random) -> Case:
        whole = (self.folder / "item.json").read_text()
        files = draw.choice((("{file}", "{file}"), ("{file}", "item.json")))
        return Case("fuzz.json", mutate_text(whole, draw), (*_method(*files), "--bands", "red,nir"))

    def _of_csv(self, draw: random.Random) -> Case:
        whole = (self.folder / "pairs.csv").read_text()
        return Case("fuzz.csv", mutate_text(whole, draw), ("map", "--pairs", "{file}", "--method", "cva"))


def _product(folder: Path) -> None:
    """``product``, a map in which a square changed, and ``labelled.csv``, samples of it."""
    before = np.random.default_rng(0).integers(60, 90, (3, SIDE, SIDE)).astype(np.uint8)
    after = before.copy()
    after[:, 10:30, 15:40] += 120
    pair = [folder / f"{name}_of_product.tif" for name in ("before", "after")]
    profile = {"driver": "GTiff", "count": 3, "height": SIDE, "width": SIDE, "dtype": "uint8"}
    for path, values in zip(pair, (before, after), strict=True):
        with rasterio.open(path, "w", crs="EPSG:32614", transform=PLACE, **profile) as file:
            file.write(values)
    map_change(*pair, folder / "product", load_method("cva"))
    draw(folder / "product", 20, folder / "labelled.csv", seed=0)
    head, *lines = (folder / "labelled.csv").read_text().splitlines()
    (folder / "labelled.csv").write_text("\n".join([head, *(f"{line}{k % 2}" for k, line in enumerate(lines))]))


def _data(split: Path) -> None:
    """Two labelled pairs."""
    rng = np.random.default_rng(0)
    for part in ("A", "B", "label"):
        (split / part).mkdir(parents=True)
        for name in "ab":
            shape = (40, 40) if part == "label" else (40, 40, 3)
            values = rng.integers(0, 2 if part == "label" else 255, shape) * (255 if part == "label" else 1)
            Image.fromarray(values.astype(np.uint8)).save(split / part / f"{name}.png")


def _method(before: str, after: str) -> tuple[str, ...]:
    return ("map", before, after, "--method", "cva")


def _pair(draw: random.Random) -> tuple[str, ...]:
    return _method(*draw.choice((("{file}", "plain.tif"), ("plain.tif", "{file}"), ("{file}", "{file}"))))


def _tiff(path: Path, name: str, options: dict[str, object]) -> None:
    dtype = str(options.get("dtype", "uint8"))
    values = np.random.default_rng(0).integers(1, 255, (3, SIDE, SIDE)).astype(dtype)
    plain = {"driver": "GTiff", "count": 3, "height": SIDE, "width": SIDE, "dtype": dtype}
    target = path.with_name("whole.tif") if options.get("driver") == "COG" else path
    creation = {} if target != path else options
    with rasterio.open(target, "w", crs="EPSG:32614", transform=PLACE, **{**plain, **creation}) as file:
        file.write(values)
        file.update_tags(AREA_OR_POINT="Area", note="x" * 30)
        file.set_band_description(1, "red")
        if name == "mask":
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                file.write_mask(values[0] > 20)
    if target != path:
        rasterio.shutil.copy(target, path, **options)
        target.unlink()
    if name == "plain":
        with rasterio.open(path.with_name("after.tif"), "w", crs="EPSG:32614", transform=PLACE, **plain) as file:
            file.write(values[:, ::-1])


def _onnx(path: Path) -> None:
    """A convolution of the difference of both dates, with a card."""
    import onnx
    from onnx import helper, numpy_helper

    kernel = np.random.default_rng(0).normal(size=(1, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Sub", ["before", "after"], ["d"]),
        helper.make_node("Abs", ["d"], ["a"]),
        helper.make_node("Conv", ["a", "kernel"], ["logits"], pads=[1, 1, 1, 1]),
    ]
    inputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["b", 3, "h", "w"]) for n in ("before", "after")]
    output = [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["b", 1, "h", "w"])]
    graph = helper.make_graph(nodes, "g", inputs, output, [numpy_helper.from_array(kernel, "kernel")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = ModelCard("tiny", "none", ("red", "green", "blue"), (0.5,) * 3, (0.25,) * 3, tile=64, overlap=16)
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, card.to_json()
    path.write_bytes(model.SerializeToString())


def _geojson(path: Path) -> None:
    with rasterio.open(path.with_name("plain.tif")) as file:
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    ring = [[west, south], [east, south], [east, north], [west, south]]
    shapes = [{"type": "Polygon", "coordinates": [ring]}, {"type": "MultiPolygon", "coordinates": [[ring]]}]
    features = [{"type": "Feature", "properties": {"n": i}, "geometry": shape} for i, shape in enumerate(shapes)]
    crs = {"type": "name", "properties": {"name": "EPSG:4326"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


def _stac(path: Path) -> None:
    """An item with two assets that lie beside it."""
    assets = {
        key: {
            "href": f"./{file}.tif",
            "type": "image/tiff; application=geotiff",
            "roles": ["data"],
            "eo:bands": [{"name": name, "common_name": key}],
            "raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}],
            "proj:transform": [0.5, 0, 600000, 0, -0.5, 3400000],
        }
        for key, name, file in (("red", "B04", "big"), ("nir", "B08", "plain"))
    }
    properties = {"platform": "sentinel-2a", "s2:processing_baseline": "05.09", "proj:epsg": 32614}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "x", "properties": properties, "assets": assets}
    path.write_text(json.dumps(item))
