"""All that `terradelta evaluate` does, as one call: scores, protocols, thresholds, a comparison, robustness, copies."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from terradelta.errors import InputError
from terradelta.lab.data import open_pairs
from terradelta.lab.data.pairs import PairSource
from terradelta.lab.evaluation.calibrate import calibrated_card, refuse_test, sweep, sweep_curve
from terradelta.lab.evaluation.comparison import Images, against_record, compare, read_images
from terradelta.lab.evaluation.details import Details
from terradelta.lab.evaluation.evaluator import Evaluation, evaluate, thinned
from terradelta.lab.evaluation.robustness import robustness, robustness_record
from terradelta.lab.evaluation.score_receipt import evaluation_receipt
from terradelta.lab.evaluation.scoring import PROTOCOLS, WHOLE, Scoring
from terradelta.predict.load import load_predictor
from terradelta.predict.onnx_card import copy_with_card, weights_identity
from terradelta.predict.predictor import Predictor
from terradelta.receipt import EvaluationReceipt
from terradelta.receipt.evaluation_record import MetricsRecord, ProtocolRecord, SweepRecord

__all__ = ["Request", "choose_protocols", "run_session"]

Advance = Callable[[int, int], None]
Progress = Callable[[str], AbstractContextManager[Advance]]
"""Called with what is being done; the block gets the function to call with (done, total)."""
Tell = Callable[[str, EvaluationReceipt], None]
"""Called when a part of the receipt is there: with its name, and the receipt so far."""


def choose_protocols(name: str, patch_px: int = 256) -> tuple[Scoring, ...]:
    """The protocol of a name, or of ``all`` every one, whole images first.

    Raises:
        InputError: if there is no such protocol, or a patch is too small.
    """
    if name not in (*PROTOCOLS, "all"):
        raise InputError(f"there is no protocol {name!r}; give one of {', '.join((*PROTOCOLS, 'all'))}")
    return tuple(Scoring(each, patch_px) for each in (PROTOCOLS if name == "all" else (name,)))


@dataclass(frozen=True)
class Request:
    """What is to be scored, and what else is to be found out; refused where it cannot be done.

    Raises:
        InputError: if the threshold is none, or something would be chosen on the test split.
    """

    model: str
    """As for `load_predictor`."""
    data: str
    """As for `open_pairs`."""
    split: str = "test"
    threshold: float | None = None
    """Probability in (0, 1] from which a pixel counts as changed; the card's by default."""
    protocols: tuple[Scoring, ...] = (WHOLE,)
    """The first gives the scores; with more, their difference from it is counted too."""
    limit: int | None = None
    """Take at most so many pairs, evenly spread."""
    sweep: bool = False
    """Look for thresholds to choose from."""
    calibrate: Path | None = None
    """Copy of the model to write, calibrated on this split."""
    against: str | None = None
    """Another model to compare with, or its receipt (``.json``)."""
    robustness: bool = False
    """Score under known disturbances."""
    journal: Path | None = None
    """File that keeps what the robustness has done; a run that was stopped goes on from it. It is not removed."""
    examples: int = 0
    """How many of the best and of the worst images to keep for a page."""
    device: str = "cpu"
    precision: str = "auto"
    """Of the model; what it is compared with chooses its own."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError(f"threshold is {self.threshold}; it must be above 0 and at most 1")
        if self.sweep:
            refuse_test(self.split, "choosing a threshold")
        if self.calibrate is not None:
            refuse_test(self.split, "calibrating")


def run_session(
    request: Request, *, progress: Progress | None = None, tell: Tell | None = None
) -> tuple[EvaluationReceipt, Details]:
    """Do what is asked for; what to compare with is looked at before the work.

    Args:
        request: what.
        progress: shows how far a part is.
        tell: called with ``scores``, ``protocols``, ``sweep``, ``against``, ``robustness`` and ``calibrated``,
            as far as they are asked for, in this order, each with the receipt once it holds that part.

    Returns:
        The receipt, and what was collected for its page; see `terradelta.lab.evaluation.page.render_evaluation`.

    Raises:
        InputError: if model, data or a receipt cannot be used.
        OutputError: if a copy or the journal cannot be written.
    """
    pairs = open_pairs(request.data, request.split)
    pairs = pairs if request.limit is None else thinned(pairs, request.limit)
    predictor = load_predictor(request.model, device=request.device, precision=request.precision)
    rival = None if request.against is None else _rival(request.against, request, pairs)
    session = _Session(request, pairs, predictor, progress or (lambda _: nullcontext(lambda _done, _total: None)))
    details = Details(examples=request.examples)
    found = session.score(f"evaluating on {request.split}", predictor, request.protocols[0], request.threshold, details)
    receipt = evaluation_receipt(
        found, predictor.card, pairs, weights=weights_identity(predictor), runtime=predictor.runtime
    )
    tell = tell or (lambda _part, _receipt: None)
    tell("scores", receipt)
    for name, wanted, change in (
        ("protocols", len(request.protocols) > 1, session.by_protocol),
        ("sweep", request.sweep, _with_sweep),
        ("against", rival is not None, lambda r, f: session.compared(r, f, rival)),
        ("robustness", request.robustness, session.disturbed),
        ("calibrated", request.calibrate is not None, session.calibrated),
    ):
        if wanted:
            receipt = change(receipt, found)
            tell(name, receipt)
    return receipt, details


Rival = Predictor | tuple[str, Images]
"""A model, or the name and the counts that its receipt holds."""


def _rival(against: str, request: Request, pairs: PairSource) -> Rival:
    if Path(against).suffix.lower() != ".json":
        return load_predictor(against, device=request.device)
    return read_images(Path(against), pairs.checksum(), request.protocols[0].text)


@dataclass(frozen=True)
class _Session:
    request: Request
    pairs: PairSource
    predictor: Predictor
    progress: Progress

    def score(
        self,
        title: str,
        predictor: Predictor,
        protocol: Scoring,
        threshold: float | None = None,
        details: Details | None = None,
    ) -> Evaluation:
        with self.progress(title) as advance:
            return evaluate(
                *(predictor, self.pairs), threshold=threshold, protocol=protocol, details=details, progress=advance
            )

    def by_protocol(self, receipt: EvaluationReceipt, found: Evaluation) -> EvaluationReceipt:
        """With the scores by every protocol, and their change from the first."""
        first = found.total.metrics()
        rows = [ProtocolRecord(found.protocol.name, found.protocol.text, MetricsRecord(**first))]
        for protocol in self.request.protocols[1:]:
            other = self.score(f"evaluating by {protocol.name}", self.predictor, protocol, found.threshold)
            scores = other.total.metrics()
            gap = MetricsRecord(**{name: scores[name] - first[name] for name in scores})
            rows.append(ProtocolRecord(protocol.name, protocol.text, MetricsRecord(**scores), gap))
        return replace(receipt, protocols=tuple(rows))

    def compared(self, receipt: EvaluationReceipt, found: Evaluation, rival: Rival | None) -> EvaluationReceipt:
        """With the difference from another model."""
        assert rival is not None
        runtime = None
        if isinstance(rival, tuple):
            name, images = rival
        else:
            name, runtime = rival.name, rival.runtime
            scored = self.score(f"evaluating {name}", rival, found.protocol)
            images = {each: counts.as_tuple() for each, counts in scored.images}
        result = compare(images, {each: counts.as_tuple() for each, counts in found.images})
        return replace(receipt, against=against_record(result, name, runtime))

    def disturbed(self, receipt: EvaluationReceipt, found: Evaluation) -> EvaluationReceipt:
        """With the robustness card."""
        with self.progress("robustness") as advance:
            card = robustness(
                *(self.predictor, self.pairs),
                threshold=found.threshold,
                protocol=found.protocol,
                journal=self.request.journal,
                progress=advance,
            )
        return replace(receipt, robustness=robustness_record(card))

    def calibrated(self, receipt: EvaluationReceipt, found: Evaluation) -> EvaluationReceipt:
        """With what the calibration changed; the copy is written."""
        card, record = calibrated_card(found, self.predictor.card, self.pairs)
        assert self.request.calibrate is not None
        copy_with_card(self.request.model, card, self.request.calibrate)
        return replace(receipt, calibrated=record)


def _with_sweep(receipt: EvaluationReceipt, found: Evaluation) -> EvaluationReceipt:
    curve = sweep_curve(found)
    return replace(receipt, sweep=SweepRecord(sweep(found), curve.columns, curve.curve))
