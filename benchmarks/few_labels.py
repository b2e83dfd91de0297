"""How much a few labelled tiles of another data set help: F1 on its test split after `terradelta train --from`.

For each number of tiles, draws of so many labelled pairs are fitted, and the model before and after is scored on the
test split, which nothing was chosen on. The pairs are of the split ``--labels``: in the DSIFN-subset ``val`` shows the
city of ``test``, as labels of one's own ground do, and ``train`` shows others. One thread. A run that was stopped goes
on where it was; every line of the result is written as soon as it is known.

    python benchmarks/few_labels.py DATA OUT --tiles 5 10 20 50 --draws 3

DATA holds {train,val,test}/{A,B,label}; OUT gets the runs and ``few_labels.csv``.
"""

import argparse
import csv
import os
import random
import time
from pathlib import Path

import torch

from terradelta.files import whole_file
from terradelta.lab.data import open_pairs
from terradelta.lab.data.pairs import PairList, PairSource
from terradelta.lab.evaluation import evaluate
from terradelta.lab.inference.torch_predictor import TorchPredictor
from terradelta.lab.networks.checkpoint import load_network
from terradelta.lab.training.finetune import FineTuning, finetune
from terradelta.predict.load import find_checkpoint

COLUMNS = ("tiles", "draw", "f1", "low", "high", "precision", "recall", "threshold", "steps", "cpu_s", "wall_s")


def main() -> None:
    """Measure what the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="buildings")
    parser.add_argument("--labels", choices=("train", "val"), default="val")
    parser.add_argument("--tiles", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out / "few_labels.csv"
    rows = list(csv.DictReader(table.open(newline=""))) if table.is_file() else []
    done = {(int(row["tiles"]), int(row["draw"])) for row in rows}
    for draw in range(1, given.draws + 1):
        for tiles in (0, *given.tiles):
            if (tiles, draw) in done or (not tiles and draw > 1):
                continue
            rows.append(measure(given, tiles, draw))
            with whole_file(table) as temporary, temporary.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            print(*(f"{name}={rows[-1][name]}" for name in COLUMNS), flush=True)


def measure(given: argparse.Namespace, tiles: int, draw: int) -> dict[str, str]:
    """Fit some tiles, or none, and score on the test split."""
    started, cpu = time.monotonic(), time.process_time()
    model, out = given.model, given.out
    path = find_checkpoint(model)
    if tiles:
        path = out / f"{tiles:03d}_{draw}"
        seconds = path.with_suffix(".seconds")
        folder = drawn(open_pairs(given.data, given.labels), out / f"tiles_{tiles:03d}_{draw}", tiles, draw)
        request = FineTuning(model, path, str(folder), resume=True, device="cpu")
        try:
            for line in finetune(request, announce=lambda sentence: print(sentence, flush=True)).lines():
                print(line, flush=True)
        finally:
            spent = [time.monotonic() - started, time.process_time() - cpu]
            before = map(float, seconds.read_text().split()) if seconds.is_file() else (0.0, 0.0)
            spent = [now + then for now, then in zip(spent, before, strict=True)]
            seconds.write_text(" ".join(map(str, spent)))
    else:
        spent = [0.0, 0.0]
    network, card = load_network(path)
    found = evaluate(TorchPredictor(network, card, "cpu", bf16=False), open_pairs(given.data, "test"))
    intervals = found.intervals()
    low, high = intervals.metrics["f1"] if intervals is not None else (0.0, 0.0)
    scores = found.total
    numbers = (scores.f1, low, high, scores.precision, scores.recall, card.threshold)
    steps = str(card.training.get("steps", 0) if tiles else 0)
    texts = (str(tiles), str(draw), *(f"{x:.4f}" for x in numbers), steps, f"{spent[1]:.0f}", f"{spent[0]:.0f}")
    return dict(zip(COLUMNS, texts, strict=True))


def drawn(pairs: PairSource, folder: Path, tiles: int, draw: int) -> Path:
    """A folder of links to so many of the pairs by the number of the draw; smaller draws lie in larger ones."""
    assert isinstance(pairs, PairList)
    files = sorted(pairs.files, key=lambda each: each.name)
    random.Random(draw).shuffle(files)
    for each in files[:tiles]:
        for part, path in (("A", each.before), ("B", each.after), ("label", each.label)):
            link = folder / "train" / part / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.symlink(path.resolve(), link)
    return folder


if __name__ == "__main__":
    main()
