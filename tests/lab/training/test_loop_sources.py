"""Training runs on what `open_pairs` gives: mosaics on two grids with polygons, and bands in files of their own."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from terradelta.lab.data import open_pairs
from terradelta.lab.data.scenes import OSCD_BANDS, OSCD_CITIES
from terradelta.lab.training.config import Recipe
from terradelta.lab.training.loop import CollapseWarning, fit

UTM = "EPSG:32614"
PLACE = Affine(0.5, 0, 600000, 0, -0.5, 3400000)
SHORT = {"network": "fc_siam_diff", "crop_px": 32, "batch_size": 2, "steps": 3, "warmup_steps": 1, "eval_every": 3}


def save(path: Path, values: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **options) as target:
        target.write(values)


def run(recipe: Recipe, location: Path, out: Path) -> dict[str, object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        card = fit(recipe, open_pairs(location, "train"), open_pairs(location, "val"), out)
    return card.scores[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_mosaics_with_polygons(tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.integers(1, 255, (2, 3, 96, 96)).astype(np.uint8)
    after[:, :10, :10] = 0
    save(tmp_path / "before.tif", before, crs=UTM, transform=PLACE, tiled=True, blockxsize=16, blockysize=16)
    save(tmp_path / "after.tif", after, crs=UTM, transform=PLACE @ Affine.translation(3, 2), nodata=0)
    ring = [PLACE @ corner for corner in ((20, 10), (60, 10), (60, 90), (20, 90), (20, 10))]
    area = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    named = {"type": "name", "properties": {"name": UTM}}
    (tmp_path / "areas.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": [area]}))
    line = "before.tif,after.tif,areas.geojson"
    (tmp_path / "p.csv").write_text(
        f"before,after,label,split,window\n{line},train,0 0 60 96\n{line},val,60 0 36 96\n",
    )
    recipe = Recipe("mosaic", **SHORT, precision="32-true", workers=workers, data="Mosaic", licence="Any")
    score = run(recipe, tmp_path / "p.csv", tmp_path / "run")
    assert score["split"] == "val"
    assert 0 <= score["metrics"]["f1"] <= 1


def test_thirteen_bands_in_files_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = tmp_path / "Onera Satellite Change Detection dataset - Images"
    labels = tmp_path / "Onera Satellite Change Detection dataset - Train Labels"
    for city in OSCD_CITIES["train"]:
        for date in (1, 2):
            for band in OSCD_BANDS:
                save(
                    images / city / f"imgs_{date}_rect/{band}.tif", rng.integers(0, 4000, (1, 34, 36)).astype(np.uint16)
                )
        save(labels / city / f"cm/{city}-cm.tif", rng.integers(1, 3, (1, 34, 36)).astype(np.uint8))
    recipe = Recipe(
        "oscd",
        **SHORT,
        precision="32-true",
        workers=0,
        data="OSCD",
        licence="Any",
        bands=OSCD_BANDS,
        scale=10000.0,
        network_args={"in_channels": 13},
    )
    score = run(recipe, tmp_path, tmp_path / "run")
    assert score["split"] == "val"
    assert 0 <= score["metrics"]["f1"] <= 1
