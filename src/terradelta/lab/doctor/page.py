"""`write_checkup`: what the doctor found in a data set, as one HTML file that opens offline."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from terradelta.errors import InputError
from terradelta.files import write_whole
from terradelta.geo.grid import Tile
from terradelta.html.page import render
from terradelta.lab.data.pairs import PairList
from terradelta.lab.doctor import Checkup, Finding, checkup_receipt, grouped
from terradelta.receipt import CheckupReceipt

__all__ = ["render_checkup", "write_checkup"]

_NAMED, _SHOWN, _PICTURED = 12, 4, 24
_THUMB_PX = 144
_LARGEST_PX = 4 * 2**20
_PARTS = ("before", "after", "label")


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
    return render(
        "lab/doctor/page.html.j2",
        receipt=receipt,
        location=checkup.location,
        recipe=_recipe(receipt),
        findings=_findings(checkup),
        named=_NAMED,
        named_sizes=_SHOWN,
    )


def _recipe(receipt: CheckupReceipt) -> dict[str, Any] | None:
    """Mean and standard deviation of the split to train on, as a recipe takes them."""
    split = "train" if "train" in receipt.splits else next(iter(receipt.splits), "")
    found = receipt.splits.get(split)
    if found is None or not found.mean:
        return None
    mean, std = (tuple(value and round(value, 4) for value in values) for values in (found.mean, found.std))
    return {"split": split, "mean": mean, "std": std, "scale": found.scale}


def _findings(checkup: Checkup) -> dict[str, list[dict[str, Any]]]:
    """Severity -> for each kind its findings, and the pairs of the first ones with their pictures."""
    left = _PICTURED
    kinds: dict[str, list[dict[str, Any]]] = {}
    for (severity, kind), findings in grouped(checkup.findings).items():
        pairs = list(islice(_pictured(findings[:_SHOWN], checkup), left))
        left -= len(pairs)
        kinds.setdefault(severity.value, []).append({"kind": kind, "findings": findings, "pairs": pairs})
    return kinds


def _pictured(findings: Sequence[Finding], checkup: Checkup) -> Iterator[dict[str, Any]]:
    """Before, after and label of the pairs of findings, where they can be read."""
    for split, name in (pair for finding in findings for pair in finding.pairs):
        index = next((r.index for r in checkup.records if (r.split, r.name) == (split, name)), None)
        pictures = None if index is None else _pictures(checkup.sources[split], index)
        if pictures is not None:
            yield {"split": split, "name": name, "pictures": dict(zip(_PARTS, pictures, strict=False))}


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
