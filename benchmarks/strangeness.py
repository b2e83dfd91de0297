"""How unlike its training images a model finds others: what `map` warns of, for whole groups of pairs.

    python benchmarks/strangeness.py -o FILE.csv NAME=A,B ...

A and B are two images, or two folders whose images of one name are pairs. Of each group: how many pairs, the median and
the largest strangeness of their stranger dates, and how many are beyond the model's limit.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from terradelta.mapping.strangeness import strangeness_of
from terradelta.predict.load import load_predictor
from terradelta.raster.pair import open_pair
from terradelta.raster.scaling import scaling_of

COLUMNS = ("images", "pairs", "median", "largest", "limit", "beyond")


def pairs(text: str) -> Iterator[tuple[Path, Path]]:
    """The pairs of ``A,B``."""
    before, after = map(Path, text.split(","))
    if before.is_dir():
        yield from ((path, after / path.name) for path in sorted(before.iterdir()) if (after / path.name).is_file())
    else:
        yield before, after


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="+")
    parser.add_argument("--model", default="default")
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.model)
    limit = predictor.card.domain_limit
    if limit is None:
        raise SystemExit(f"{arguments.model} does not tell how strange an image is; see terradelta export --domain")
    rows = []
    for group in arguments.groups:
        name, _, places = group.partition("=")
        found = []
        for before, after in pairs(places):
            with open_pair(before, after, wanted=predictor.card.bands) as pair:
                values = strangeness_of(pair, predictor, scaling_of(pair, predictor.card))
            found += [] if values is None else [float(values.max())]
        beyond = sum(value > limit for value in found)
        rows.append((name, len(found), f"{np.median(found):.2f}", f"{max(found):.2f}", limit, beyond))
        print(*rows[-1], flush=True)
    with arguments.out.open("w", newline="") as target:
        csv.writer(target, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
