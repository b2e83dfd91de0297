"""Scores that others have published, as printed, and a check whether a row of them agrees with itself.

Nothing here was measured by us. Every row names its source; rows that were copied from a third party's notes say so.
Scores of different sources are not comparable: splits, crops, thresholds and the way of averaging differ.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "ABLATIONS",
    "MARK",
    "PUBLISHED",
    "AblationScore",
    "PublishedScore",
    "contradictions",
    "headline",
    "headline_f1",
    "published_scores",
]

MARK = "†"
"""Beside a printed row that contradicts itself."""

HALF_A_DIGIT = 0.005
"""Printed values are rounded to hundredths of a per cent."""
MIOU_SLACK = 0.05
"""What is granted to a mean of two IoU besides, in per cent: its terms may have been rounded before."""

MCCRNET_PAPER = "Ke & Zhang 2021, doi:10.3390/ijgi10090591"
MLLA_ABSTRACT = "abstract of MLLA_SiaNet, 2026, doi:10.19678/j.issn.1000-3428.0260291"
OPEN_CD = "Open-CD's model zoo, not the authors"
CDLAB = "CDLab's results, not the authors"
BTC = "BTC's repository, mean of 3 seeds, not the authors"
CHANGE_MAMBA = "ChangeMamba's README, not the authors"
SURVEY = "notes of third parties on the paper, not seen in the paper itself"


@dataclass(frozen=True)
class PublishedScore:
    """One printed row, in per cent; None: not printed."""

    network: str
    """Registered name."""
    data: str
    """Data set, e.g. ``LEVIR-CD``; the whole archive with its official splits, as far as the source says."""
    source: str
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    miou: float | None = None
    """What the source calls mIOU; Eq. (20) of the MCCRNet paper is the changed class's IoU, its tables are not."""
    oa: float | None = None
    iou_changed: float | None = None
    variant: str = ""
    """What the source calls the network, where that says more than its name."""

    def text(self) -> str:
        """The scores in one line, e.g. ``LEVIR-CD: P 89.91, R 89.62, F1 90.71``."""
        names = {"precision": "P", "recall": "R", "f1": "F1", "iou_changed": "IoU", "miou": "mIOU", "oa": "OA"}
        shown = [f"{short} {value:.2f}" for name, short in names.items() if (value := getattr(self, name)) is not None]
        return f"{self.data}: {', '.join(shown)}"


@dataclass(frozen=True)
class AblationScore:
    """F1 in per cent that a paper prints for a variant of its network."""

    ablation: str
    label: str
    data: str
    f1: float
    source: str


_MCCRNET_NETWORKS = {
    "fc_ef": "",
    "fc_siam_conc": "",
    "fc_siam_diff": "",
    "unetpp_msof": "U-Net++",
    "dasnet": "",
    "stanet": "",
    "snunet": "",
    "mccrnet": "",
}
_MCCRNET_TABLES = {
    "LEVIR-CD": (
        (81.26, 80.17, 80.71, 71.53, 98.39),
        (91.99, 76.77, 83.69, 71.96, 98.49),
        (89.64, 82.68, 86.02, 78.86, 98.65),
        (90.66, 85.32, 87.91, 80.94, 98.24),
        (80.76, 79.53, 79.91, 78.65, 94.32),
        (83.81, 91.02, 87.27, 78.64, 98.87),
        (91.85, 88.69, 90.24, 82.21, 98.11),
        (89.91, 89.62, 90.71, 91.13, 99.24),
    ),
    "CDD": (
        (60.63, 57.42, 58.98, 46.64, 88.49),
        (68.96, 59.33, 63.78, 50.66, 90.33),
        (76.84, 64.33, 70.03, 52.44, 89.69),
        (89.54, 87.10, 88.30, 84.58, 96.88),
        (91.28, 86.34, 88.74, 80.94, 96.98),
        (95.88, 94.69, 95.28, 94.44, 98.35),
        (96.32, 96.28, 96.30, 95.48, 99.04),
        (97.52, 95.32, 96.41, 96.07, 99.25),
    ),
    "Google Data GZ": (
        (85.47, 76.58, 80.78, 74.26, 96.64),
        (87.22, 78.44, 82.60, 75.32, 96.98),
        (87.43, 78.51, 82.36, 75.20, 96.48),
        (88.10, 78.64, 83.10, 76.23, 97.26),
        (82.38, 81.94, 82.16, 83.04, 96.59),
        (90.02, 87.61, 88.80, 88.59, 97.72),
        (88.47, 90.02, 89.27, 89.12, 97.83),
        (90.18, 93.66, 91.89, 91.58, 98.32),
    ),
    "DSIFN": (
        (70.38, 51.69, 56.60, 43.95, 84.68),
        (62.54, 56.39, 59.31, 42.48, 86.34),
        (58.66, 64.38, 61.39, 44.46, 85.78),
        (60.42, 66.88, 63.49, 46.33, 86.68),
        (53.87, 74.68, 68.42, 47.74, 84.92),
        (67.68, 61.36, 64.36, 47.48, 88.59),
        (69.97, 75.66, 72.70, 49.68, 89.22),
        (66.12, 91.28, 76.69, 67.08, 81.69),
    ),
}


def _mccrnet_rows() -> Iterator[PublishedScore]:
    for number, (data, rows) in enumerate(_MCCRNET_TABLES.items(), 6):
        source = f"{MCCRNET_PAPER}, table {number}"
        for (network, variant), row in zip(_MCCRNET_NETWORKS.items(), rows, strict=True):
            yield PublishedScore(network, data, source, *row, variant=variant)


_OTHERS = (
    PublishedScore("mlla_sianet", "SYSU-CD", MLLA_ABSTRACT, 83.42, 80.88, 82.13),
    PublishedScore("mlla_sianet", "LEVIR-CD", MLLA_ABSTRACT, precision=89.48, f1=85.87),
    PublishedScore("sfearnet", "LEVIR-CD", MLLA_ABSTRACT, precision=84.89),
    PublishedScore("bit", "LEVIR-CD", MLLA_ABSTRACT, precision=82.80),
    PublishedScore("ifn", "LEVIR-CD", MLLA_ABSTRACT, precision=82.29),
    PublishedScore("fc_ef", "LEVIR-CD", OPEN_CD, f1=85.84, iou_changed=75.20),
    PublishedScore("fc_siam_diff", "LEVIR-CD", OPEN_CD, f1=87.31, iou_changed=77.47),
    PublishedScore("fc_siam_conc", "LEVIR-CD", OPEN_CD, f1=88.51, iou_changed=79.39),
    PublishedScore("snunet", "LEVIR-CD", OPEN_CD, 92.70, 90.04, 91.35, iou_changed=84.08, variant="width 16"),
    PublishedScore("ifn", "LEVIR-CD", OPEN_CD, 91.17, 90.51, 90.83, iou_changed=83.21),
    PublishedScore("bit", "LEVIR-CD", OPEN_CD, 91.97, 88.62, 90.26, iou_changed=82.25, variant="ImageNet weights kept"),
    PublishedScore("bit", "LEVIR-CD", BTC, f1=90.04),
    PublishedScore("bit", "SYSU-CD", BTC, f1=77.04),
    PublishedScore("fc_ef", "SYSU-CD", CHANGE_MAMBA, f1=73.14, iou_changed=57.66),
    PublishedScore("ifn", "SYSU-CD", CHANGE_MAMBA, f1=78.80, iou_changed=65.02),
    PublishedScore("fc_ef", "CDD", CDLAB, f1=88.73),
    PublishedScore("fc_siam_diff", "CDD", CDLAB, f1=93.16),
    PublishedScore("fc_siam_conc", "CDD", CDLAB, f1=92.93),
    PublishedScore("stanet", "CDD", CDLAB, f1=93.52),
    PublishedScore("snunet", "CDD", CDLAB, f1=97.57),
    PublishedScore("ifn", "CDD", CDLAB, f1=96.99),
    PublishedScore("bit", "CDD", CDLAB, f1=96.79),
    PublishedScore("unetpp_msof", "CDD", SURVEY, 89.54, 87.11, 87.56, oa=96.73),
    PublishedScore("ifn", "CDD", SURVEY, 94.96, 86.08, 90.30, oa=97.71),
    PublishedScore("ifn", "DSIFN", SURVEY, 67.11, 67.54, 67.33, oa=88.86),
)

PUBLISHED: tuple[PublishedScore, ...] = (*_mccrnet_rows(), *_OTHERS)
"""All rows; for one network the method's own paper, or the paper that compares it, comes first."""

_MODULES, _LOSS = "mccrnet-modules", "mccrnet-loss"
ABLATIONS: tuple[AblationScore, ...] = tuple(
    AblationScore(ablation, label, "CDD", f1, f"{MCCRNET_PAPER}, table {3 if ablation == _MODULES else 4}")
    for ablation, label, f1 in (
        (_MODULES, "baseline", 93.20),
        (_MODULES, "+ASPCA", 94.28),
        (_MODULES, "+CCR", 95.66),
        (_MODULES, "+ASPCA +CCR", 96.41),
        (_LOSS, "baseline, CE", 92.42),
        (_LOSS, "baseline, EAW", 93.71),
        (_LOSS, "+ASPCA, CE", 92.17),
        (_LOSS, "+ASPCA, EAW", 94.28),
        (_LOSS, "+CCR, CE", 93.88),
        (_LOSS, "+CCR, EAW", 95.66),
        (_LOSS, "+ASPCA +CCR, CE", 94.59),
        (_LOSS, "+ASPCA +CCR, EAW", 96.41),
    )
)
"""F1 of MCCRNet's tables 3 and 4, which contradict each other: the baseline with EAW is 93.20 in one and 93.71 in the
other. The text's gain of 1.95 by CCR fits the second."""


def published_scores(network: str) -> tuple[PublishedScore, ...]:
    """The rows of one network, in the order of `PUBLISHED`; empty if there are none."""
    return tuple(row for row in PUBLISHED if row.network == network)


def headline(network: str) -> PublishedScore | None:
    """The first printed row with an F1, preferably on LEVIR-CD."""
    rows = sorted((r for r in published_scores(network) if r.f1 is not None), key=lambda r: r.data != "LEVIR-CD")
    return rows[0] if rows else None


def headline_f1(network: str) -> str:
    """Its F1 and data, e.g. ``90.71† LEVIR-CD``, with `MARK` if the row contradicts itself; empty if there is none."""
    row = headline(network)
    return "" if row is None else f"{row.f1:.2f}{MARK if contradictions(row) else ''} {row.data}"


def contradictions(row: PublishedScore) -> list[str]:
    """Sentences on what in a printed row cannot be true together, beyond rounding; empty where all agrees.

    F1 must be the harmonic mean of precision and recall, and the changed class's IoU is F1 / (2 - F1). A printed mIOU
    may be the changed class's IoU or the mean of both classes' IoU, which precision, recall and OA determine; it is
    named if it is neither, by more than 0.05. Means over images or batches, in place of one global confusion matrix,
    break such identities too.
    """
    found = []
    if row.precision is not None and row.recall is not None and row.f1 is not None:
        found += _compare("F1", row.f1, "the harmonic mean of its P and R", _f1, (row.precision, row.recall))
    if row.f1 is not None and row.iou_changed is not None:
        found += _compare("IoU", row.iou_changed, "what its F1 gives", _iou_of_f1, (row.f1,))
    return found + _miou_contradiction(row)


def _compare(
    name: str, printed: float, meaning: str, formula: Callable[..., float], arguments: Sequence[float]
) -> list[str]:
    if _possible(printed, formula, arguments):
        return []
    return [f"{name} {printed:.2f} is printed, {meaning} is {formula(*arguments):.2f}"]


def _possible(
    printed: float, formula: Callable[..., float], arguments: Sequence[float], slack: float = HALF_A_DIGIT
) -> bool:
    """Whether a value can be printed if the arguments were rounded too; the formulas are monotonic in each argument."""
    corners = itertools.product(*((x - HALF_A_DIGIT, x + HALF_A_DIGIT) for x in arguments))
    values = [formula(*corner) for corner in corners]
    return min(values) - slack <= printed <= max(values) + slack


def _miou_contradiction(row: PublishedScore) -> list[str]:
    if row.miou is None or row.f1 is None or _possible(row.miou, _iou_of_f1, (row.f1,)):
        return []
    alone = f"mIOU {row.miou:.2f} is printed, the changed class's IoU by its F1 is {_iou_of_f1(row.f1):.2f}"
    if row.precision is None or row.recall is None or row.oa is None:
        return [alone]
    known = (row.precision, row.recall, row.oa)
    if _possible(row.miou, _mean_iou, known, MIOU_SLACK):
        return []
    return [f"{alone} and the mean of both classes by its P, R and OA {_mean_iou(*known):.2f}"]


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall)


def _iou_of_f1(f1: float) -> float:
    return 100 * f1 / (200 - f1)


def _mean_iou(precision: float, recall: float, oa: float) -> float:
    """Mean of both classes' IoU in per cent, from the confusion matrix that P, R and OA (all in per cent) determine."""
    fp_per_tp, fn_per_tp = 100 / precision - 1, 100 / recall - 1
    wrong = 1 - oa / 100
    tp = wrong / (fp_per_tp + fn_per_tp)
    tn = 1 - wrong - tp
    return 50 * (tp / (tp + wrong) + tn / (tn + wrong))
