"""The client of `server`: gives it command lines, one after another."""

import json
import os
import subprocess
import sys
from pathlib import Path

SECONDS = 600.0
"""After which a run hangs; it takes half a second, but next to other work much longer."""
SERVER = Path(__file__).with_name("server.py")


class Runner:
    """Gives jobs to the server, and starts it again should it die."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(self, arguments: list[str], folder: Path, seconds: float = SECONDS, code: str = "") -> dict[str, object]:
        if self._server is None or self._server.poll() is not None:
            self.close()
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            self._server = subprocess.Popen(
                [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        job = {"arguments": arguments, "folder": str(folder), "seconds": seconds, "code": code}
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        answer: dict[str, object] = json.loads(self._server.stdout.readline())
        return answer

    def close(self) -> None:
        if self._server is not None:
            self._server.communicate()
