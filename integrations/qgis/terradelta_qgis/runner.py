"""Starts terradelta, listens to it, stops it. Needs nothing of QGIS, so that it is tested without it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["SETTING", "NotFoundError", "RunError", "child_environment", "find_program", "run"]

SETTING = "TERRADELTA_PROGRAM"
"""Name of the setting of Processing, and of the variable that stands in for it."""
GRACE_S = 20.0
"""That a stopped run has to keep what is finished, before it is killed."""
_POLL_S = 0.1
_TAIL = 40
"""Lines that an error shows when the program does not say what was wrong."""
_NOT_OURS = ("PYTHONHOME", "PYTHONPATH", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA")
"""What QGIS sets for its own Python, GDAL and PROJ, which are not those of the program."""


class NotFoundError(Exception):
    """There is no terradelta to start."""


class RunError(Exception):
    """terradelta ended with an error."""


def find_program(setting: str, environment: Mapping[str, str] | None = None) -> str:
    """The program to start.

    Args:
        setting: what the user has set, a file or a name; may be empty.
        environment: in place of ``os.environ``.

    Raises:
        NotFoundError: if there is none; the message says what to do.
    """
    environment = os.environ if environment is None else environment
    asked = setting.strip() or environment.get(SETTING, "").strip()
    found = shutil.which(asked or "terradelta", path=environment.get("PATH"))
    if found is not None:
        return found
    where = "Settings > Options > Processing > Providers > terradelta"
    if asked:
        raise NotFoundError(f"{asked} is no program that can be started. Name the program terradelta under {where}")
    raise NotFoundError(
        "terradelta was not found on the PATH. Install it into a Python environment of its own (see "
        "https://github.com/terradelta/terradelta/blob/main/docs/install.md), then name the program, such as "
        f".venv/bin/terradelta or .venv\\Scripts\\terradelta.exe, under {where}"
    )


def child_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for the program: without what QGIS sets for its own libraries."""
    environment = os.environ if environment is None else environment
    kept = {name: value for name, value in environment.items() if name not in _NOT_OURS}
    return {**kept, "PYTHONIOENCODING": "utf-8", "COLUMNS": "400", "NO_COLOR": "1"}


def run(
    command: Sequence[str],
    told: Callable[[dict[str, Any]], None],
    stopped: Callable[[], bool],
) -> bool:
    """Run a command and pass on what it says.

    Args:
        command: program and arguments.
        told: called with every event; what is no event becomes ``{"event": "text", "text": line}``.
        stopped: asked ten times a second; if true, the program is told to stop, and killed after 20 seconds.

    Returns:
        Whether it ran to its end; False if it was stopped.

    Raises:
        RunError: if it cannot be started, or ends with an error.
    """
    flags = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}  # type: ignore[attr-defined,unused-ignore]
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=child_environment(),
            encoding="utf-8",
            errors="replace",
            **flags,
        )
    except OSError as error:
        raise RunError(f"{command[0]} cannot be started ({error.strerror})") from error
    said: list[str] = []
    with process:
        was_stopped = _attend(process, told, stopped, said)
    if was_stopped:
        return False
    if process.returncode:
        raise RunError("\n".join(said[-_TAIL:]).strip() or f"it ended with code {process.returncode} and said nothing")
    return True


def _attend(
    process: subprocess.Popen[str],
    told: Callable[[dict[str, Any]], None],
    stopped: Callable[[], bool],
    said: list[str],
) -> bool:
    """Pass on what a program says until it ends; gives whether it was told to stop."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_listen, args=(process, lines), daemon=True).start()
    deadline = 0.0
    while True:
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            line = ""
        if line is None:
            return bool(deadline)
        if line:
            _pass_on(line, told, said)
        if stopped():
            deadline = _stop(process, deadline)


def _listen(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    """Put every line into the queue, then None."""
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.rstrip() or " ")
    lines.put(None)


def _pass_on(line: str, told: Callable[[dict[str, Any]], None], said: list[str]) -> None:
    """One line of output; what explains an error is kept in ``said``."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        event = {"event": "text", "text": line}
    if event["event"] == "error":
        said[:] = [str(event.get("text", "")), *map(str, event.get("notes", []))]
        said.append("")  # standard error repeats it
    elif event["event"] == "text" and line.strip() and (not said or said[-1] != ""):
        said.append(line)
    told(event)


def _stop(process: subprocess.Popen[str], deadline: float) -> float:
    """Tell the program to stop, the first time; kill it when its time is over. Gives the deadline."""
    if not deadline:
        process.terminate()
        return time.monotonic() + GRACE_S
    if time.monotonic() > deadline:
        process.kill()
    return deadline
