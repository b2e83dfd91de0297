"""Ctrl-C during training: the step under way is finished and saved; a second one does not wait.

With several processes the one that started them hears Ctrl-C and tells the others, who act on it after the same step.
"""

import multiprocessing
import os
import signal
import threading
from typing import Self

__all__ = ["Forwarded", "Interrupt", "ParentWatch"]


class Interrupt:
    """Ctrl-C waits for the end of the step, so that what is saved is whole; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        in_main = threading.current_thread() is threading.main_thread()
        self._installed = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> Self:
        if self._installed:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _ask(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class ParentWatch:
    """In one of several processes: SIGUSR1 from the starting process asks to stop after the step.

    The terminal's own Ctrl-C is left to the starting process. When that one is gone, killed for instance, the process
    ends at once: two runs that write one folder would damage each other.
    """

    def __init__(self) -> None:
        self.asked_here = False
        self._parent = os.getppid()

    @property
    def asked(self) -> bool:
        """Whether to stop after this step."""
        self.end_if_alone()
        return self.asked_here

    def __enter__(self) -> Self:
        signal.signal(signal.SIGINT, self.end_if_alone)
        signal.signal(signal.SIGUSR1, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _ask(self, *_: object) -> None:
        self.asked_here = True

    def end_if_alone(self, *_: object) -> None:
        """Leave without a trace if the starting process has died."""
        if os.getppid() != self._parent:
            os._exit(1)


class Forwarded:
    """In the starting process: Ctrl-C goes on to its processes as SIGUSR1; a second one ends them."""

    def __init__(self) -> None:
        self.asked = False
        self._installed = threading.current_thread() is threading.main_thread()
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Self:
        if self._installed:
            signal.signal(signal.SIGINT, self._forward)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)
        if kind is not None:  # an error or SIGTERM here must not leave them behind
            for process in multiprocessing.active_children():
                process.terminate()
                process.join()

    def _forward(self, *_: object) -> None:
        for process in multiprocessing.active_children():
            if self.asked or process.pid is None:
                process.terminate()
            else:
                os.kill(process.pid, signal.SIGUSR1)
        self.asked = True
