import json
from pathlib import Path
from typing import Any

import pytest

from terradelta.lab.bench.design import BASELINES, Entry, Job, Setup, jobs_of
from terradelta.lab.bench.entries import ablation_entries
from terradelta.lab.bench.summary import outcomes_of, summary_table, unlearnt
from terradelta.lab.bench.tables import Spread, Table

PROTOCOL = Setup("/somewhere/levir_cd_subset", tiles=7, crop_px=32)


def write_result(job: Job, runs: Path, f1: float, **more: float) -> None:
    folder = runs / job.folder
    folder.mkdir(parents=True)
    metrics = {"f1": f1, "precision": 0.5, "recall": 0.6, "iou_changed": f1 / (2 - f1)}
    (folder / "result.json").write_text(json.dumps({"metrics": metrics, **more}))


@pytest.fixture
def made(tmp_path: Path) -> tuple[list[Any], Table]:
    """Two seeds: fc_ef ran twice, bit failed once, snunet is no better than CVA, unetpp_msof has not run."""
    names = ("fc_ef", "bit", "snunet", "unetpp_msof")
    jobs = jobs_of([Entry(name, name) for name in names], [0, 1], PROTOCOL)
    scores = {"all changed": 0.2, "CVA": 0.31, "CVA, tuned": 0.4}
    for job in jobs[:3]:
        write_result(job, tmp_path, scores[job.entry.label])
    by_name = {(job.entry.label, job.seed): job for job in jobs}
    write_result(by_name["fc_ef", 0], tmp_path, 0.5, training_s=10.0)
    write_result(by_name["fc_ef", 1], tmp_path, 0.6, training_s=14.0)
    write_result(by_name["bit", 0], tmp_path, 0.7)
    write_result(by_name["snunet", 0], tmp_path, 0.9)
    write_result(by_name["snunet", 1], tmp_path, 0.4)
    failed = tmp_path / by_name["bit", 1].folder
    failed.mkdir()
    (failed / "failed.json").write_text(json.dumps({"why": "killed (SIGKILL)"}))
    outcomes = outcomes_of(jobs, tmp_path)
    speeds = {"fc_ef": {"ratio": 0.5, "pairs_per_s": 4.0, "side": 256}}
    hashes = {"test": "7 tiles, SHA-256 abc"}
    return outcomes, summary_table(outcomes, PROTOCOL, hashes=hashes, speeds=speeds, seeds=[0, 1])


def rows(table: Table) -> dict[str, dict[str, Any]]:
    names = [column.name for column in table.columns]
    return {str(row[0]): dict(zip(names, row, strict=True)) for row in table.rows}


def test_baselines_stand_above_the_networks(made):
    assert list(rows(made[1])) == [*BASELINES, "fc_ef", "bit", "snunet", "unetpp_msof"]


def test_mean_and_standard_deviation_over_seeds(made):
    row = rows(made[1])["fc_ef"]
    assert isinstance(row["F1 %"], Spread)
    assert (row["F1 %"].mean, row["F1 %"].n) == (pytest.approx(55), 2)
    assert row["F1 %"].sd == pytest.approx(50**0.5)
    assert row["training s"].mean == 12
    assert (row["speed"], row["pairs/s"]) == (0.5, 4.0)
    assert row["parameters M"] == pytest.approx(1.350578)
    assert row["MACs G"] == pytest.approx(3.095396352)


def test_a_row_says_what_failed_and_what_has_not_run(made):
    found = rows(made[1])
    assert found["bit"]["remark"] == "failed: killed (SIGKILL)"
    assert found["bit"]["runs"] == 1
    assert found["unetpp_msof"]["remark"] == "2 not run yet"
    assert found["unetpp_msof"]["F1 %"] is None
    assert found["unetpp_msof"]["learnt"] is None


def test_learnt_means_that_every_run_beats_every_baseline(made):
    found = rows(made[1])
    assert found["fc_ef"]["learnt"] == "yes"
    assert found["snunet"]["learnt"] == "NO"
    assert unlearnt(made[0]) == ["snunet"]
    assert found["CVA"]["learnt"] is None


def test_published_scores_stand_beside_ours_with_their_contradictions(made):
    found, notes = rows(made[1]), " ".join(made[1].notes)
    assert found["fc_ef"]["published F1 %"] == "80.71† LEVIR-CD"
    assert found["snunet"]["published F1 %"] == "90.24 LEVIR-CD"
    assert "snunet: Ke & Zhang 2021, doi:10.3390/ijgi10090591, table 6." in notes
    assert "fc_ef: Ke & Zhang 2021, doi:10.3390/ijgi10090591, table 6; † mIOU 71.53 is printed" in notes


def test_the_table_states_its_protocol(made):
    table = made[1]
    assert table.title == "Networks on levir_cd_subset, 300 steps"
    notes = " ".join(table.notes)
    for words in ("no ranking of methods", "at most 7 of them", "32 x 32", "SHA-256 abc", "cores", "Seeds 0, 1"):
        assert words in notes
    assert "/somewhere" not in notes


def test_an_ablation_has_the_papers_numbers_beside_it(tmp_path: Path):
    entries = ablation_entries("mccrnet-loss")
    outcomes = outcomes_of(jobs_of(entries, [0], PROTOCOL), tmp_path)
    table = summary_table(outcomes, PROTOCOL, hashes={}, speeds={}, seeds=[0], ablation="mccrnet-loss")
    found = rows(table)
    assert found["baseline, CE"]["published F1 %"] == "92.42 CDD"
    assert found["+ASPCA +CCR, EAW"]["published F1 %"] == "96.41 CDD"
    assert found["CVA"]["published F1 %"] is None
    notes = " ".join(table.notes)
    assert "table 4, on CDD" in notes
    assert "93.20 for the baseline with EAW in table 3 and 93.71" in notes
    mlla = summary_table(
        outcomes_of(jobs_of(ablation_entries("mlla"), [0], PROTOCOL), tmp_path),
        PROTOCOL,
        **{"hashes": {}, "speeds": {}, "seeds": [0], "ablation": "mlla"},
    )
    assert not any("Published" in note for note in mlla.notes)


def test_what_cannot_be_built_or_read_is_no_reason_to_fail(tmp_path: Path):
    jobs = jobs_of([Entry("x", "bit", {"no": 1})], [0], PROTOCOL)
    for job in jobs:
        (tmp_path / job.folder).mkdir()
        (tmp_path / job.folder / "result.json").write_text("{half")
    outcomes = outcomes_of(jobs, tmp_path)
    assert [outcome.waiting for outcome in outcomes] == [1, 1, 1, 1]
    table = summary_table(outcomes, PROTOCOL, hashes={}, speeds={}, seeds=[0])
    assert rows(table)["x"]["parameters M"] is None
