import dataclasses

import pytest

from terradelta.lab.bench.published import ABLATIONS, PUBLISHED, PublishedScore, contradictions, published_scores


def row(network: str, data: str, source: str = "Ke & Zhang") -> PublishedScore:
    return next(r for r in PUBLISHED if (r.network, r.data) == (network, data) and r.source.startswith(source))


def test_the_known_contradiction_of_mccrnet_on_levir():
    """P 89.91 and R 89.62 give 2PR / (P + R) = 89.7648; F1 90.71 gives IoU 0.9071 / 1.0929 = 83.00; mIOU is 91.13."""
    first, second = contradictions(row("mccrnet", "LEVIR-CD"))
    assert first == "F1 90.71 is printed, the harmonic mean of its P and R is 89.76"
    assert second.startswith("mIOU 91.13 is printed, the changed class's IoU by its F1 is 83.00 and the mean of both")


def test_a_row_that_agrees_with_itself_is_not_flagged():
    assert contradictions(row("snunet", "LEVIR-CD", "Open-CD")) == []
    assert contradictions(row("mlla_sianet", "SYSU-CD", "abstract")) == []
    assert contradictions(row("mccrnet", "Google Data GZ")) == []  # mIOU is the mean of both classes there


def test_rows_of_a_real_confusion_matrix_agree_whichever_iou_is_called_miou():
    tp, fp, fn, tn = 700, 120, 260, 8920
    precision, recall = 100 * tp / (tp + fp), 100 * tp / (tp + fn)
    f1, changed = 200 * tp / (2 * tp + fp + fn), 100 * tp / (tp + fp + fn)
    mean = (changed + 100 * tn / (tn + fp + fn)) / 2
    oa = 100 * (tp + tn) / (tp + fp + fn + tn)
    for miou in (changed, mean):
        printed = [round(x, 2) for x in (precision, recall, f1, miou, oa)]
        made = PublishedScore("bit", "X", "test", *printed, iou_changed=round(changed, 2))
        assert contradictions(made) == []
    wrong = PublishedScore("bit", "X", "test", *printed[:3], miou=round((changed + mean) / 2, 2), oa=printed[4])
    (sentence,) = contradictions(wrong)
    assert f"is {changed:.2f} and" in sentence
    assert float(sentence.split()[-1]) == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize("off", [0.03, -0.03])
def test_three_hundredths_off_are_beyond_rounding(off):
    good = row("snunet", "LEVIR-CD", "Open-CD")
    assert good.f1 is not None
    assert good.iou_changed is not None
    assert contradictions(dataclasses.replace(good, f1=good.f1 + off))[0].startswith("F1")
    wrong_iou = dataclasses.replace(good, iou_changed=good.iou_changed + 2 * off)
    assert contradictions(wrong_iou)[0].startswith("IoU")


def test_a_miou_with_only_an_f1_beside_it():
    assert contradictions(PublishedScore("bit", "X", "test", f1=80.0, miou=66.67)) == []
    (sentence,) = contradictions(PublishedScore("bit", "X", "test", f1=80.0, miou=70.0))
    assert sentence == "mIOU 70.00 is printed, the changed class's IoU by its F1 is 66.67"


def test_every_row_has_a_source_and_percentages():
    for entry in PUBLISHED:
        assert entry.source
        printed = [entry.precision, entry.recall, entry.f1, entry.miou, entry.oa, entry.iou_changed]
        assert any(x is not None for x in printed)
        assert all(x is None or 10 < x <= 100 for x in printed), entry


def test_rows_as_the_paper_prints_them():
    """Read again from the paper: corners of its tables 6 to 9."""
    assert row("fc_ef", "LEVIR-CD").text() == "LEVIR-CD: P 81.26, R 80.17, F1 80.71, mIOU 71.53, OA 98.39"
    assert row("mccrnet", "CDD").text() == "CDD: P 97.52, R 95.32, F1 96.41, mIOU 96.07, OA 99.25"
    assert row("mccrnet", "CDD").source.endswith("table 7")
    assert row("dasnet", "Google Data GZ").f1 == 82.16
    assert row("mccrnet", "DSIFN").recall == 91.28
    assert len([r for r in PUBLISHED if r.source.startswith("Ke & Zhang")]) == 4 * 8


def test_scores_of_a_network():
    assert {r.data for r in published_scores("mccrnet")} == {"LEVIR-CD", "CDD", "Google Data GZ", "DSIFN"}
    assert published_scores("nothing") == ()


def test_the_ablation_tables_contradict_each_other_at_the_baseline():
    f1 = {(a.ablation, a.label): a.f1 for a in ABLATIONS}
    assert f1["mccrnet-modules", "baseline"] != f1["mccrnet-loss", "baseline, EAW"]
    for label in ("+ASPCA", "+CCR", "+ASPCA +CCR"):
        assert f1["mccrnet-modules", label] == f1["mccrnet-loss", f"{label}, EAW"]
    assert {a.source.rsplit(", ", 1)[1] for a in ABLATIONS} == {"table 3", "table 4"}
