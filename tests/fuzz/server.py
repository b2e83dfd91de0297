"""Runs the command line again and again, each time in a child of its own, and tells how it ended.

Reads a job a line from standard input (JSON: arguments, folder to work in, seconds allowed), writes an answer a line:
exit code or signal, seconds, standard error. A crash or a hang of a native library ends the child only. Children are
forked from a process that has everything imported, so that one takes a fraction of a second.
"""

import json
import os
import resource
import signal
import sys
import time

MEMORY_BYTES = 8 * 2**30
FILE_BYTES = 512 * 2**20


def preload() -> None:
    import openvino  # noqa: F401  imported only: its threads start with its first use, in the children
    import pyogrio.raw  # noqa: F401
    import skimage.measure  # noqa: F401

    import terradelta.cli
    import terradelta.mapping.run
    import terradelta.predict.classical
    import terradelta.predict.openvino  # noqa: F401


def child(arguments: list[str], folder: str, code_in_place: str) -> None:
    """Be the command line, or some code in its place; never returns."""
    code = 70
    try:
        os.chdir(folder)
        for number, name in ((0, os.devnull), (1, os.devnull), (2, "stderr.txt")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
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
        sys.stderr.flush()
        os._exit(code)


def run(arguments: list[str], folder: str, seconds: float, code: str = "") -> dict[str, object]:
    start = time.monotonic()
    number = os.fork()
    if number == 0:
        child(arguments, folder, code)
    pause, ended, status = 0.002, 0, 0
    while ended == 0 and time.monotonic() - start < seconds:
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)
        ended, status = os.waitpid(number, os.WNOHANG)
    hung = ended == 0
    if hung:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
    with open(os.path.join(folder, "stderr.txt"), errors="replace") as stream:
        text = stream.read(20_000)
    return {
        "code": None if hung or os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status),
        "signal": os.WTERMSIG(status) if not hung and os.WIFSIGNALED(status) else None,
        "hung": hung,
        "seconds": time.monotonic() - start,
        "stderr": text,
    }


def main() -> None:
    preload()
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(run(**job)), flush=True)


if __name__ == "__main__":
    main()
