"""What 30 verdicts teach: a script judges maps by their labels, a model learns from that, other pairs are scored.

The test pairs of a labelled data set become GeoTIFFs. In each draw half of them are mapped and judged: of each map the
largest polygons are accepted, where at least half of one has changed by the label, or rejected; the largest changes
that the map missed are drawn, and so is whatever else the judge saw there and the map has not. `terradelta train
--review` learns from that, and the other half is scored before and after, at each model's own threshold. One thread; a
run that was stopped goes on where it was.

    python benchmarks/scripted_judge.py DATA OUT --verdicts 30 --draws 3

DATA holds test/{A,B,label}; OUT gets the maps, the runs and ``scripted_judge.csv``.
"""

import argparse
import csv
import json
import random
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import shapes

from terradelta.files import whole_file
from terradelta.geo.grid import Grid
from terradelta.lab.data import open_pairs
from terradelta.lab.data.pairs import LabelledPair, PairList
from terradelta.lab.data.writing import write_image
from terradelta.lab.evaluation import evaluate
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.networks.checkpoint import load_network
from terradelta.lab.training.finetune import FineTuning, finetune
from terradelta.mapping.plan import MapOptions
from terradelta.mapping.run import map_change
from terradelta.predict.load import find_checkpoint, load_predictor
from terradelta.review.painting import SEEN_PX
from terradelta.review.reading import polygons_of
from terradelta.review.store import ReviewStore
from terradelta.view.serving import View
from terradelta.view.view_session import ViewOptions

COLUMNS = ("draw", "verdicts", "accepted", "rejected", "drawn", "f1_before", "f1_after", "precision_before",
           "precision_after", "recall_before", "recall_after", "steps", "cpu_s", "wall_s")  # fmt: skip
PIXEL_M, LEAST_PX, COVERED, RIGHT = 2.0, 100, 0.7, 0.5


def main() -> None:
    """Measure what the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--verdicts", type=int, default=30)
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    pairs = open_pairs(given.data, "test")
    table = given.out / "scripted_judge.csv"
    rows = list(csv.DictReader(table.open(newline=""))) if table.is_file() else []
    for draw in range(len(rows) + 1, given.draws + 1):
        rows.append(one_draw(pairs, given.model, given.out / f"draw_{draw}", draw, given.verdicts))
        with whole_file(table) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        print(*(f"{name}={rows[-1][name]}" for name in COLUMNS), flush=True)


def one_draw(pairs: Any, model: str, out: Path, draw: int, verdicts: int) -> dict[str, str]:  # noqa: ANN401  a source
    """Map, judge, teach, score."""
    started, cpu = time.monotonic(), time.process_time()
    order = sorted(range(len(pairs)), key=lambda k: str(pairs.files[k].name))
    random.Random(draw).shuffle(order)
    judged, others = order[: len(order) // 2], order[len(order) // 2 :]
    products, kinds = [], {"accepted": 0, "rejected": 0, "drawn": 0}
    share = -(-verdicts // len(judged))
    for number, k in enumerate(judged):
        product, pair = out / f"map_{number}", pairs.read(k)
        if not (product / "review.gpkg").exists():
            grid = Grid(
                CRS.from_epsg(32649), Affine(PIXEL_M, 0, 3e5 + 1e4 * number, 0, -PIXEL_M, 4e6), pair.label.shape
            )
            before, after = (out / f"{date}_{number}.tif" for date in ("before", "after"))
            for path, values in ((before, pair.before), (after, pair.after)):
                write_image(path, values, grid)
            if not (product / "receipt.json").exists():
                map_change(before, after, product, load_predictor(model, threads=1), MapOptions(anyway=True))
            tell(product, judge(polygons_of(product), pair, grid, share))
        for row in ReviewStore(product).rows():
            name = "drawn" if row.kind == "drawn" else {"accept": "accepted", "reject": "rejected"}[row.verdict]
            kinds[name] += 1
        products.append(product)
    request = FineTuning(model, out / "run", reviews=tuple(products), resume=True, device="cpu")
    for line in finetune(request, announce=lambda sentence: print(sentence, flush=True)).lines():
        print(line, flush=True)
    spent = (time.process_time() - cpu, time.monotonic() - started)
    left = PairList(pairs.root, pairs.split, tuple(pairs.files[k] for k in others), pairs.name)
    first, then = (score(path, left) for path in (find_checkpoint(model), out / "run"))
    steps = load_network(out / "run")[1].training["steps"]
    scores = [f"{one[name]:.4f}" for name in ("f1", "precision", "recall") for one in (first, then)]
    counts = (draw, sum(kinds.values()), *kinds.values())
    return dict(zip(COLUMNS, (*map(str, counts), *scores, str(steps), *(f"{s:.0f}" for s in spent)), strict=True))


def tell(product: Path, verdicts: Sequence[dict[str, Any]]) -> None:
    """Give verdicts through the API of the page."""
    with View(product, ViewOptions(author="script")) as view:
        for verdict in verdicts:
            body = json.dumps(verdict).encode()
            request = urllib.request.Request(
                f"{view.url}api/review",
                body,
                {"Content-Type": "application/json", "Origin": view.url.rsplit("/", 2)[0]},
            )
            urllib.request.urlopen(request).close()


def score(path: Path, pairs: PairList) -> dict[str, float]:
    """Precision, recall and F1 at the model's own threshold, whole images."""
    network, card = load_network(path)
    return evaluate(TorchPredictor(network, card, "cpu", bf16=False), pairs).total.metrics()


def judge(polygons: dict[int, shapely.Geometry], pair: LabelledPair, grid: Grid, share: int) -> list[dict[str, Any]]:
    """What a careful person who knows the label says in ``share`` looks and what these show, as the API takes it."""
    found = shapely.union_all(list(polygons.values()))
    changes = [shape for shape in areas(pair.label, grid) if shape.area >= LEAST_PX * PIXEL_M**2]
    missed = [shape for shape in changes if shape.intersection(found).area < COVERED * shape.area]
    truth = shapely.union_all(changes)
    largest = sorted(polygons.items(), key=lambda item: -item[1].area)
    looks = largest[: max(share - len(missed), share // 2)]
    given = [
        {
            "kind": "judged",
            "polygon": k,
            "verdict": "accept" if shape.intersection(truth).area >= RIGHT * shape.area else "reject",
        }
        for k, shape in looks
    ]
    missed.sort(key=lambda shape: -shape.area)
    drawn = missed[: max(share - len(given), 0)]
    while True:  # what lies around is seen as well
        boxes = [
            shapely.box(*shape.bounds).buffer(SEEN_PX * PIXEL_M) for shape in [shape for _, shape in looks] + drawn
        ]
        more = [shape for shape in missed if shape not in drawn and any(shape.intersects(box) for box in boxes)]
        if not more:
            return given + [{"kind": "drawn", "geometry": shapely.geometry.mapping(shape)} for shape in drawn]
        drawn += more


def areas(label: NDArray[np.bool_], grid: Grid) -> Sequence[shapely.Geometry]:
    """The changes of a label as polygons."""
    found = shapes(label.astype(np.uint8), mask=label, transform=grid.transform)
    return [shapely.geometry.shape(outline) for outline, _ in found]


if __name__ == "__main__":
    main()
