"""The pictures of the report: both dates in one frame, the map of change, and the map of probability."""

import math

from terradelta.html.page import section
from terradelta.html.pictures import CHANGE_COLOUR, RAMP, Quicklooks, change_picture, data_uri, probability_picture
from terradelta.html.text import fraction, number
from terradelta.receipt.map_record import GridRecord

__all__ = ["maps", "swipe"]

_SHORTEST_M, _LONGEST_M = 0.1, 4.1e7  # of a picture that gets a scale bar: up to the length of the equator


def swipe(quicklooks: Quicklooks, names: tuple[str, str], grid: GridRecord) -> str:
    """Both images in one frame, with a line between them to be drawn across.

    Args:
        quicklooks: reduced arrays of the result.
        names: what to call both dates, as HTML.
        grid: of the map.
    """
    height, width = quicklooks.shape
    images = "".join(
        f'<img class="{css}" width="{width}" height="{height}" alt="{alt}: {name}" src="{data_uri(picture)}">'
        for css, alt, name, picture in (
            ("after", "After", names[1], quicklooks.after),
            ("before", "Before", names[0], quicklooks.before),
        )
    )
    body = (
        f'<figure class="swipe"{_limit(quicklooks)}>\n'
        f'<div class="stage">{images}<span class="bar" aria-hidden="true"></span>'
        '<span class="tag left" aria-hidden="true">Before</span><span class="tag right" aria-hidden="true">After</span>'
        '<input type="range" min="0" max="100" value="50" step="any" aria-label="Share of the picture that shows the '
        f'before image, in per cent"></div>\n{_scale_bar(grid)}'
        f'<figcaption><span class="screen">Drag across the picture. </span><strong>Before</strong> ({names[0]}) is on '
        f"the left, <strong>after</strong> ({names[1]}) on the right.{_north(grid)}</figcaption>\n</figure>"
    )
    return section("pictures", "Before and after", body)


def _limit(quicklooks: Quicklooks) -> str:
    """A style that keeps a tall picture on one screen: narrower, so that its scale bar stays right."""
    height, width = quicklooks.shape
    return f' style="max-width:max(9rem,{85 * width / height:.1f}vh)"' if height > width else ""


def maps(quicklooks: Quicklooks, threshold: float, grid: GridRecord) -> str:
    """The map of change over the second image, and the map of probability with its legend.

    Args:
        quicklooks: reduced arrays of the result.
        threshold: probability from which a pixel counts as changed.
        grid: of the map.
    """
    height, width = quicklooks.shape
    size = f'width="{width}" height="{height}"'
    bar = _scale_bar(grid)
    share = fraction(quicklooks.change[quicklooks.valid].mean() if quicklooks.valid.any() else None)
    no_data = "" if quicklooks.valid.all() else '<span class="key none"></span> no data on one date or both'
    rgb = ",".join(map(str, CHANGE_COLOUR))
    change = (
        f"<figure{_limit(quicklooks)}>"
        f'<img {size} alt="Map of the changed areas over the after image; {share} of it is changed" '
        f'src="{data_uri(change_picture(quicklooks))}">\n{bar}'
        f'<figcaption><span class="key" style="background:rgb({rgb})"></span> changed {no_data}</figcaption></figure>'
    )
    probability = (
        f"<figure{_limit(quicklooks)}>"
        f'<img {size} alt="Map of the probability of change, dark for unlikely, yellow for likely" '
        f'src="{data_uri(probability_picture(quicklooks), lossless=True)}">\n{bar}'
        f"<figcaption>Probability of change {no_data}{_legend(threshold)}</figcaption></figure>"
    )
    return section("maps", "Where it changed, and how sure", f'<div class="pair">{change}{probability}</div>')


def _legend(threshold: float) -> str:
    stops = ",".join(f"rgb({r},{g},{b})" for r, g, b in RAMP)
    mark, note = f'<i style="left:{100 * threshold:.1f}%"></i>', f"changed from {number(threshold)} on"
    return (
        f'<span class="ramp" style="background:linear-gradient(90deg,{stops})">{mark}</span>'
        f'<span class="ends"><span>0</span><span>{note}</span><span>1</span></span>'
    )


def _scale_bar(grid: GridRecord) -> str:
    """A bar of a round length, at most a third of the picture's width; nothing without ground units."""
    width_m = math.sqrt(max(grid.pixel_area_m2 or 0.0, 0.0)) * grid.width
    if not _SHORTEST_M <= width_m <= _LONGEST_M:
        return ""
    power = 10 ** math.floor(math.log10(width_m / 3))
    length = max(step * power for step in (1, 2, 5) if step * power <= width_m / 3)
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return f'<div class="scale"><span style="width:{100 * length / width_m:.3f}%"></span>{label}</div>\n'


def _north(grid: GridRecord) -> str:
    a, b, _, d, e, _ = grid.transform
    upright = grid.crs and b == d == 0 and e < 0 < a
    return " Grid north is up." if upright else ""
