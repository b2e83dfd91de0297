"""What `map --cascade` keeps and leaves out: thresholds chosen on one split, and looked at once on another.

    python benchmarks/cascade.py DATA [--model default] [--precision f32] [--choose val] [--check test] [--factors 2 4]

DATA is a folder of labelled pairs. Prints for each share of the changes that is to be kept: the threshold; how many
changes it misses on the first split, and which share of blocks and of whole images it leaves out; then the share of the
changes that it keeps on the second split, the lower bound of that, and again what it leaves out.
"""

import argparse

import numpy as np

from terradelta.lab.data import open_pairs
from terradelta.lab.evaluation.cascade_recall import cascade_scores, measure_cascade
from terradelta.predict.cascade import lower_bound
from terradelta.predict.load import load_predictor


def main() -> None:
    """Parse, choose, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="default")
    parser.add_argument("--precision", default="f32", help="as for `terradelta map`")
    parser.add_argument("--choose", default="val", help="split that thresholds are chosen on")
    parser.add_argument("--check", default="test", help="split that they are looked at on")
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 4])
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.model, threads=1, precision=arguments.precision)
    for factor in arguments.factors:
        measured = measure_cascade(predictor, open_pairs(arguments.data, arguments.choose), factor=factor)
        changes, blocks, images = cascade_scores(predictor, open_pairs(arguments.data, arguments.check), factor=factor)
        print(
            f"1/{factor} of the resolution, {1 / factor**2:.1%} of the work; {measured['changes']} changes to choose on"
        )
        print("recall threshold missed blocks images | kept    at least  blocks images left out")
        for row in measured["rows"]:
            kept = int((changes >= row["threshold"]).sum())
            print(
                f"{row['recall']:6} {row['threshold']:9.4f} {row['missed']:6} {row['skipped_blocks']:6.1%} "
                f"{row['skipped_images']:6.1%} | {kept / len(changes):.4f}  {lower_bound(kept, len(changes)):.4f}  "
                f"{np.mean(blocks < row['threshold']):6.1%} {np.mean(images < row['threshold']):6.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
