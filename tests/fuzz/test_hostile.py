"""Hostile files, names and options of every kind: one message or a whole product, within 60 s and 2 GB.

Besides what `test_fuzz` asks: nothing reaches the terminal or a product that either would act upon.
"""

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from terradelta.strangers import printable

from .hostile import KINDS, hostile
from .runner import Runner
from .samples import Samples
from .test_fuzz import PRODUCTS

pytest.importorskip("onnx")
SECONDS = 300.0
MEMORY_BYTES = 2 * 2**30
TEXTS = (".json", ".html", ".qml", ".qgs", ".csv", ".geojson", ".xml")


def complete(arguments: tuple[str, ...]) -> list[str]:
    """The arguments with a place to write to, where the command needs one."""
    if "-o" in arguments:
        return list(arguments)
    ends = {"map": "out", "train": "out", "export": "out.onnx"}
    out = ends.get(arguments[0], "out" if arguments[1:2] == ("tile",) else "out.csv" if "--draw" in arguments else "")
    return [*arguments, *(("-o", out) if out else ())]


def problem(answer: dict[str, object], arguments: list[str], folder: Path) -> str:
    """What is wrong with how a run ended; empty where nothing is."""
    error, said = str(answer["stderr"]), str(answer["stderr"]) + str(answer["stdout"])
    made = folder / "out"
    failed = answer["code"] != 0
    mapped = arguments[0] == "map" and arguments[-2:] == ["-o", "out"] and "--pairs" not in arguments
    there = {path.name for path in made.iterdir()} if made.is_dir() else set()
    codes = (0, 2, 3) if arguments[:2] == ["data", "check"] else (0, 2)
    rules = (
        (answer["hung"], "it hung"),
        (answer["signal"] is not None, f"the interpreter died of signal {answer['signal']}"),
        ("Traceback" in error, f"a traceback: {error[-1500:]}"),
        (answer["code"] not in codes, f"exit code {answer['code']}: {error[-500:]}"),
        (int(str(answer["peak_bytes"])) > MEMORY_BYTES, f"{answer['peak_bytes']} bytes of memory"),
        (printable(said) != said, f"the terminal would act upon {said[-500:]!r}"),
        (failed and answer["code"] == 2 and "rror" not in error, f"no message: {error[-500:]}"),
        (mapped and failed and made.exists(), "a product beside a failure"),
        (mapped and not failed and PRODUCTS - there, f"success without {sorted(PRODUCTS - there)}"),
        (_harmful(made), f"a reader would act upon what stands in {_harmful(made)}"),
        (_parts(folder), f"left over: {_parts(folder)}"),
    )
    return next((words for broken, words in rules if broken), "")


def _harmful(made: Path) -> list[str]:
    """Texts of a product that are not printable throughout."""
    found = []
    for path in sorted(made.rglob("*")) if made.is_dir() else ():
        if path.is_file() and not path.is_symlink() and path.suffix in TEXTS:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            if printable(text) != text:
                found.append(path.name)
    return found


def _parts(folder: Path) -> list[str]:
    """Temporary files that nobody removes."""
    return [path.name for path in folder.rglob(".*") if ".part" in path.name and path.is_file()]


def check(runner: Runner, samples: Samples, kind: str, seeds: range, folder: Path) -> Counter[object]:
    wrong, codes = [], Counter[object]()
    for seed in seeds:
        place = folder / f"{kind}-{seed}"
        shutil.copytree(samples.folder, place, copy_function=os.link)
        arguments = complete(hostile(kind, seed, place))
        answer = runner.run(arguments, place, SECONDS)
        codes[answer["code"]] += 1
        if found := problem(answer, arguments, place):
            wrong.append(f"{kind} {seed}: terradelta {[each[:200] for each in arguments]}: {found}")
    assert not wrong, "\n".join(wrong)
    return codes


@pytest.mark.parametrize("seed", range(3))
def test_one_hostile_input_of_some_kinds(runner, samples, tmp_path, seed):
    for kind in random.Random(seed).sample(sorted(KINDS), 4):
        check(runner, samples, kind, range(seed, seed + 1), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_inputs(runner, samples, tmp_path, kind):
    codes = check(runner, samples, kind, range(1000, 1016), tmp_path)
    print(kind, dict(codes))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('a\\x1b[31m')", "the terminal would act upon"),
        ("import numpy; numpy.ones(2**28 + 2**26)", "bytes of memory"),
        ("raise SystemExit(1)", "exit code 1"),
        ("raise SystemExit(2)", "no message"),
    ],
)
def test_the_harness_sees_what_must_not_be(runner, tmp_path, code, words):
    arguments = ["models", "x"]
    assert words in problem(runner.run(arguments, tmp_path, 60.0, code), arguments, tmp_path)
