"""What `map --progress json` prints: one JSON object a line on standard output, for programs that start a run."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from terradelta.errors import InputError, TerradeltaError

if TYPE_CHECKING:
    from terradelta.mapping.batch import Outcome
    from terradelta.mapping.run import ChangeMap

__all__ = ["FORMS", "Events", "events_of"]

FORMS = ("bar", "json")
_PAUSE_S = 0.1
"""Between two lines of progress; the last one always comes."""


class Events:
    """Prints events; see docs/map.md for what each holds."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, event: str, **facts: Any) -> None:  # noqa: ANN401  any JSON value
        """One line."""
        print(json.dumps({"event": event, **facts}), flush=True)

    def progress(self, done: float, total: float, line: str = "") -> None:
        """How far it is, in tiles; a line where there is something to say to it."""
        now = time.monotonic()
        if line or done >= total or now - self._last >= _PAUSE_S:
            self._last = now
            self.say("progress", done=done, total=total, **({"text": line} if line else {}))

    def announce(self, lines: Sequence[str]) -> None:
        """What was found out about the images and the model, before the first tile and after the last."""
        for line in lines:
            self.say("note", text=line, warning=line.startswith("Warning"))

    def done(self, made: "ChangeMap") -> None:
        """The product is finished."""
        from terradelta.mapping.answer import answer_lines

        result = made.receipt.result
        self.say(
            "done",
            folder=str(made.folder.absolute()),
            report=str(made.report.absolute()),
            text=[line for line in answer_lines(made.receipt) if line],
            changed_fraction=result.changed_fraction,
            changed_area_m2=result.changed_area_m2,
        )

    def pair(self, number: int, count: int, outcome: "Outcome", text: str) -> None:
        """One pair of a table is finished, or failed."""
        self.say("pair", number=number, count=count, name=outcome.row.name, failed=outcome.receipt is None, text=text)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Say what ends the run, before the command line says it on standard error."""
        try:
            yield
        except TerradeltaError as error:
            self.say("error", text=str(error), notes=list(getattr(error, "__notes__", [])))
            raise


def events_of(form: str) -> Events | None:
    """Events for ``json``; None for ``bar``.

    Raises:
        InputError: if it is neither.
    """
    if form not in FORMS:
        raise InputError(f"--progress is {form!r}; it must be one of {', '.join(FORMS)}")
    return Events() if form == "json" else None
