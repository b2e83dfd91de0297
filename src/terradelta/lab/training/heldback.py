"""Fine-tuning judged on what was held back: folds, how many steps, which threshold, and whether it got better.

Steps and threshold are chosen by Cohen's kappa of all held-back pixels together: where half the pixels of a few tiles
have changed, F1 is highest for calling everything changed, whose kappa is 0. A score would be too good if it were taken
where they were chosen; so each fold is scored with the choice that the other folds make.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terradelta.lab.evaluation.comparison import Comparison, Images, compare
from terradelta.lab.metrics import ProbabilityHistogram, bootstrap, metrics_of

__all__ = ["Choice", "Judgement", "choose", "deal", "judge"]

Pixels = NDArray[np.int64]
"""``(images, 2, bins + 1)``: `ProbabilityHistogram.pixels` of each image."""
_SURE = 0.05


@dataclass(frozen=True)
class Choice:
    """How far to train, and what to call changed."""

    steps: int
    """0: the weights stay as they were."""
    threshold: float
    kappa: float
    """Of the held-back pixels that it was chosen on."""


@dataclass(frozen=True)
class Judgement:
    """A model before and after, on held-back images."""

    comparison: Comparison
    """The first one is the parent at its own threshold."""
    threshold_alone: float
    """F1 of the parent with a threshold that was chosen on held-back images, too."""
    intervals: tuple[tuple[float, float], ...]
    """95 % intervals of F1 before and after (BCa bootstrap over images); empty for a single image."""

    @property
    def verdict(self) -> str:
        """Whether it got better, in a sentence."""
        found = self.comparison
        gain, kappa = (found.second[name] - found.first[name] for name in ("f1", "kappa"))
        low = found.intervals.get("f1", (-1.0,))[0]
        if kappa <= 0 < gain:
            return (
                "It did not get better on what was held back: F1 rose because more is called changed, but kappa did "
                "not. Keep the model that it started from."
            )
        if gain <= 0:
            return "It did not get better on what was held back: keep the model that it started from."
        if low > 0 and found.p_f1 < _SURE:
            return "It got better."
        return (
            f"It looks better, but with {found.images} held-back images chance explains the difference too "
            f"(p = {found.p_f1:.2g}): label more."
        )

    def record(self) -> dict[str, Any]:
        """As JSON-ready values, for a card."""
        found = self.comparison
        return {
            "before": found.first,
            "after": found.second,
            "threshold_alone_f1": self.threshold_alone,
            "f1_intervals": [list(ends) for ends in self.intervals],
            "f1_difference_interval": list(found.intervals.get("f1", ())),
            "p_f1": found.p_f1,
            "verdict": self.verdict,
        }


def deal(groups: Sequence[int], amounts: Sequence[float], folds: int) -> list[int]:
    """The fold of each image: images of a group stay together, and folds hold alike much.

    Args:
        groups: a number for each image.
        amounts: what of each image counts, e.g. changed pixels: the groups with most are dealt first, to and fro.
        folds: 2 or more, at most as many as there are groups.
    """
    totals: dict[int, float] = {}
    for group, amount in zip(groups, amounts, strict=True):
        totals[group] = totals.get(group, 0.0) + amount
    order = sorted(totals, key=lambda group: (-totals[group], group))
    rounds = [*range(folds), *reversed(range(folds))]
    of_group = {group: rounds[k % len(rounds)] for k, group in enumerate(order)}
    return [of_group[group] for group in groups]


def choose(pixels: Mapping[int, Pixels]) -> Choice:
    """The steps and the threshold of the highest kappa, fewer steps among equals.

    Args:
        pixels: those of the same images, by steps.
    """
    choices = []
    for steps in sorted(pixels):
        histogram = ProbabilityHistogram.of(pixels[steps].sum(axis=0))
        threshold = histogram.best_threshold("kappa")
        choices.append(Choice(steps, threshold, histogram.confusion(threshold).kappa))
    return max(choices, key=lambda choice: (choice.kappa, -choice.steps))


def judge(
    pixels: Mapping[int, Pixels], names: Sequence[str], folds: Sequence[int] | None, threshold: float
) -> Judgement:
    """Compare the model before, which is that of 0 steps, and after.

    Args:
        pixels: of all images, by steps; 0 is the parent.
        names: of the images.
        folds: of each image; each is counted by the choice of the others. None: all by one choice, whose score is then
            too good.
        threshold: the parent's own.
    """
    before, alone, after = (np.zeros((len(names), 4)) for _ in range(3))
    for fold in (None,) if folds is None else sorted(set(folds)):
        inside = np.ones(len(names), bool) if folds is None else np.array(folds) == fold
        others = inside if folds is None else ~inside
        choice, own = (choose({s: pixels[s][others] for s in steps}) for steps in (pixels, (0,)))
        for rows, steps, cut in (
            (before, 0, threshold),
            (alone, 0, own.threshold),
            (after, choice.steps, choice.threshold),
        ):
            counts = [ProbabilityHistogram.of(x).confusion(cut).as_tuple() for x in pixels[steps][inside]]
            rows[inside] = np.array(counts)
    tables: list[Images] = [
        {name: (int(tp), int(fp), int(fn), int(tn)) for name, (tp, fp, fn, tn) in zip(names, rows, strict=True)}
        for rows in (before, after)
    ]
    found = [bootstrap(rows, metrics_of).get("f1") for rows in (before, after)]
    return Judgement(
        compare(*tables),
        float(metrics_of(alone.sum(axis=0))["f1"]),
        tuple((each.low, each.high) for each in found if each is not None),
    )
