"""Runs the command line again and again, each time in a child of its own, and tells how it ended.

Reads a job a line from standard input (JSON: arguments, folder to work in, seconds allowed), writes an answer a line:
exit code or signal, seconds, peak memory, standard output and error. A crash or a hang of a native library ends the
child only. Children are forked from a process that has everything imported, so that one takes a fraction of a second.
"""

import json
import os
import resource
import signal
import sys
import time

MEMORY_BYTES = 8 * 2**30
CPU_S = 60
FILE_BYTES = 512 * 2**20


def preload() -> None:
    import pyogrio.raw  # noqa: F401
    import skimage.measure  # noqa: F401

    import terradelta.cli
    import terradelta.mapping.run
    import terradelta.predict.classical
    import terradelta.predict.openvino  # noqa: F401  its threads start with its first use, in the children


def child(arguments: list[str], folder: str, code_in_place: str) -> None:
    """Be the command line, or some code in its place; never returns."""
    code = 70
    try:
        os.chdir(folder)
        for number, name in ((0, os.devnull), (1, "stdout.txt"), (2, "stderr.txt")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        os.environ["COLUMNS"] = "400"
        sys.argv = ["terradelta", *arguments]
        if code_in_place:
            exec(code_in_place)
        from terradelta import cli

        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(arguments: list[str], folder: str, seconds: float, code: str = "") -> dict[str, object]:
    start = time.monotonic()
    number = os.fork()
    if number == 0:
        child(arguments, folder, code)
    pause, ended, status, used = 0.002, 0, 0, None
    while ended == 0 and time.monotonic() - start < seconds:
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)
        ended, status, used = os.wait4(number, os.WNOHANG)
    hung = ended == 0
    if hung:
        os.kill(number, signal.SIGKILL)
        _, _, used = os.wait4(number, 0)
    texts = {}
    for name in ("stdout", "stderr"):
        with open(os.path.join(folder, f"{name}.txt"), errors="surrogateescape", newline="") as stream:
            texts[name] = stream.read(20_000)
    return {
        "code": None if hung or os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status),
        "signal": os.WTERMSIG(status) if not hung and os.WIFSIGNALED(status) else None,
        "hung": hung,
        "seconds": time.monotonic() - start,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
        **texts,
    }


def main() -> None:
    preload()
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(run(**job)), flush=True)


if __name__ == "__main__":
    main()
