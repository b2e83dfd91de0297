"""The runner with small scripts in place of real jobs; real ones are in test_run.py."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from terradelta.errors import InputError, OutputError, OutputExistsError
from terradelta.lab.bench import runner
from terradelta.lab.bench.design import Entry, Job, Setup

PROTOCOL = Setup("synthetic")
GOOD = "import pathlib, time; time.sleep({sleep}); pathlib.Path('result.json').write_text('{{}}')"


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.failures: dict[str, str | None] = {}
        self.steps: list[int] = []

    def planned(self, count: int) -> None:
        self.events.append(("planned", str(count)))

    def started(self, job: Job) -> None:
        self.events.append(("started", job.entry.label))

    def advanced(self, job: Job, step: int) -> None:
        self.steps.append(step)

    def ended(self, job: Job, failure: str | None) -> None:
        self.events.append(("ended", job.entry.label))
        self.failures[job.entry.label] = failure


@pytest.fixture
def scripts(monkeypatch):
    """Label -> code of the process that stands for its job."""
    codes: dict[str, str] = {}

    def spawn(folder: Path, data: Path) -> "subprocess.Popen[bytes]":
        label = json.loads((folder / "job.json").read_text())["entry"]["label"]
        with (folder / runner.LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", codes[label]],
                **{"cwd": folder, "stdin": subprocess.PIPE, "stdout": log, "stderr": log, "start_new_session": True},
            )

    monkeypatch.setattr(runner, "_spawn", spawn)
    monkeypatch.setattr(runner, "POLL_S", 0.02)
    return codes


def jobs(*labels: str) -> list[Job]:
    return [Job(Entry(label, ""), 0, PROTOCOL) for label in labels]


def test_a_failed_and_a_killed_job_do_not_lose_the_others(scripts, tmp_path):
    scripts |= {
        "good": GOOD.format(sleep=0),
        "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "wrong": "import sys; print('a line'); print('what was wrong', file=sys.stderr); sys.exit(1)",
        "silent": "import sys; sys.exit(5)",
        "late": GOOD.format(sleep=0) + "; import sys; sys.exit(7)",
    }
    told, todo = Recorder(), jobs("killed", "wrong", "terminated", "silent", "late", "good")
    runner.run_jobs(todo, tmp_path, tmp_path, told, parallel=2)
    assert told.failures["good"] is None
    assert told.failures["late"] is None  # its result was written whole before it fell
    assert "killed (SIGKILL); the system does that where memory runs out" in str(told.failures["killed"])
    assert told.failures["terminated"] == "killed (SIGTERM)"
    assert told.failures["wrong"] == "what was wrong"
    assert told.failures["silent"] == "ended with exit code 5"
    assert runner.failure_of(tmp_path / todo[1].folder) == "what was wrong"


def test_finished_jobs_are_not_repeated_and_failed_ones_are(scripts, tmp_path):
    scripts |= {"a": GOOD.format(sleep=0), "b": "raise SystemExit(1)"}
    todo = jobs("a", "b")
    runner.run_jobs(todo, tmp_path, tmp_path, Recorder(), parallel=1)
    scripts |= {"a": "raise SystemExit(9)", "b": GOOD.format(sleep=0)}
    told = Recorder()
    runner.run_jobs(todo, tmp_path, tmp_path, told, parallel=1)
    assert told.events == [("planned", "1"), ("started", "b"), ("ended", "b")]
    assert told.failures == {"b": None}
    assert runner.failure_of(tmp_path / todo[1].folder) is None


def test_no_more_at_once_than_asked_for(scripts, tmp_path):
    scripts |= {label: GOOD.format(sleep=0.3) for label in "abcd"}
    told = Recorder()
    runner.run_jobs(jobs(*"abcd"), tmp_path, tmp_path, told, parallel=2)
    under_way, most = 0, 0
    for kind, _ in told.events[1:]:
        under_way += 1 if kind == "started" else -1
        most = max(most, under_way)
    assert most == 2


@pytest.mark.parametrize(("gib", "expected"), [(1.5, 1), (4.5, 3)])
def test_no_more_at_once_than_memory_holds(scripts, tmp_path, monkeypatch, gib, expected):
    scripts |= {label: GOOD.format(sleep=0.3) for label in "abc"}
    monkeypatch.setattr(runner, "available_memory", lambda: int(gib * 2**30))  # each baseline counts 1 GiB
    monkeypatch.setattr(runner, "cores", lambda: 8)
    told = Recorder()
    runner.run_jobs(jobs(*"abc"), tmp_path, tmp_path, told)
    first = [kind for kind, _ in told.events[1:]]
    assert first[:expected] == ["started"] * expected
    assert "ended" in first[expected : expected + 1]


def test_the_saved_steps_are_told(scripts, tmp_path):
    body = "import pathlib, time; p = pathlib.Path('run'); p.mkdir(); (p / 'log.csv').write_text('step\\n1\\n2\\n3\\n')"
    scripts["a"] = f"{body}; time.sleep(0.5); pathlib.Path('result.json').write_text('{{}}')"
    told = Recorder()
    runner.run_jobs(jobs("a"), tmp_path, tmp_path, told, parallel=1)
    assert max(told.steps) == 3


def test_an_interruption_asks_each_job_once_to_save(scripts, tmp_path):
    code = (
        "import pathlib, signal, sys, time\n"
        "def save(*_):\n"
        "    with open('asked', 'a') as f: f.write('x')\n"
        "signal.signal(signal.SIGINT, save)\n"
        "pathlib.Path('ready').touch()\n"
        "while not pathlib.Path('asked').exists(): time.sleep(0.02)\n"
        "time.sleep(0.1); sys.exit(130)\n"
    )
    scripts |= {"a": code, "b": code}
    todo = jobs("a", "b")

    def interrupt() -> None:
        while not all((tmp_path / job.folder / "ready").exists() for job in todo):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        runner.run_jobs(todo, tmp_path, tmp_path, Recorder(), parallel=2)
    assert [(tmp_path / job.folder / "asked").read_text() for job in todo] == ["x", "x"]


def test_a_job_that_does_not_stop_is_killed(scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "GRACE_S", 0.2)
    scripts["a"] = "import pathlib, signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    scripts["a"] += "pathlib.Path('ready').touch()\ntime.sleep(60)"
    job = jobs("a")[0]

    class Impatient(Recorder):
        def advanced(self, job: Job, step: int) -> None:
            if (tmp_path / job.folder / "ready").exists():
                raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run_jobs([job], tmp_path, tmp_path, Impatient(), parallel=1)
    assert time.monotonic() - began < 30


def test_one_process_at_a_time_in_a_folder(tmp_path):
    folder = tmp_path / "new" / "out"
    taken = pytest.raises(OutputExistsError, match="another process is benchmarking into")
    with runner.held(folder), taken, runner.held(folder):
        pass
    with runner.held(folder):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"), runner.held(tmp_path / "file"):
        pass


def test_arguments_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="--jobs is 0; it must be at least 1"):
        runner.run_jobs([], tmp_path, tmp_path, Recorder(), parallel=0)
    (tmp_path / "runs").write_text("")
    with pytest.raises(OutputError, match="give an output folder that can be"):
        runner.run_jobs(jobs("a"), tmp_path / "runs", tmp_path, Recorder(), parallel=1)


def test_need_grows_with_the_network():
    small, large = (Job(Entry("x", name), 0, PROTOCOL) for name in ("fc_ef", "mccrnet"))
    assert runner._need(large) > 2 * runner._need(small) > 2**31
    assert runner._need(Job(Entry("x", "bit", {"no": 1}), 0, PROTOCOL)) == 2**30
