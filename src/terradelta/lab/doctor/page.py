"""`write_checkup`: what the doctor found in a data set, as one HTML file that opens offline."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from terradelta.errors import InputError
from terradelta.files import write_whole
from terradelta.geo.grid import Tile
from terradelta.html.page import page
from terradelta.html.pictures import data_uri
from terradelta.html.text import fraction, integer, text
from terradelta.lab.data.pairs import PairList
from terradelta.lab.doctor import Checkup, Finding, Severity, checkup_receipt, grouped
from terradelta.receipt import CheckupReceipt
from terradelta.receipt.checkup_record import SplitRecord

__all__ = ["render_checkup", "write_checkup"]

_NAMED, _SHOWN, _PICTURED = 12, 4, 24
_THUMB_PX = 144
_LARGEST_PX = 4 * 2**20
_WORDS = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.NOTE: "Notes"}


def write_checkup(out: Path, checkup: Checkup) -> None:
    """Write the page.

    Args:
        out: the HTML file.
        checkup: from `check_dataset`.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_whole(out, render_checkup(checkup), make_folder=True)


def render_checkup(checkup: Checkup) -> str:
    """The page as a string; pictures of the first findings of a kind are read from the data set."""
    receipt = checkup_receipt(checkup)
    sections = (_verdict(receipt), _splits(receipt), _recipe(receipt), *_findings(checkup), _source(receipt))
    return page(
        "Check of labelled pairs",
        f"Data set {checkup.name}",
        sections,
        f"Made by terradelta {text(receipt.version)}.",
        lead=f"{checkup.location}, checked {receipt.created}",
        styles=("checkup.css",),
    )


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>"


def _verdict(receipt: CheckupReceipt) -> str:
    summary = receipt.summary
    said = "Nothing here would spoil training or scores."
    if summary.error:
        said = "Mend the errors before training."
    elif summary.warning:
        said = "No error. Look at the warnings: they may be meant."
    counts = (("errors", summary.error, " main"), ("warnings", summary.warning, ""), ("notes", summary.note, ""))
    cards = "".join(
        f'<div class="card{css}"><dt>{name}</dt><dd>{integer(count)}</dd></div>' for name, count, css in counts
    )
    return _section("The answer", f'<p class="verdict">{said}</p><dl class="cards">{cards}</dl>')


def _splits(receipt: CheckupReceipt) -> str:
    columns = ("Split", "Pairs", "Read", "Changed", "", "With change", "Bands", "Values", "Sizes, pixels", "Labels")
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    rows = "".join(_split_row(split, found) for split, found in receipt.splits.items())
    table = f'<div class="scroll" tabindex="0"><table class="data"><thead><tr>{head}</tr></thead>'
    return _section("Splits", f"{table}<tbody>{rows}</tbody></table></div>")


def _split_row(split: str, found: SplitRecord) -> str:
    sizes = sorted(found.sizes, key=lambda size: -size[2])
    shown = ", ".join(f"{h} x {w} ({n:,})" for h, w, n in sizes[:_SHOWN])
    shown += f" and {len(sizes) - _SHOWN} more" if len(sizes) > _SHOWN else ""
    labels = ", ".join(f"{text(kind)} ({count:,})" for kind, count in found.labels.items())
    share = found.changed_fraction
    bar = "" if share is None else f'<span class="share"><i style="width:{100 * share:.2f}%"></i></span>'
    cells = (
        integer(found.pairs),
        integer(found.read),
        fraction(share),
        bar,
        integer(found.pairs_with_change),
        ", ".join(map(str, found.bands)),
        ", ".join(map(text, found.dtypes)),
        shown,
        labels,
    )
    return f'<tr><th scope="row">{text(split)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


def _recipe(receipt: CheckupReceipt) -> str:
    """Mean and standard deviation of the split to train on, as a recipe takes them."""
    split = "train" if "train" in receipt.splits else next(iter(receipt.splits), "")
    found = receipt.splits.get(split)
    if found is None or not found.mean:
        return ""
    mean, std = (tuple(value and round(value, 4) for value in values) for values in (found.mean, found.std))
    code = f"mean={mean},\nstd={std},\nscale={found.scale:g},"
    note = f'<p class="muted">Over both dates of all pairs of {text(split)} that could be read.</p>'
    return _section("Mean and standard deviation, for a recipe", f"{note}<pre><code>{code}</code></pre>")


def _findings(checkup: Checkup) -> Iterator[str]:
    budget = [_PICTURED]
    groups = grouped(checkup.findings)
    for severity in Severity:
        bodies = [_group(kind, found, checkup, budget) for (s, kind), found in groups.items() if s is severity]
        if bodies:
            yield _section(_WORDS[severity], "".join(bodies))


def _group(kind: str, found: Sequence[Finding], checkup: Checkup, budget: list[int]) -> str:
    items = "".join(f"<li>{text(finding.message)}</li>" for finding in found[:_NAMED])
    more = f"<li>and {len(found) - _NAMED:,} more</li>" if len(found) > _NAMED else ""
    thumbs = "".join(_thumbs(finding, checkup, budget) for finding in found[:_SHOWN])
    pictures = f'<div class="thumbs">{thumbs}</div>' if thumbs else ""
    return (
        f'<div class="finding {found[0].severity.value}"><h3>{text(kind[0].upper() + kind[1:])} ({len(found):,})</h3>'
        f"<p>What to do: {text(found[0].cure)}.</p><ul>{items}{more}</ul>{pictures}</div>"
    )


def _thumbs(finding: Finding, checkup: Checkup, budget: list[int]) -> str:
    """Before, after and label of the pairs of a finding, where they can be read."""
    figures = []
    for split, name in finding.pairs:
        if budget[0] <= 0:
            break
        index = next((r.index for r in checkup.records if (r.split, r.name) == (split, name)), None)
        pictures = None if index is None else _pictures(checkup.sources[split], index)
        if pictures is not None:
            budget[0] -= 1
            parts = ("before", "after", "label")[: len(pictures)]
            images = "".join(
                f'<img alt="{part} of {text(name)}" src="{data_uri(picture)}">'
                for part, picture in zip(parts, pictures, strict=True)
            )
            caption = f"<figcaption>{text(split)}/{text(name)}: {', '.join(parts)}</figcaption>"
            figures.append(f'<figure><div class="row">{images}</div>{caption}</figure>')
    return "".join(figures)


def _pictures(pairs: PairList, index: int) -> list[NDArray[np.uint8]] | None:
    """Small pictures of both dates and, if it can be read, the label; None for scenes too large to read for it."""
    try:
        height, width = pairs.size(index)
        if height * width > _LARGEST_PX:
            return None
        dates = pairs.read_dates(index, Tile(0, 0, height, width))
    except InputError:
        return None
    pictures = [_small(values) for values in dates]
    try:
        label = pairs.read(index).label
    except InputError:
        return pictures
    return [*pictures, _small(label[None] * np.uint8(255))]


def _small(values: NDArray[Any]) -> NDArray[np.uint8]:
    """``(C, H, W)`` as ``(h, w, 3)`` of at most 144 pixels a side: its first three bands, or one as grey."""
    bands = values[:3] if len(values) >= 3 else np.repeat(values[:1], 3, axis=0)
    image = np.moveaxis(bands, 0, 2).astype(np.float64)
    if values.dtype != np.uint8:
        low, high = np.percentile(image, (1, 99))
        image = np.clip((image - low) / max(high - low, 1e-9), 0, 1) * 255
    scale = _THUMB_PX / max(image.shape[:2])
    shape = (max(round(image.shape[0] * scale), 1), max(round(image.shape[1] * scale), 1), 3)
    small: NDArray[np.float64] = resize(image, shape, order=1, anti_aliasing=scale < 1, preserve_range=True)
    return small.round().astype(np.uint8)


def _source(receipt: CheckupReceipt) -> str:
    if not receipt.archive:
        return ""
    rows = {"Archive": receipt.archive, "Licence": receipt.licence, "Cite": receipt.citation}
    cells = "".join(f'<tr><th scope="row">{name}</th><td>{text(value)}</td></tr>' for name, value in rows.items())
    return _section("Where it is from", f'<table class="facts"><tbody>{cells}</tbody></table>')
