"""Calibration against direct computation from all pixels, and a fit whose answer is known."""

import numpy as np
import pytest
from scipy.optimize import minimize

from terradelta.errors import DataError, ShapeError
from terradelta.lab.metrics import LogitHistogram, LogitScaling


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def sample(slope: float, bias: float, n: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels for which `slope * logit + bias` would be calibrated."""
    rng = np.random.default_rng(0)
    logit = rng.normal(-1, 2, (1, n))
    return sigmoid(logit).astype(np.float32), rng.random((1, n)) < sigmoid(slope * logit + bias)


def made(probability: np.ndarray, label: np.ndarray) -> LogitHistogram:
    histogram = LogitHistogram()
    half = probability.shape[1] // 2
    for part in (slice(half), slice(half, None)):
        histogram.add(probability[:, part], label[:, part])
    return histogram


def test_scores_are_those_of_all_pixels() -> None:
    p, y = sample(0.5, -1)
    found = made(p, y).scores()
    p64 = p.astype(np.float64)
    ece = 0.0
    for k in range(15):
        inside = (p64 >= k / 15) & (p64 < (k + 1) / 15)
        ece += inside.mean() * abs(p64[inside].mean() - y[inside].mean())
    assert found["ece"] == pytest.approx(ece, abs=1e-5)
    assert found["brier"] == pytest.approx(np.mean((p64 - y) ** 2), abs=1e-5)
    assert found["nll"] == pytest.approx(-np.mean(np.log(np.where(y, p64, 1 - p64))), abs=1e-5)
    assert found["mean_probability"] == pytest.approx(p64.mean(), abs=1e-6)
    assert found["changed"] == y.mean()


def test_reliability_by_hand() -> None:
    p = np.array([[0.01, 0.03, 0.5, 0.5, 0.5, 0.5, 0.99]], np.float32)
    y = np.array([[False, False, True, False, False, False, True]])
    low, middle, high = made(p, y).reliability()
    assert (low.at_least, low.below, low.pixels, low.changed) == (0, 1 / 15, 2, 0)
    assert low.mean_probability == pytest.approx(0.02, abs=1e-6)
    assert (middle.pixels, middle.changed) == (4, 0.25)
    assert (high.below, high.pixels, high.changed) == (1, 1, 1)
    assert made(p, y).scores()["ece"] == pytest.approx((2 * 0.02 + 4 * 0.25 + 0.01) / 7, abs=1e-6)


@pytest.mark.parametrize(("slope", "bias"), [(0.5, -1.0), (1.0, 0.0), (2.0, 1.5)])
def test_the_fit_finds_the_scaling_that_made_the_labels(slope: float, bias: float) -> None:
    p, y = sample(slope, bias)
    found = made(p, y).fit()
    logit = np.log(p.astype(np.float64)) - np.log1p(-p.astype(np.float64))

    def loss(x: np.ndarray) -> float:
        return float(np.logaddexp(0, np.where(y, -1, 1) * (x[0] * logit + x[1])).mean())

    exact = minimize(loss, (1.0, 0.0), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10}).x
    assert (found.slope, found.bias) == pytest.approx(tuple(exact), abs=2e-3)
    assert (found.slope, found.bias) == pytest.approx((slope, bias), abs=0.1)


def test_calibrating_mends_what_was_wrong() -> None:
    p, y = sample(0.5, -1)
    histogram = made(p, y)
    fitted, temperature = histogram.fit(), histogram.fit(with_bias=False)
    before, after, warm = (histogram.scores(s) for s in (LogitScaling(), fitted, temperature))
    assert temperature.bias == 0
    assert after["ece"] < 0.01 < before["ece"]
    assert after["nll"] < warm["nll"] < before["nll"]
    assert after["mean_probability"] == pytest.approx(after["changed"], abs=1e-4)  # what a bias brings
    scaled = sigmoid(fitted.slope * (np.log(p) - np.log1p(-p)) + fitted.bias).astype(np.float32)
    direct = made(scaled, y).scores()
    for name in ("brier", "nll", "mean_probability"):
        assert after[name] == pytest.approx(direct[name], abs=1e-5)
    assert after["ece"] == pytest.approx(
        direct["ece"], abs=2e-3
    )  # bins of 0.02 in logit fall across borders of the diagram


def test_scaling_of_a_threshold() -> None:
    assert LogitScaling().apply(0.3) == pytest.approx(0.3)
    assert LogitScaling(2.0, 1.0).apply(0.5) == pytest.approx(1 / (1 + np.exp(-1)))


def test_precision_recall_curve_is_the_one_over_all_probabilities() -> None:
    rng = np.random.default_rng(1)
    p = np.round(sigmoid(rng.normal(0, 2, (1, 300))), 2).astype(np.float32)
    y = rng.random((1, 300)) < p
    values = np.unique(p)[::-1]
    curve = [((p >= v) & y).sum() for v in values], [(p >= v).sum() for v in values]
    recall, precision = np.array(curve[0]) / y.sum(), np.array(curve[0]) / np.array(curve[1])
    found = made(p, y)
    np.testing.assert_allclose(found.precision_recall()[:, 1:], np.stack([recall, precision], 1), atol=1e-12)
    expected = sum((r - q) * s for r, q, s in zip(recall, [0, *recall[:-1]], precision, strict=True))
    assert found.average_precision() == pytest.approx(expected)
    thresholds = found.precision_recall()[:, 0]
    assert (np.abs(thresholds - values) < 0.01).all()
    assert (thresholds <= values + 1e-7).all()


def test_zero_one_and_no_number() -> None:
    histogram = made(np.array([[0.0, 1.0, np.nan, 1.0]], np.float32), np.array([[False, True, True, False]]))
    assert histogram.total == 3
    scores = histogram.scores()
    assert scores["nll"] == pytest.approx(16 / 3, rel=1e-5)
    assert np.isfinite(list(scores.values())).all()


def test_nothing_counted() -> None:
    empty = LogitHistogram()
    assert empty.reliability() == ()
    assert set(empty.scores().values()) == {0}
    assert empty.average_precision() == 0


def test_what_cannot_be_fitted_is_refused() -> None:
    p, y = sample(1, 0, 100)
    with pytest.raises(DataError, match="needs changed and unchanged pixels; this split has only one kind"):
        made(p, np.zeros_like(y)).fit()
    with pytest.raises(DataError, match="do not rise with the share of changed pixels"):
        made(p, ~y).fit()
    with pytest.raises(ShapeError, match=r"probability \(1, 100\) and label \(1, 99\) must have one shape"):
        LogitHistogram().add(p, y[:, 1:])


def test_a_split_told_apart_perfectly_can_be_fitted() -> None:
    found = made(np.array([[0.2, 0.8]], np.float32), np.array([[False, True]])).fit()
    assert np.isfinite(found.slope)
    assert found.slope > 1
