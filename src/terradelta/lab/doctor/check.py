"""`check_dataset`: every pair of every split, read once; what is wrong, and what to do about it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from terradelta.errors import DataError
from terradelta.lab.data.archives import Archive, count_notes
from terradelta.lab.data.folder import Scan
from terradelta.lab.data.layouts import Layout
from terradelta.lab.data.opening import find_data
from terradelta.lab.data.pairs import PairList
from terradelta.lab.doctor.examine import PairRecord, SplitTally, examine
from terradelta.lab.doctor.findings import Finding, Severity
from terradelta.lab.doctor.label_values import LabelKind
from terradelta.lab.doctor.twins import ONE_DATE, SAME, SWAPPED, Twin, find_shared_places, find_twins
from terradelta.receipt import CheckupReceipt, finite
from terradelta.receipt.checkup_record import CheckupSummary, FindingRecord, SplitRecord

__all__ = ["Checkup", "check_dataset", "checkup_receipt"]

_RARE, _UNLIKE = 0.01, 3.0
_NAMED = 3
_BYTE_SCALE = 255.0
_LEAKS = {
    SAME: "leak: pair in two splits",
    SWAPPED: "leak: pair in two splits, dates exchanged",
    ONE_DATE: "leak: image in two splits",
}
_REPEATS = {
    SAME: "pair that occurs twice",
    SWAPPED: "pair that occurs twice, dates exchanged",
    ONE_DATE: "image that occurs in two pairs",
}


@dataclass
class Checkup:
    """All that the doctor found."""

    location: str
    name: str
    archive: Archive | None
    sources: dict[str, PairList]
    tallies: dict[str, SplitTally] = field(default_factory=dict)
    records: list[PairRecord] = field(default_factory=list)
    twins: list[Twin] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Findings that make data unfit."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)


def check_dataset(
    location: Path | str,
    *,
    progress: Callable[[str], Callable[[int, int], None]] | None = None,
) -> Checkup:
    """Look for everything in a data set that would spoil training or scores.

    Files that are missing, unreadable, truncated or of other sizes; labels that are not 0 and 255; pictures of one
    colour and dates that are one picture; georeferences that differ; pairs that occur twice in one split or in two,
    also turned, flipped, re-encoded or with their dates exchanged; places that two splits share; balance of the
    classes. Memory does not grow with the images; a pair leaves about three kilobytes.

    Args:
        location: the data set, see `open_pairs`.
        progress: called with what is being done; gives the function to call with (done, total).

    Raises:
        DataError: if there is no data set.
    """
    archive, layout = find_data(location)
    start = progress or (lambda _: lambda _done, _total: None)
    checkup = Checkup(str(location), layout.name, archive, {})
    for split in layout.own_splits:
        scan = _scan(layout, split, checkup)
        if scan is not None:
            checkup.sources[split] = PairList(layout.root, split, scan.files, layout.name)
            checkup.findings += _of_scan(scan, split, layout)
    _examine_all(checkup, start("reading"))
    for split, tally in checkup.tallies.items():
        names = [files.name for files in checkup.sources[split].files]
        checkup.findings += _of_split(split, names, tally, archive)
    checkup.findings += _of_splits(checkup.tallies)
    checkup.twins, complete = find_twins(checkup.records, checkup.sources, start("comparing"))
    checkup.findings += [_of_twin(twin) for twin in checkup.twins]
    checkup.findings += _of_places(checkup.records)
    if not complete:
        message = "so many images are alike that the search for twins was cut short"
        checkup.findings.append(Finding(Severity.NOTE, "search cut short", message, "mend what was found, check again"))
    inside = f"{layout.root}/"
    checkup.findings = [replace(f, message=f.message.replace(inside, "")) for f in checkup.findings]
    return checkup


def checkup_receipt(checkup: Checkup) -> CheckupReceipt:
    """Splits with their numbers, and the findings, the worst first."""
    ordered = sorted(checkup.findings, key=lambda finding: finding.severity.rank)
    counts, archive = Counter(finding.severity for finding in ordered), checkup.archive
    return CheckupReceipt(
        data=checkup.name,
        archive=None if archive is None else archive.title,
        licence=None if archive is None else archive.licence,
        citation=None if archive is None else archive.citation,
        splits={split: _split_record(len(checkup.sources[split]), t) for split, t in checkup.tallies.items()},
        summary=CheckupSummary(*(counts[severity] for severity in Severity)),
        findings=tuple(map(_finding_record, ordered)),
    )


def _scan(layout: Layout, split: str, checkup: Checkup) -> Scan | None:
    try:
        return layout.scan(split)
    except DataError as error:
        cure = "mend the folder and check again; nothing of the split was read"
        checkup.findings.append(Finding(Severity.ERROR, "split that cannot be read", str(error), cure))
        return None


def _of_scan(scan: Scan, split: str, layout: Layout) -> Iterator[Finding]:
    cure = f"add the files, or leave the name out of {layout.listing(split)} (--fix leaves it out)"
    for name in scan.missing:
        yield Finding(Severity.ERROR, "missing file", f"{split}: no file for {name}", cure)
    if scan.unmatched:
        shown = ", ".join(f"{path.parent.name}/{path.name}" for path in scan.unmatched[:_NAMED])
        more = f" and {len(scan.unmatched) - _NAMED} more" if len(scan.unmatched) > _NAMED else ""
        message = f"{split}: {shown}{more} belong to no complete pair"
        yield Finding(Severity.WARNING, "image without its pair", message, "add the other files, or remove these")


def _examine_all(checkup: Checkup, advance: Callable[[int, int], None]) -> None:
    done, total = 0, sum(map(len, checkup.sources.values()))
    advance(done, total)
    for split, pairs in checkup.sources.items():
        tally = checkup.tallies[split] = SplitTally()
        for index in range(len(pairs)):
            record, findings = examine(pairs, index, tally)
            checkup.findings += findings
            if record is not None:
                checkup.records.append(record)
            done += 1
            advance(done, total)


def _of_split(split: str, names: list[str], tally: SplitTally, archive: Archive | None) -> Iterator[Finding]:
    if archive is not None:
        for note in count_notes(archive, split, names):
            yield Finding(Severity.WARNING, "number of pairs", note, "fetch the archive again, or name the difference")
    if len(tally.bands) > 1:
        found = ", ".join(f"{count} pairs of {bands}" for bands, count in sorted(tally.bands.items()))
        cure = "a network takes one number of bands: split the data set, or select bands"
        yield Finding(Severity.ERROR, "numbers of bands differ", f"{split}: {found} bands", cure)
    if len(tally.dtypes) > 1:
        found = ", ".join(f"{count} images of {dtype}" for dtype, count in sorted(tally.dtypes.items()))
        cure = "bring all images to one range of values"
        yield Finding(Severity.WARNING, "types of values differ", f"{split}: {found}", cure)
    counts = [tally.labels[kind] for kind in (LabelKind.ONE, LabelKind.FULL_RANGE)]
    if all(counts):
        message = f"{split}: {counts[0]} labels of 0 and 1, {counts[1]} of 0 and 255"
        cure = "both are read rightly here; other tools take 1 for almost nothing: --fix writes 0 and 255"
        yield Finding(Severity.NOTE, "labels of two kinds", message, cure)
    yield from _of_balance(split, tally)


def _of_balance(split: str, tally: SplitTally) -> Iterator[Finding]:
    if not tally.pixels:
        return
    if not tally.changed:
        message = f"{split}: no pixel of {tally.pixels:,} is changed"
        yield Finding(Severity.ERROR, "no change at all", message, "look for the labels that belong to these images")
    elif tally.changed < _RARE * tally.pixels:
        message = f"{split}: {tally.changed / tally.pixels:.3%} of the pixels are changed"
        cure = "draw crops around changes (Recipe.change_crops) and take a loss that weighs classes"
        yield Finding(Severity.NOTE, "change is rare", message, cure)


def _of_splits(tallies: Mapping[str, SplitTally]) -> Iterator[Finding]:
    rates = {split: tally.changed / tally.pixels for split, tally in tallies.items() if tally.changed}
    if len(rates) > 1 and max(rates.values()) > _UNLIKE * min(rates.values()):
        found = ", ".join(f"{rate:.2%} in {split}" for split, rate in rates.items())
        cure = "a threshold chosen on one split may not fit the other; look at how the splits were made"
        yield Finding(Severity.WARNING, "splits unlike in their share of change", f"changed pixels: {found}", cure)


def _of_twin(twin: Twin) -> Finding:
    first, second = twin.first, twin.second
    across = first.split != second.split
    how = "equal pixels" if twin.exact else f"correlation {twin.correlation:.3f}"
    turn = f", the second {_turn(twin.orientation)}" if twin.orientation else ""
    message = f"{first.split}/{first.name} and {second.split}/{second.name}: {twin.relation} ({how}{turn})"
    if twin.exact and twin.relation == SAME and first.label_digest != second.label_digest:
        message += "; but their labels differ"
    pairs = ((first.split, first.name), (second.split, second.name))
    if across:
        cure = "a score on such pairs is too good: leave them out of the split that is trained on (--fix does)"
        return Finding(Severity.ERROR, _LEAKS[twin.relation], message, cure, pairs, twin.correlation)
    cure = "look which order is right" if twin.relation == SWAPPED else "keep one, unless it is meant to count twice"
    return Finding(Severity.WARNING, _REPEATS[twin.relation], message, cure, pairs, twin.correlation)


def _turn(orientation: int) -> str:
    quarters = f"turned by {90 * (orientation % 4)} degrees" if orientation % 4 else ""
    return " and ".join(word for word in ("flipped" if orientation >= 4 else "", quarters) if word)


def _of_places(records: list[PairRecord]) -> Iterator[Finding]:
    for first, second, share in find_shared_places(records):
        message = (
            f"{first.split}/{first.name} and {second.split}/{second.name} share {share:.0%} of the smaller one's ground"
        )
        cure = "cut the splits apart on the ground, or leave these pairs out of the split that is trained on"
        pairs = ((first.split, first.name), (second.split, second.name))
        yield Finding(Severity.ERROR, "leak: place in two splits", message, cure, pairs)


def _finding_record(finding: Finding) -> FindingRecord:
    alike = None if finding.correlation is None else round(finding.correlation, 4)
    return FindingRecord(
        finding.severity.value, finding.kind, finding.message, finding.cure, finding.pairs, correlation=alike
    )


def _split_record(pairs: int, tally: SplitTally) -> SplitRecord:
    moments = tally.moments
    scale = _BYTE_SCALE if set(tally.dtypes) == {"uint8"} else 1.0
    mean, std = (
        tuple(finite(round(float(value) / scale, 6)) for value in values) if moments.count else ()
        for values in (moments.mean, moments.std)
    )
    return SplitRecord(
        pairs=pairs,
        read=sum(tally.sizes.values()),
        sizes=tuple((*size, count) for size, count in sorted(tally.sizes.items())),
        bands=tuple(sorted(tally.bands)),
        dtypes=tuple(sorted(tally.dtypes)),
        labels={kind.value: count for kind, count in sorted(tally.labels.items(), key=lambda item: -item[1])},
        pixels=tally.pixels,
        changed_fraction=tally.changed / tally.pixels if tally.pixels else None,
        pairs_with_change=tally.with_change,
        scale=scale,
        mean=mean,
        std=std,
    )
