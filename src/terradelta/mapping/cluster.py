"""Rows of tiles made by many processes on many machines, with dask.distributed (the extra ``[cluster]``).

The client keeps the journal and writes the products, so they are those of a run on one machine, to the byte, as long
as the workers compute alike (the model's precision is checked). A row goes from a worker into the journal's folder
where it sees that folder, and through the network where it does not. A row whose worker dies is made again by another.

The model is sent to each worker once, and to workers that come later when they come.
"""

import contextlib
import importlib.metadata
import logging
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker
from distributed.comm import CommClosedError

import terradelta
from terradelta.errors import InputError, ModelError, OutputError, TerradeltaError
from terradelta.files import cannot_write
from terradelta.logs import quiet
from terradelta.mapping.journal import Journal
from terradelta.mapping.plan import ScenePlan
from terradelta.mapping.scene import predict_rows
from terradelta.predict.openvino import OpenVINOPredictor, cpu_has_bf16
from terradelta.predict.predictor import Predictor
from terradelta.stages import StageClock

__all__ = ["Cluster", "PackedModel", "pack_model"]

CONNECT_S = 20
"""Seconds to wait for the scheduler, and then for a first worker."""
HERE = "127.0.0.1:0"
"""Where the scheduler of ``local`` puts its status page: any free port, for this machine only."""
SENDINGS = 5
"""How often a model is sent anew because a worker was lost meanwhile."""
PROBE = "seen-by-workers"
"""A file in the journal's folder that tells a worker whether it sees the same folder."""


@dataclass(frozen=True)
class PackedModel:
    """A predictor as it travels: an ONNX file's bytes, or the predictor itself, which dask then serialises."""

    identity: str
    """Of the predictor; the worker's must have the same."""
    name: str
    content: bytes | Predictor
    precision: str | None = None
    """Of an ONNX file."""

    def load(self, threads: int) -> Predictor:
        """The predictor, in this process.

        Raises:
            ModelError: if this machine cannot run it as the sender does.
        """
        if not isinstance(self.content, bytes):
            return self.content
        if self.precision == "bf16" and not cpu_has_bf16():
            raise ModelError(
                f"{self.name} runs in bf16 where the run was started, and the CPU of {socket.gethostname()} has no "
                "bf16: the result would differ. Start the run on a machine like the workers"
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.name}.onnx"
            path.write_bytes(self.content)
            loaded = OpenVINOPredictor(path, precision=self.precision, threads=threads)  # type: ignore[arg-type]
            if loaded.identity != self.identity:
                raise ModelError(f"{self.name} is another model on {socket.gethostname()}; start the workers anew")
            return loaded


def pack_model(predictor: Predictor) -> PackedModel:
    """Pack a predictor, or a method that is still to be fitted, for workers.

    Raises:
        ModelError: if the model's file has vanished.
    """
    if isinstance(predictor, OpenVINOPredictor):
        try:
            content = predictor.path.read_bytes()
        except OSError as error:
            raise ModelError(f"{predictor.path} cannot be read any more ({error.strerror})") from error
        return PackedModel(predictor.identity, predictor.path.stem, content, predictor.precision)
    return PackedModel(predictor.identity, predictor.name, predictor)


class _Model(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """The model on a worker. Loaded when the first row asks for it; one row at a time computes with it."""

    def __init__(self, packed: PackedModel) -> None:
        self.packed = packed
        self.name = _plugin_name(packed.identity)

    def setup(self, worker: Any) -> None:  # noqa: ANN401  distributed's worker
        self._threads = worker.state.nthreads
        self._lock = threading.Lock()
        self._loaded: Predictor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"packed": self.packed, "name": self.name}

    @contextlib.contextmanager
    def use(self) -> Iterator[Predictor]:
        """The predictor, for this thread alone."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self.packed.load(self._threads)
            yield self._loaded


class Cluster:
    """Workers of a dask scheduler; a context manager.

    Args:
        address: the scheduler's, e.g. ``tcp://10.0.0.1:8786``; or ``local`` or ``local:N`` for N processes on this
            machine with one thread each (by default one for each core), which end with the block.

    Raises:
        InputError: if the address is none, nobody answers there, or a worker has another version of terradelta.
    """

    def __init__(self, address: str) -> None:
        self._stack = contextlib.ExitStack()
        self._sent: set[str] = set()
        with self._stack:
            self._stack.enter_context(quiet("distributed.client", logging.CRITICAL))  # told in our words
            self.address, target = address, self._start(address)
            try:
                self.client = self._stack.enter_context(Client(target, timeout=CONNECT_S, set_as_default=False))
                self.client.wait_for_workers(1, timeout=CONNECT_S)
            except (OSError, ValueError, TimeoutError) as error:
                raise InputError(
                    f"--cluster {address}: no scheduler with workers answers there ({error}); give the address that "
                    "`dask scheduler` prints, start workers with `dask worker`, or give local"
                ) from error
            self._check_versions()
            self._stack = self._stack.pop_all()

    def _start(self, address: str) -> Any:  # noqa: ANN401  an address, or a cluster of distributed
        kind, _, number = address.partition(":")
        if kind != "local":
            return address
        if number and not (number.isdecimal() and int(number) > 0):
            raise InputError(f"--cluster {address}: the number of processes must be 1 or more, as in local:4")
        made = LocalCluster(
            n_workers=int(number) if number else None,
            threads_per_worker=1,
            processes=True,
            dashboard_address=HERE,
            silence_logs=logging.CRITICAL,  # a row that fails is told once, by us
        )
        return self._stack.enter_context(made)

    def _check_versions(self) -> None:
        """Raise InputError unless each worker has this version of terradelta."""
        found = self.client.run(importlib.metadata.version, "terradelta", on_error="return")
        for worker, version in found.items():
            if version != importlib.metadata.version("terradelta"):
                raise InputError(
                    f"worker {worker} has terradelta {version!s}, this is {terradelta.__version__}; install one "
                    "version everywhere, from the same sources: pip install -c constraints.txt '.[cluster]'"
                )

    def rows(
        self,
        plan: ScenePlan,
        predictor: Predictor,
        journal: Journal,
        numbers: Sequence[int],
        on_tile: Callable[[], None],
    ) -> Generator[int]:
        """As `predict_rows`, by the workers: they make the rows in any order, and this gives them in the given one.

        Raises:
            InputError: if a worker does not see the inputs, or they differ there.
            OutputError: if the journal cannot be written, the scheduler is lost, or a row ends every worker.
        """
        with self._guarded(), self._probe(journal.folder) as token:
            model = self._send(predictor)
            futures = {
                self.client.submit(
                    *(_make_row, plan, model, str(journal.folder), token, number),
                    key=f"terradelta-row-{number}-{token}",
                    priority=-number,
                    pure=False,
                ): number
                for number in numbers
            }
            try:
                yield from self._in_order(futures, journal, numbers, len(plan.tiles.col_spans), on_tile)
            finally:
                self._forget(futures)

    def count(self) -> int:
        """How many workers there are at present."""
        return len(self.client.scheduler_info()["workers"])

    def starmap(
        self,
        function: Callable[..., Any],
        predictor: Predictor,
        out: Path,
        arguments: Sequence[tuple[Any, ...]],
    ) -> Generator[Any]:
        """Call ``function(predictor, *arguments[i])`` on the workers; gives the results in order.

        Raises:
            InputError: if a worker does not see the folder ``out``.
            OutputError: if the scheduler is lost.
        """
        with self._guarded(), self._probe(out) as token:
            model = self._send(predictor)
            futures = [
                self.client.submit(
                    *(_call, function, model, str(out), token, each),
                    key=f"terradelta-call-{number}-{token}",
                    priority=-number,
                    pure=False,
                )
                for number, each in enumerate(arguments)
            ]
            try:
                for future in futures:
                    yield future.result()
                    future.release()
            finally:
                self._forget(futures)

    @contextlib.contextmanager
    def _probe(self, folder: Path) -> Iterator[str]:
        """A file in the folder while the block runs; gives its text, by which a worker knows the folder."""
        token, path = uuid.uuid4().hex, folder / PROBE
        try:
            path.write_text(token)
        except OSError as error:
            raise cannot_write(path, error, "make room, and run this again") from error
        try:
            yield token
        finally:
            path.unlink(missing_ok=True)

    def _in_order(
        self,
        futures: dict[Any, int],
        journal: Journal,
        numbers: Sequence[int],
        tiles: int,
        on_tile: Callable[[], None],
    ) -> Generator[int]:
        waiting, made = iter(numbers), set()
        coming = next(waiting, None)
        for future in as_completed(futures, loop=self.client.loop):
            content = future.result()
            if content is not None:
                journal.put(futures[future], content)
            made.add(futures[future])
            future.release()  # a row that came through the network need not stay on its worker
            for _ in range(tiles):
                on_tile()
            while coming in made:
                yield coming
                coming = next(waiting, None)

    def _send(self, predictor: Predictor) -> str:
        name = _plugin_name(predictor.identity)
        if name not in self._sent:
            self._register(_Model(pack_model(predictor)), name)
            self._sent.add(name)
        return name

    def _register(self, model: _Model, name: str) -> None:
        """Send a model to all workers; those that are lost meanwhile do not matter."""
        for left in reversed(range(SENDINGS)):
            try:
                self.client.register_plugin(model, name=name)
                return
            except CommClosedError:
                if not left or self.client.status != "running":
                    raise

    def _forget(self, futures: Collection[Any]) -> None:
        if self.client.status == "running":
            with contextlib.suppress(OSError, TimeoutError):
                self.client.cancel(list(futures))

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Failures of the cluster, in our words."""
        try:
            yield
        except KilledWorker as error:
            raise OutputError(
                f"a row of tiles ended {error.allowed_failures + 1} workers, one after the other; they may lack "
                "memory: use smaller tiles (--tile), or workers with more"
            ) from error
        except TerradeltaError:
            raise
        except (CommClosedError, OSError, TimeoutError, CancelledError) as error:
            raise OutputError(f"the scheduler at {self.address} is gone ({type(error).__name__})") from error

    def close(self) -> None:
        """Let go of the scheduler; end the processes of ``local``."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plugin_name(identity: str) -> str:
    return f"terradelta-model-{identity}"


def _make_row(plan: ScenePlan, model: str, folder: str, token: str, number: int) -> bytes | None:
    """On a worker: make a row of tiles. Gives the row's file, or None where it lies in the journal's folder already."""
    worker = get_worker()
    _check_job(plan)
    with _named(worker), worker.plugins[model].use() as predictor, plan.open(predictor, StageClock()) as reader:
        if _sees(folder, token):
            _predict(reader, plan, Journal(Path(folder), plan.job), number)
            return None
        with tempfile.TemporaryDirectory(dir=worker.local_directory) as own:
            journal = Journal(Path(own), plan.job)
            _predict(reader, plan, journal, number)
            return journal.take(number)


def _call(function: Callable[..., Any], model: str, out: str, token: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """On a worker: call a function with the model."""
    worker = get_worker()
    if not _sees(out, token):
        raise InputError(
            f"worker {worker.name} on {socket.gethostname()} does not see the folder {out}; to map many pairs, it must "
            "lie where all workers find it under the same name"
        )
    with _named(worker), worker.plugins[model].use() as predictor:
        return function(predictor, *arguments)


@contextlib.contextmanager
def _named(worker: Any) -> Iterator[None]:  # noqa: ANN401  distributed's worker
    """Failures on a worker, with its name; none of them looks like one of the scheduler."""
    where = f"(on worker {worker.name}, {socket.gethostname()})"
    try:
        yield
    except (InputError, OutputError) as error:
        raise type(error)(f"{error} {where}") from error
    except OSError as error:
        raise OutputError(f"a file cannot be used: {error} {where}; make room there, or mend its disk") from error


def _predict(reader: Any, plan: ScenePlan, journal: Journal, number: int) -> None:  # noqa: ANN401
    for _ in predict_rows(reader, plan.tiles, journal, [number]):
        pass


def _check_job(plan: ScenePlan) -> None:
    if plan.job["version"] != terradelta.__version__:
        raise InputError(
            f"the run is one of terradelta {plan.job['version']}, the worker on {socket.gethostname()} has "
            f"{terradelta.__version__}; install one version everywhere"
        )


def _sees(folder: str, token: str) -> bool:
    """Whether this worker sees the journal's folder."""
    try:
        return (Path(folder) / PROBE).read_text() == token
    except OSError:
        return False
