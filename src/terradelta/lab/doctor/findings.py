"""What the doctor says: findings, each with its cure."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Finding", "Severity", "grouped"]


class Severity(enum.Enum):
    """How bad a finding is, the worst first."""

    ERROR = "error"
    """Reading, training or scores would fail, or be wrong."""
    WARNING = "warning"
    """May be meant; look at it."""
    NOTE = "note"
    """Good to know."""

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Finding:
    """One observation on one pair, one split or the whole data set."""

    severity: Severity
    kind: str
    """The same for all findings of a kind, e.g. ``label saved as JPEG``."""
    message: str
    """What was found, with names and numbers."""
    cure: str
    """What to do; the same for all findings of a kind."""
    pairs: tuple[tuple[str, str], ...] = ()
    """(split, name) of the pairs concerned."""
    correlation: float | None = None
    """How alike two images are, where that is the finding."""


def grouped(findings: Iterable[Finding]) -> dict[tuple[Severity, str], list[Finding]]:
    """Findings of one kind together, the worst kinds first, otherwise in the order in which they were made."""
    groups: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    return dict(sorted(groups.items(), key=lambda item: item[0][0].rank))
