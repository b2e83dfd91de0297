"""Damaged files of every kind: one message or a whole product, and nothing else.

Never a traceback, a hang, a crash of the interpreter, or a product under its final name beside a failure. Each file
goes through the real command line in a process of its own; its seed is in the test's name.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from .runner import SECONDS, Runner
from .samples import Case, Samples

pytest.importorskip("onnx")
PRODUCTS = {
    "change.qml",
    *("change.gpkg", "change.tif", "change.tif.aux.xml", "probability.qml", "probability.tif", "receipt.json"),
    *("item.json", "report.html", "thumbnail.jpg"),
}


def attempt(runner: Runner, samples: Samples, case: Case, folder: Path) -> tuple[dict[str, object], str]:
    """Run a case in an empty folder with the samples beside it; gives the answer, and what is wrong with it."""
    shutil.copytree(samples.folder, folder, copy_function=os.link)
    (folder / case.name).write_bytes(case.content)
    arguments = [part.replace("{file}", case.name) for part in case.arguments]
    answer = runner.run([*arguments, "-o", "out"], folder)
    return answer, verdict(answer, folder)


def verdict(answer: dict[str, object], folder: Path) -> str:
    """What is wrong with how a run ended; empty where nothing is."""
    error, made = str(answer["stderr"]), folder / "out"
    batch = (made / "summary.csv").is_file()
    missing = PRODUCTS - {path.name for path in made.iterdir()} if made.is_dir() else PRODUCTS
    failed = answer["code"] != 0
    rules = (
        (answer["hung"], "it hung"),
        (answer["signal"] is not None, f"the interpreter died of signal {answer['signal']}"),
        ("Traceback" in error, f"a traceback: {error[-1500:]}"),
        (not failed and missing and not batch, f"success without {sorted(missing)}"),
        (answer["code"] not in (0, 2), f"exit code {answer['code']}: {error[-500:]}"),
        (failed and made.exists() and not (made / ".pairs.json").is_file(), "a product beside a failure"),
        (_halves(made), f"unfinished products in {_halves(made)}"),
        (failed and "error:" not in error.lower(), f"no message: {error[-500:]}"),
    )
    return next((words for broken, words in rules if broken), "")


def _halves(made: Path) -> list[str]:
    """Names of folders of a batch that are no whole products."""
    if not (made / ".pairs.json").is_file():
        return []
    folders = [path for path in made.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [path.name for path in folders if {file.name for file in path.iterdir()} != PRODUCTS]


def check(runner: Runner, samples: Samples, kind: str, seeds: range, folder: Path) -> Counter[object]:
    wrong, codes = [], Counter[object]()
    for seed in seeds:
        answer, problem = attempt(runner, samples, samples.case(kind, seed), folder / f"{kind}-{seed}")
        codes[answer["code"]] += 1
        if problem:
            wrong.append(f"{kind} {seed}: {problem}")
    assert not wrong, "\n".join(wrong)
    return codes


KINDS = ("tiff", "vrt", "onnx", "geojson", "stac", "csv")


def test_all_kinds_are_tried(samples):
    assert set(samples.kinds) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_files_are_mapped(runner, samples, tmp_path, kind):
    """What is damaged below is not refused for another reason."""
    case = samples.case(kind, 0)
    names = {"tiff": "deflate.tif", "vrt": "nested.vrt", "onnx": "tiny.onnx", "geojson": "area.geojson"}
    names |= {"stac": "item.json", "csv": "pairs.csv"}
    whole = Case(case.name, (samples.folder / names[kind]).read_bytes(), case.arguments)
    answer, problem = attempt(runner, samples, whole, tmp_path / "whole")
    assert (answer["code"], problem) == (0, ""), answer["stderr"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damaged_files(runner, samples, tmp_path, kind):
    codes = check(runner, samples, kind, range(12), tmp_path)
    assert codes[2] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_damaged_files(runner, samples, tmp_path, kind):
    codes = check(runner, samples, kind, range(1000, 1000 + 1200 // len(KINDS)), tmp_path)
    assert codes[2] >= 60
    print(kind, dict(codes))


@pytest.mark.parametrize(
    ("code", "seconds", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", SECONDS, "died of signal 11"),
        ("raise ValueError('x')", SECONDS, "a traceback"),
        ("import time; time.sleep(6000)", 2.0, "it hung"),
    ],
)
def test_the_harness_sees_crashes_tracebacks_and_hangs(runner, tmp_path, code, seconds, words):
    """Code in place of the command line that does what must never happen."""
    answer = runner.run([], tmp_path, seconds=seconds, code=code)
    assert words in verdict(answer, tmp_path)
