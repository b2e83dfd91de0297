"""Join the pieces of a connected area of pixels: edges that two pieces share go, the others are chained to rings.

All work is linear in the number of vertices, but for sorting. A general union of polygons takes far longer than that
for an area with many holes, which is what noise looks like.
"""

import array
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["joined"]

Ints = NDArray[np.int64]


def joined(pieces: Sequence[shapely.Polygon]) -> shapely.Polygon:
    """One polygon of pieces that lie beside one another, without vertices on straight edges.

    Args:
        pieces: polygons with horizontal and vertical edges between whole numbers (col, row); together connected through
            edges, and without common inner points.
    """
    points, owner = _rings(*_without_shared(*_edges(pieces)))
    before, after = _neighbours(owner)
    came, goes = points - points[before], points[after] - points
    turns = came[:, 0] * goes[:, 1] != came[:, 1] * goes[:, 0]
    points, owner = points[turns], owner[turns]
    _, after = _neighbours(owner)
    crossed = points[:, 0] * points[after, 1] - points[after, 0] * points[:, 1]
    shell = int(np.argmax(np.bincount(owner, crossed)))
    rings = shapely.linearrings(points, indices=owner)
    made: shapely.Polygon = shapely.polygons(rings[shell], np.delete(rings, shell))
    return made


def _edges(pieces: Sequence[shapely.Polygon]) -> tuple[Ints, Ints]:
    """Starts and ends ``(N, 2)`` of all edges, with the inside always on the same side: shells have positive areas."""
    rings, owner = shapely.get_rings(np.array(pieces, object), return_index=True)
    is_shell = np.r_[True, owner[1:] != owner[:-1]]
    points = np.rint(shapely.get_coordinates(rings)).astype(np.int64)
    counts = shapely.get_num_coordinates(rings)
    lasts = np.cumsum(counts) - 1
    inner = np.ones(len(points), bool)
    inner[lasts] = False  # a ring ends where it begins
    at = np.flatnonzero(inner)
    starts, ends = points[at], points[at + 1]
    crossed = starts[:, 0] * ends[:, 1] - ends[:, 0] * starts[:, 1]
    ring = np.repeat(np.arange(len(rings)), counts - 1)
    areas = np.bincount(ring, crossed, minlength=len(rings))
    turned = ((areas > 0) != is_shell)[ring]
    return np.where(turned[:, None], ends, starts), np.where(turned[:, None], starts, ends)


def _without_shared(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """The edges without those, or parts of those, that run in both directions; these are horizontal."""
    level = starts[:, 1] == ends[:, 1]
    rightward = ends[:, 0] > starts[:, 0]
    rows = starts[:, 1]
    both = np.intersect1d(rows[level & rightward], rows[level & ~rightward])
    cut = level & np.isin(rows, both)
    lengths = np.abs(ends[cut, 0] - starts[cut, 0])
    firsts = np.minimum(starts[cut, 0], ends[cut, 0])
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    cols, at_rows = np.repeat(firsts, lengths) + offsets, np.repeat(rows[cut], lengths)
    right = np.repeat(rightward[cut], lengths)
    width = int(max(starts[:, 0].max(), ends[:, 0].max())) + 2
    _, place, counts = np.unique(at_rows * width + cols, return_inverse=True, return_counts=True)
    kept = counts[place] == 1
    cols, at_rows, right = cols[kept], at_rows[kept], right[kept]
    unit_starts = np.column_stack([cols + ~right, at_rows])
    unit_ends = np.column_stack([cols + right, at_rows])
    return np.concatenate([starts[~cut], unit_starts]), np.concatenate([ends[~cut], unit_ends])


def _neighbours(owner: Ints) -> tuple[Ints, Ints]:
    """For each point the one before and the one after it in its ring; ``owner`` numbers the rings, in order."""
    count = np.bincount(owner)
    firsts = np.cumsum(count) - count
    before, after = np.arange(len(owner)) - 1, np.arange(len(owner)) + 1
    before[firsts], after[firsts + count - 1] = firsts + count - 1, firsts
    return before, after


def _rings(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Points ``(N, 2)`` of rings that touch themselves nowhere, and the number of each point's ring."""
    width = int(starts[:, 0].max()) + 2
    keys = starts[:, 1] * width + starts[:, 0]
    order = np.argsort(keys, kind="stable")
    starts, ends, keys = starts[order], ends[order], keys[order]
    wanted = ends[:, 1] * width + ends[:, 0]
    following = np.searchsorted(keys, wanted)
    # Where two pixels touch at a corner, two edges begin: the one that turns to the inside belongs to the same pixel.
    shared = np.zeros(len(keys), bool)
    shared[:-1] = keys[:-1] == keys[1:]
    step, steps = ends - starts, ends - starts
    first = steps[following]
    turn = step[:, 0] * first[:, 1] - step[:, 1] * first[:, 0]
    following += shared[following] & (turn <= 0)
    shared[1:] |= shared[:-1].copy()
    chains = _chains(following, np.where(shared, keys, -1))
    return starts[np.concatenate(chains)], np.repeat(np.arange(len(chains)), [len(chain) for chain in chains])


def _chains(following: Ints, corners: Ints) -> list[Ints]:
    """Cycles of ``following``; one that meets a corner (a number, -1: none) twice is cut in two there."""
    nexts, names = array.array("q", following.tobytes()), array.array("q", corners.tobytes())
    seen = bytearray(len(nexts))
    found: list[Ints] = []
    for first in range(len(nexts)):
        if seen[first]:
            continue
        chain: list[int] = []
        met: dict[int, int] = {}
        edge = first
        while not seen[edge]:
            seen[edge] = 1
            name = names[edge]
            if name >= 0:
                at = met.get(name, -1)
                if at >= 0:
                    found.append(np.array(chain[at:], np.int64))
                    for gone in chain[at:]:
                        met.pop(names[gone], None)
                    del chain[at:]
                met[name] = len(chain)
            chain.append(edge)
            edge = nexts[edge]
        found.append(np.array(chain, np.int64))
    return found
