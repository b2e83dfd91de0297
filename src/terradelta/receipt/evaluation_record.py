"""The receipt of `terradelta evaluate`: which weights were scored on which bytes, by which protocol, and how."""

from dataclasses import dataclass
from typing import ClassVar

from terradelta.receipt.codec import Receipt

__all__ = [
    "AgainstRecord",
    "BoundaryRecord",
    "CalibrationRecord",
    "ConfusionRecord",
    "CurveRecord",
    "DataRecord",
    "DisturbanceRecord",
    "EvaluationReceipt",
    "ImagesRecord",
    "Interval",
    "IntervalsRecord",
    "KindRecord",
    "LogitScalingRecord",
    "MetricsRecord",
    "ObjectsRecord",
    "PerImageRecord",
    "ProbabilitiesRecord",
    "ProtocolRecord",
    "ReliabilityRecord",
    "RobustnessRecord",
    "SizeRecord",
    "SizesRecord",
    "SweepRecord",
    "ThresholdRecord",
]

Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True)
class LogitScalingRecord:
    """How logits became probabilities: ``logit / temperature + logit_bias``."""

    temperature: float
    logit_bias: float


@dataclass(frozen=True)
class DataRecord:
    """What was scored."""

    folder: str
    split: str
    pairs: int
    sha256: str
    """Of all files of the split."""


@dataclass(frozen=True)
class MetricsRecord:
    """Scores from one confusion matrix over all pixels: fractions; also differences of such scores."""

    precision: float
    recall: float
    f1: float
    iou_changed: float
    """IoU of the changed class."""
    miou: float
    """Mean IoU of both classes."""
    oa: float
    """Overall accuracy."""
    kappa: float


@dataclass(frozen=True)
class ConfusionRecord:
    """The confusion matrix over all pixels; positive is changed."""

    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True)
class PerImageRecord:
    """Means over images; F1 and IoU over the images that hold change in label or prediction."""

    images: int
    mean_f1_of_images_with_change: float
    mean_iou_of_images_with_change: float
    mean_oa: float


@dataclass(frozen=True)
class IntervalsRecord:
    """Confidence intervals of the scores, by their names."""

    method: str
    level: float
    resamples: int
    seed: int
    metrics: dict[str, Interval]
    per_image: dict[str, Interval]


@dataclass(frozen=True)
class CurveRecord:
    """Points of a curve."""

    columns: tuple[str, ...]
    curve: tuple[tuple[float, ...], ...]
    """One point each, in the order of the columns."""


@dataclass(frozen=True)
class ReliabilityRecord:
    """One bin of the reliability diagram."""

    at_least: float
    """Probability."""
    below: float
    pixels: int
    mean_probability: float
    changed: float
    """Share of its pixels that have changed; equal to the mean where the probabilities are calibrated."""


@dataclass(frozen=True)
class ProbabilitiesRecord:
    """Whether the probabilities mean what they say."""

    ece: float
    """Expected calibration error."""
    brier: float
    nll: float
    """Negative log-likelihood, nats a pixel."""
    mean_probability: float
    changed: float
    """Share of the pixels."""
    reliability: tuple[ReliabilityRecord, ...]


@dataclass(frozen=True)
class ObjectsRecord:
    """Changes as objects."""

    changes: int
    """In the label."""
    found: int
    """Of these, at least half predicted."""
    predicted: int
    right: int
    """Of these, at least half changed."""
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class SizeRecord:
    """Scores of changes of one range of sizes."""

    at_least: float
    """Size, in the unit that the key above names."""
    below: float | None
    """None: no limit."""
    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    f1: float
    objects: ObjectsRecord


@dataclass(frozen=True)
class SizesRecord:
    """Scores by the size of the change, small ones first."""

    px: tuple[SizeRecord, ...]
    """By pixels."""
    m2: tuple[SizeRecord, ...] | None = None
    """By square metres; None where an image has no size on the ground."""


@dataclass(frozen=True)
class BoundaryRecord:
    """Scores of the outlines within a tolerance."""

    tolerance_px: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ImagesRecord:
    """Counts of each image."""

    columns: tuple[str, ...]
    confusion_px: dict[str, tuple[int, int, int, int]]


@dataclass(frozen=True)
class ProtocolRecord:
    """Scores by one protocol."""

    name: str
    protocol: str
    metrics: MetricsRecord
    difference: MetricsRecord | None = None
    """From the first protocol."""


@dataclass(frozen=True)
class ThresholdRecord:
    """A threshold to choose, and its scores."""

    rule: str
    threshold: float | None
    """None: none reaches it."""
    metrics: MetricsRecord | None = None


@dataclass(frozen=True)
class SweepRecord:
    """Scores by threshold."""

    chosen: tuple[ThresholdRecord, ...]
    columns: tuple[str, ...]
    curve: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class AgainstRecord:
    """Another model on the same images: this model minus that one."""

    model: str
    """The other one."""
    runtime: str | None = None
    """What ran it; None where its receipt was taken."""
    its_metrics: MetricsRecord
    method: str
    resamples: int
    images: int
    metrics: MetricsRecord
    """Of this model."""
    difference: MetricsRecord
    intervals: dict[str, Interval]
    """Of the differences; empty for fewer than two images."""
    p_f1: float
    """Two-sided p-value of the difference in F1."""
    images_with_higher_f1: int
    images_with_lower_f1: int


@dataclass(frozen=True)
class KindRecord:
    """A kind of disturbance."""

    unit: str
    what: str


@dataclass(frozen=True)
class DisturbanceRecord:
    """Scores under one disturbance; under none: ``none`` at level 0."""

    kind: str
    level: float
    label: str
    f1: float
    precision: float
    recall: float
    f1_change: float | None = None
    f1_change_interval: Interval | None = None
    """95 % interval over images; None for fewer than two."""


@dataclass(frozen=True)
class RobustnessRecord:
    """How F1 falls when a pair is disturbed in known ways."""

    threshold: float
    protocol: str
    seed: int
    images: int
    kinds: dict[str, KindRecord]
    skipped: dict[str, str]
    """Kinds that the model's bands do not allow, with the reason."""
    rows: tuple[DisturbanceRecord, ...]


@dataclass(frozen=True)
class CalibrationRecord:
    """What a calibration changed, on which data."""

    data: str
    split: str
    pairs: int
    protocol: str
    temperature: float
    logit_bias: float
    ece_before: float
    brier_before: float
    nll_before: float
    ece_after: float
    brier_after: float
    nll_after: float
    threshold: float
    """The best one, on the new scale."""


@dataclass(frozen=True, kw_only=True)
class EvaluationReceipt(Receipt):
    """The receipt of an evaluation."""

    kind: ClassVar[str] = "evaluation"
    command: ClassVar[str] = "terradelta evaluate"
    cure: ClassVar[str] = "make one with -o"

    model: str
    network: str
    weights: str | None = None
    """A hash of them."""
    origin: dict[str, str] | None = None
    """Source, revision and SHA-256 of a file that was fetched."""
    runtime: str | None = None
    """What ran them and in which precision."""
    scaling: LogitScalingRecord
    data: DataRecord
    protocol: str
    threshold: float
    """Probability from which a pixel counts as changed."""
    metrics: MetricsRecord
    confusion_px: ConfusionRecord
    per_image: PerImageRecord
    intervals: IntervalsRecord | None = None
    """None for fewer than two images, or without details, as the following ones up to ``images``."""
    average_precision: float | None = None
    """Area under the precision-recall curve."""
    precision_recall: CurveRecord | None = None
    calibration: ProbabilitiesRecord | None = None
    by_size: SizesRecord | None = None
    boundary: tuple[BoundaryRecord, ...] | None = None
    images: ImagesRecord | None = None
    protocols: tuple[ProtocolRecord, ...] | None = None
    """Every protocol, where all were asked for; the first one is that of the scores above."""
    sweep: SweepRecord | None = None
    against: AgainstRecord | None = None
    robustness: RobustnessRecord | None = None
    calibrated: CalibrationRecord | None = None
    """Of the copy of the model that was written."""
