"""Run jobs in processes of their own: one that fails or is killed does not lose the others, and none runs twice."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from terradelta.errors import InputError, OutputError, OutputExistsError, TerradeltaError
from terradelta.files import write_whole
from terradelta.lab.bench.design import Job
from terradelta.lab.bench.facts import PROCESS_BYTES, training_bytes
from terradelta.lab.bench.worker import JOB, RESULT, TRAINING
from terradelta.lab.networks import create_model
from terradelta.machine import available_memory, cores

__all__ = ["FAILED", "Listener", "failure_of", "held", "run_jobs", "run_worker"]

FAILED, LOG = "failed.json", "log.txt"
POLL_S = 0.5
GRACE_S = 120.0
"""How long a job that is asked to stop may take to finish its step and save."""
SHARE_OF_MEMORY = 0.9


class Listener(Protocol):
    """Who wants to know how it goes."""

    def planned(self, count: int) -> None:
        """So many jobs have no result yet and will run."""

    def started(self, job: Job) -> None:
        """A job begins, or goes on."""

    def advanced(self, job: Job, step: int) -> None:
        """A job has saved this step."""

    def ended(self, job: Job, failure: str | None) -> None:
        """A job ended; ``failure`` says why it failed, None if it did not."""


@dataclass
class _Running:
    job: Job
    process: "subprocess.Popen[bytes]"
    folder: Path
    need: int


def run_jobs(
    jobs: Sequence[Job], runs: Path, data: Path, listener: Listener, *, parallel: int | None = None, device: str = "cpu"
) -> None:
    """Run all jobs that have no result yet; each has a folder of its own under ``runs``.

    Args:
        jobs: what to run, in this order.
        runs: made if missing.
        data: folder of the synthetic data set, if there is one.
        listener: told of every start and end.
        parallel: how many at once; None: as many as there are cores and as the memory is estimated to hold (on CUDA
            one).
        device: where they train.

    Raises:
        InputError: if ``parallel`` is below 1.
        OutputError: if a folder cannot be written.
        KeyboardInterrupt: after Ctrl-C, once the jobs under way have saved.
    """
    if parallel is not None and parallel < 1:
        raise InputError(f"--jobs is {parallel}; it must be at least 1")
    at_once = parallel or (1 if device == "cuda" else cores())
    budget = None if parallel else available_memory()
    waiting = [job for job in jobs if not (runs / job.folder / RESULT).is_file()]
    listener.planned(len(waiting))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once and _fits(waiting[0], running, budget):
                running.append(_start(waiting.pop(0), runs, data))
                listener.started(running[-1].job)
            time.sleep(POLL_S)
            running = [each for each in running if not _ended(each, listener)]
    except BaseException:
        _stop([each.process for each in running])
        raise


def _fits(job: Job, running: Sequence[_Running], budget: int | None) -> bool:
    """Whether a job has room beside those that run; the only one always has."""
    if not running or budget is None:
        return True
    return sum(each.need for each in running) + _need(job) <= SHARE_OF_MEMORY * budget


def _need(job: Job) -> int:
    """About the memory that a job takes, in bytes; what cannot be built fails in its own process."""
    if not job.entry.network:
        return PROCESS_BYTES
    protocol, bands = job.protocol, int(job.entry.network_args.get("in_channels", 3))
    try:
        import torch

        with torch.device("meta"):
            network = create_model(job.entry.network, **job.entry.network_args)
        return training_bytes(network, bands, protocol.batch_size, protocol.crop_px)
    except TerradeltaError:
        return PROCESS_BYTES


def _start(job: Job, runs: Path, data: Path) -> _Running:
    folder = runs / job.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        write_whole(folder / JOB, job.to_json())
        process = _spawn(folder, data)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}); give an output folder that can be") from error
    return _Running(job, process, folder, _need(job))


def _spawn(folder: Path, data: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "terradelta.lab.bench.worker", str(folder.absolute()), str(data.absolute())]
    environment = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", **os.environ}
    with (folder / LOG).open("ab") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then asks each job once to save and stop.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def _ended(each: _Running, listener: Listener) -> bool:
    """Tell the listener how a job stands; whether it has ended."""
    code = each.process.poll()
    if code is None:
        listener.advanced(each.job, _saved_steps(each.folder))
        return False
    _close(each.process)
    failure = None if (each.folder / RESULT).is_file() else _why(code, each.folder / LOG)
    if failure is not None:
        (each.folder / FAILED).write_text(json.dumps({"why": failure}))
    listener.ended(each.job, failure)
    return True


def _saved_steps(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return max((folder / TRAINING / "log.csv").read_bytes().count(b"\n") - 1, 0)
    return 0


def _why(code: int, log: Path) -> str:
    """Why a process failed, in one line."""
    if code == -signal.SIGKILL:
        return "killed (SIGKILL); the system does that where memory runs out: try --jobs 1 or a smaller --batch"
    if code < 0:
        return f"killed ({signal.Signals(-code).name})"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"ended with exit code {code}"


def failure_of(folder: Path) -> str | None:
    """Why the job of a folder failed when it was last tried; None if it did not."""
    try:
        return str(json.loads((folder / FAILED).read_text())["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask processes to save and end; the next run goes on from there."""
    for process in processes:
        with contextlib.suppress(OSError):
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _close(process)


def _close(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def run_worker(folder: Path, data: Path) -> str | None:
    """Run the job of one folder to its end; why it failed, None if it did not."""
    process = _spawn(folder, data)
    try:
        code = process.wait()
    except BaseException:
        _stop([process])
        raise
    _close(process)
    return None if code == 0 else _why(code, folder / LOG)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from benchmarking into the same folder; the system lets go if this one is killed.

    Raises:
        OutputExistsError: if another process holds it.
        OutputError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error}); give a folder that you may write to") from error
    with lock:
        try:
            _lock(lock)
        except OSError as error:
            raise OutputExistsError(
                f"another process is benchmarking into {folder} at this moment; wait for it, or give another folder"
            ) from error
        yield


def _lock(file: IO[str]) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
