"""Reviews of change maps as labelled pairs: tiles around what people judged, whose labels know what was seen alone.

Both dates are read as `map` read them (grid, bands, masks, correction of the shift) and scaled as the model takes them,
for networks of 8-bit pictures to 8 bit; so the tiles are ordinary pairs, and stay when the images go.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from terradelta.card import EIGHT_BIT, ModelCard
from terradelta.errors import DataError, InputError
from terradelta.files import settle
from terradelta.geo.grid import Grid, Tile
from terradelta.geo.shift import ShiftField
from terradelta.lab.data.labels import UNKNOWN, LabelCoding
from terradelta.lab.data.pairs import PairFiles, PairList
from terradelta.lab.data.writing import image_suffix, write_image
from terradelta.products.change import ChangeRaster
from terradelta.products.writer import CHANGE
from terradelta.raster.pair import Pair, Reading, open_pair
from terradelta.raster.remote import is_url
from terradelta.raster.scaling import scaled_dates, scaling_of
from terradelta.receipt import MapReceipt, read_receipt
from terradelta.review.painting import WINDOW_PX, label_windows, near_together, paint
from terradelta.review.reading import Review, read_review_file

__all__ = ["LEAST_VERDICTS", "ReviewedTiles", "reviewed_tiles"]

LEAST_VERDICTS = 6
_RECEIPT = "receipt.json"
_MORE = "; in `terradelta view OUT` accept what is right, reject what is wrong, and draw what was missed"


@dataclass(frozen=True)
class ReviewedTiles:
    """Labelled tiles of some reviews."""

    pairs: PairList
    groups: tuple[int, ...]
    """Of each pair; tiles of one place share a number."""
    facts: dict[str, Any]
    """What a model's card says of them."""

    @property
    def text(self) -> str:
        """The same in words."""
        kinds = ", ".join(f"{count} {name}" for name, count in self.facts["verdicts"].items() if count)
        return (
            f"{sum(self.facts['verdicts'].values())} verdicts of {self.facts['authors']} "
            f"author{'s'[: self.facts['authors'] != 1]} on {', '.join(self.facts['products'])} ({kinds})"
        )


def reviewed_tiles(products: Sequence[Path], card: ModelCard, folder: Path) -> ReviewedTiles:
    """Cut labelled tiles around the verdicts on some products.

    Args:
        products: folders that `map` made, each with a review.
        card: of the model that the tiles are for.
        folder: where the tiles go; those that are there already stay.

    Raises:
        InputError: if a folder holds no map or no review, or the folder has tiles of other verdicts.
        DataError: if the verdicts do not suffice, or an image is not where it was.
    """
    reviews = [read_review_file(product) for product in products]
    _check_enough(reviews)
    _settle(folder, reviews)
    files: list[PairFiles] = []
    groups: list[int] = []
    for number, review in enumerate(reviews, 1):
        cut, boxes, reach = _cut(review, card, folder, f"{number:02d}_{review.product.resolve().name}")
        files += cut
        groups += [len(set(groups)) + group for group in near_together(boxes, reach)]
    name = ", ".join(review.product.resolve().name for review in reviews)
    return ReviewedTiles(PairList(folder, "reviewed", tuple(files), name), tuple(groups), _facts(reviews))


def _facts(reviews: Sequence[Review]) -> dict[str, Any]:
    rows = [row for review in reviews for row in review.rows]
    names = {"accept": "accepted", "reject": "rejected", "unsure": "unsure"}
    counts = dict.fromkeys((*names.values(), "drawn", "erased"), 0)
    for row in rows:
        counts[names[row.verdict] if row.kind == "judged" else row.kind] += 1
    return {
        "verdicts": counts,
        "authors": len({row.author for row in rows}),
        "products": [review.product.resolve().name for review in reviews],
    }


def _check_enough(reviews: Sequence[Review]) -> None:
    """Raise DataError unless something can be learned."""
    facts = _facts(reviews)
    counts = facts["verdicts"]
    total = sum(counts.values()) - counts["unsure"]
    if total < LEAST_VERDICTS:
        raise DataError(f"{total} verdicts are too few to learn from; give at least {LEAST_VERDICTS}{_MORE}")
    if not counts["accepted"] + counts["drawn"]:
        raise DataError(
            f"all {total} verdicts say that nothing changed: a model that learned from them alone would find nothing "
            f"at all{_MORE}"
        )
    if counts["accepted"] == total:
        raise DataError(
            f"all {total} verdicts accept what the map shows already, so there is nothing to learn from them{_MORE}"
        )


def _settle(folder: Path, reviews: Sequence[Review]) -> None:
    digests = {}
    for review in reviews:
        digest = hashlib.sha256()
        for row in review.rows:
            digest.update(repr((row.number, row.kind, row.polygon, row.verdict)).encode() + row.geometry.wkb)
        digests[str(review.product.resolve())] = digest.hexdigest()
    settle(
        folder / "tiles.json",
        digests,
        lambda names: InputError(
            f"the verdicts on {', '.join(names)} are others than when this run began; name another folder for the run"
        ),
    )


def _cut(
    review: Review, card: ModelCard, folder: Path, name: str
) -> tuple[list[PairFiles], list[tuple[float, float, float, float]], float]:
    """The tiles of one product, where they lie in its coordinates, and how near the tiles of one place are."""
    with ChangeRaster(review.product / CHANGE) as change:
        grid = change.grid
    windows = label_windows(review, grid)
    names = [f"{name}_{window.row:05d}_{window.col:05d}" for window in windows]
    files = [_files(folder, each) for each in names]
    lacking = [k for k, each in enumerate(files) if each is None]
    if lacking:
        with _open(review.product, grid, card) as pair:
            for k in lacking:
                _write(review, pair, card, windows[k], folder, names[k])
        files = [_files(folder, each) for each in names]
    boxes = [grid.crop(window).bounds for window in windows]
    return [each for each in files if each is not None], boxes, WINDOW_PX / 2 * max(grid.pixel_size)


def _files(folder: Path, name: str) -> PairFiles | None:
    """A tile that is there; None if it is not, or not whole."""
    found = [next(iter(sorted((folder / part).glob(f"{name}.*"))), None) for part in ("A", "B", "label")]
    if None in found:
        return None
    before, after, label = (path for path in found if path is not None)
    return PairFiles(name, before, after, label, LabelCoding.MASKED)


def _open(product: Path, grid: Grid, card: ModelCard) -> Pair:
    """The images of a product as they were mapped."""
    receipt = read_receipt(MapReceipt, product / _RECEIPT)
    dates = {"first": receipt.inputs.before, "second": receipt.inputs.after}
    for date, known in dates.items():
        path = known.path
        if is_url(path):
            continue
        there = Path(path)
        if not there.exists():
            raise DataError(
                f"{product}: the image of the {date} date is no longer at {path}; put it back or link it there, or map "
                "the pair again where it lies now and judge that"
            )
        if known.files is None and there.is_file() and there.stat().st_size != known.bytes:
            raise DataError(
                f"{product}: {path} is another file than the one that was mapped ({there.stat().st_size} bytes, not "
                f"{known.bytes}); put that one back, or map the pair again"
            )
    reading = Reading(nodata=receipt.options.nodata, nodata_bands=receipt.options.nodata_bands)  # type: ignore[arg-type]
    on = None if grid.crs is None else grid
    paths = [known.path for known in dates.values()]
    pair = open_pair(*paths, grid=on, bands=_bands(receipt, card), wanted=card.bands, reading=reading)
    if pair.grid.shape != grid.shape:
        pair.close()
        raise DataError(f"{product}: its images no longer cover the grid that was mapped; map the pair again")
    if receipt.registration.corrected and receipt.registration.found.field is not None:
        field = receipt.registration.found.field
        pair.coregister(ShiftField(field.size_px, np.array(field.nodes_px, np.float64)))
    return pair


def _bands(receipt: MapReceipt, card: ModelCard) -> list[int | str] | None:
    """The bands that were compared, if one list says it for both dates and they are as many as the model takes."""
    compared = receipt.pair.bands
    if compared.before == compared.after and len(compared.before) == len(card.bands):
        return list(compared.before)
    return None


def _write(review: Review, pair: Pair, card: ModelCard, window: Tile, folder: Path, name: str) -> None:
    """One tile: both dates and, last, the label."""
    found = pair.read(window)
    dates = scaled_dates((found.before, found.after), found.valid, scaling_of(pair, card), card.fill)
    if card.stretch is not None and card.scale == EIGHT_BIT:  # values that were stretched must not be so again
        dates = tuple(values.round().astype(np.uint8) for values in dates)  # type: ignore[assignment]
    label, known = paint(review, pair.grid, window)
    known &= found.valid
    for part, values in zip(("A", "B"), dates, strict=True):
        suffix = image_suffix(values.dtype, len(values), found.grid)
        write_image(folder / part / f"{name}{suffix}", np.ascontiguousarray(values), found.grid)
    values = np.where(known, label, UNKNOWN).astype(np.uint8)[None]
    write_image(folder / "label" / f"{name}{image_suffix(values.dtype, 1, found.grid)}", values, found.grid)
