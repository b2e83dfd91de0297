"""How visible is the tiling? Tiled against whole-image probability, by tile, overlap and trim, in one run.

    python benchmarks/seams.py [--model default] [--side 2048] [--tiles 512 1024] [--overlaps 64 128 192 256]
                                     [--even]

Prints percentiles of the difference over all pixels of a synthetic scene (float32, so that arithmetic noise does not
hide the seam), and the share of pixels that are computed more than once. `terradelta map` uses the overlap of the model
card and the trim of `terradelta.mapping.scene.TRIM`.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from terradelta.geo.blending import RowBlender, RowJoiner
from terradelta.geo.windows import Span, TilePlan, fit_tiles
from terradelta.lab.synthetic import SceneConfig, make_scene
from terradelta.predict.load import DEFAULT_MODEL, shipped_models
from terradelta.predict.openvino import OpenVINOPredictor


def tiled(
    predictor: OpenVINOPredictor, dates: list[NDArray[np.uint8]], plan: TilePlan, trims: list[float]
) -> list[NDArray[np.float32]]:
    """The blended probability of a whole scene for each trim."""
    rows: list[list[NDArray[np.float32]]] = [[] for _ in trims]
    for row in plan.rows():
        blenders = [RowBlender(plan, trim) for trim in trims]
        parts: list[list[NDArray[np.float32]]] = [[] for _ in trims]
        for tile in row:
            before, after = (date[None, :, *tile.slices] for date in dates)
            values = predictor.predict(before, after)[0]
            for blender, found in zip(blenders, parts, strict=True):
                found.append(blender.add(values)[1])
        for joined, found in zip(rows, parts, strict=True):
            joined.append(np.concatenate(found, axis=1))
    return [_joined(plan, trim, made) for trim, made in zip(trims, rows, strict=True)]


def _joined(plan: TilePlan, trim: float, rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    joiner = RowJoiner(plan, trim)

    def read(number: int, span: Span) -> NDArray[np.float32]:
        return rows[number][span.start : span.stop]

    return np.concatenate([piece for n in range(len(rows)) for _, piece in joiner.pieces(n, read, plan.sides[0])])


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="`default` or an ONNX file")
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--tiles", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--overlaps", type=int, nargs="+", default=[64, 128, 192, 256])
    parser.add_argument("--trims", type=float, nargs="+", default=[0.25, 0.375, 0.45])
    parser.add_argument("--even", action="store_true", help="tiles of so many pixels that divide the scene evenly")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    arguments = parser.parse_args()
    path = shipped_models()[DEFAULT_MODEL] if arguments.model == "default" else arguments.model
    predictor = OpenVINOPredictor(path, precision=arguments.precision)
    scene = make_scene(SceneConfig(height=arguments.side, width=arguments.side), 11)
    dates = [scene.before, scene.after]
    whole = predictor.predict(scene.before[None], scene.after[None])[0]
    print("tile        overlap  trim   99 %      99.9 %    99.99 %   maximum   computed / scene")
    for tile in arguments.tiles:
        for overlap in arguments.overlaps:
            if 2 * overlap > tile:
                continue
            shape, stride = (arguments.side, arguments.side), predictor.card.stride
            sides = fit_tiles(shape, tile**2, overlap, stride) if arguments.even else (tile, tile)
            plan = TilePlan(shape, sides, overlap, stride)
            work = sum(t.height * t.width for row in plan.rows() for t in row) / whole.size
            for trim, blended in zip(arguments.trims, tiled(predictor, dates, plan, arguments.trims), strict=True):
                gap = np.abs(blended - whole)
                p99, p999, p9999 = np.percentile(gap, [99, 99.9, 99.99])
                sizes = f"{sides[0]} x {sides[1]} {overlap:7} {trim:5.3f}"
                print(f"{sizes}   {p99:.2e}  {p999:.2e}  {p9999:.2e}  {gap.max():.2e}  {work:.2f}")


if __name__ == "__main__":
    main()
