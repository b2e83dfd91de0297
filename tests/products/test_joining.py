"""Pieces of an area of pixels are joined as shapely's union joins them."""

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from terradelta.products.joining import joined


def pieces(mask, cuts):
    """Polygons of each strip's components, in pixels."""
    found = []
    for top, bottom in zip((0, *cuts), (*cuts, len(mask)), strict=True):
        strip = mask[top:bottom].astype("uint8")
        for shape, value in rasterio.features.shapes(
            strip, connectivity=4, transform=rasterio.Affine.translation(1, top)
        ):
            if value:
                found.append(shapely.geometry.shape(shape))
    return found


@given(
    st.integers(0, 10**6),
    st.integers(2, 14),
    st.integers(1, 14),
    st.sampled_from([0.4, 0.6, 0.8]),
    st.sets(st.integers(1, 13)),
)
def test_the_union_of_any_component(seed, height, width, share, cuts):
    mask = np.random.default_rng(seed).random((height, width)) < share
    labels, count = ndimage.label(mask)
    for number in range(1, count + 1):
        parts = pieces(labels == number, sorted(cut for cut in cuts if cut < height))
        made = joined(parts)
        assert made.is_valid
        assert made.equals(shapely.union_all(parts))
        corners = shapely.get_num_coordinates(shapely.simplify(shapely.union_all(parts), 0))
        assert shapely.get_num_coordinates(made) <= corners


@pytest.mark.parametrize(
    "rows",
    [
        ["xxx", "x.x", "xx.", "xx."],  # an arm that touches the body at a corner and closes a hole
        ["xxxxx", "x.x.x", "xx.xx", "x.x.x", "xxxxx"],  # holes that touch at corners
        ["xxxx", "x..x", "xx.x", ".xxx"],
        ["xx", "xx"],
    ],
)
def test_areas_that_touch_themselves(rows):
    mask = np.array([[c == "x" for c in row] for row in rows])
    parts = pieces(mask, [1, 2] if len(mask) > 2 else [1])
    made = joined(parts)
    assert made.is_valid
    assert made.equals(shapely.union_all(parts))
    assert made.area == mask.sum()
