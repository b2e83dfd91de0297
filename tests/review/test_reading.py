"""The verdicts that count, beside the polygons that they are about."""

from pathlib import Path

import pytest

from terradelta.errors import InputError
from terradelta.review.reading import polygons_of, read_review_file
from terradelta.review.verdicts import VerdictRow


def test_what_was_undone_does_not_count(product: Path, write_review) -> None:
    polygons = polygons_of(product)
    (first, shape), *others = polygons.items()
    rows = [
        VerdictRow(1, "judged", first, "accept", "Ada", "", None, shape),
        VerdictRow(2, "drawn", None, "accept", "Ada", "", None, shape),
        VerdictRow(3, "judged", first, "reject", "Ada", "", "later", shape),
    ]
    write_review(product, rows)
    found = read_review_file(product)
    assert [(row.number, row.kind, row.polygon, row.verdict) for row in found.rows] == [
        (1, "judged", first, "accept"),
        (2, "drawn", None, "accept"),
    ]
    assert found.polygons == polygons
    assert found.unjudged == [each for _, each in others]


def test_what_is_missing_is_named(product: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no review\.gpkg; judge its polygons first, with `terradelta view"):
        read_review_file(product)
    (product / "change.gpkg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"change\.gpkg cannot be read .* map again"):
        polygons_of(product)
