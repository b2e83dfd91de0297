"""What all commands share: the application, errors as messages, progress bars."""

import itertools
import signal
import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, TextIO

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text
from typer.core import TyperGroup

import terradelta
from terradelta.errors import InputError, OutputExistsError, TerradeltaError
from terradelta.files import write_whole
from terradelta.strangers import printable

__all__ = [
    "DATA_HELP",
    "Device",
    "PrintableConsole",
    "app",
    "check_new",
    "console",
    "data_app",
    "free_name",
    "main",
    "progress",
    "say",
    "say_path",
    "say_terms",
    "wrapped",
    "write",
]


class PrintableConsole(Console):
    """A console whose lines hold nothing that a terminal acts upon, whoever wrote what they quote."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401  as in the base class
        """As `Console.print`; a text's bells and returns, which rich drops, are escaped first.

        A text without markup is broken between words alone (`wrapped`), where rich would cut a long path in two.
        """
        shown = [printable(each) if isinstance(each, str) else each for each in objects]
        if options.get("markup") is False and all(isinstance(each, str) for each in shown):
            shown, options = ["\n".join(wrapped(" ".join(shown), self.width))], {**options, "soft_wrap": True}
        super().print(*shown, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As `Console.render`: texts, tables and bars all come through it, before their styles become codes."""
        for each in super().render(renderable, options):
            yield each if each.control else Segment(printable(each.text), each.style)


console = PrintableConsole(stderr=True, highlight=False, emoji=False)


class Advance(Protocol):
    """Shows how far a bar is."""

    def __call__(self, done: float, total: float, line: str = "", /) -> None:
        """``done`` of ``total``; a line in place of the bar's text."""


USER_FAULT, FAILURE, INTERRUPTED, TERMINATED = 2, 1, 130, 143


class Terminated(BaseException):
    """SIGTERM came; raised so that temporary folders are removed on the way out."""


class Commands(TyperGroup):
    """Errors become one message and an exit code: 2 for the input, 1 for writing or setup, 130 or 143 for a signal."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  as in the base class
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except TerradeltaError as error:
            _say_error("\n".join([str(error), *getattr(error, "__notes__", [])]))
            raise typer.Exit(USER_FAULT if isinstance(error, InputError) else FAILURE) from error
        except MemoryError as error:
            _say_error("out of memory; use smaller tiles (--tile) or close other programs")
            raise typer.Exit(FAILURE) from error
        except (OSError, UnicodeError) as error:
            _say_error(f"{error}; check the names and permissions of the files and folders given")
            raise typer.Exit(FAILURE) from error
        except Terminated as error:
            raise typer.Exit(TERMINATED) from error
        except KeyboardInterrupt as error:
            notes = getattr(error, "__notes__", ["Nothing unfinished was left under its final name."])
            console.print("[yellow]interrupted[/yellow].", *notes)
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What changed between two images of the same place: a map, polygons, numbers you can defend.",
)
data_app = typer.Typer(
    no_args_is_help=True, help="Data sets: list the public ones, check, cut into tiles, make synthetic ones."
)
app.add_typer(data_app, name="data")

DATA_HELP = "Labelled pairs: a folder, NAME:DIR, BEFORE_DIR,AFTER_DIR,LABEL_DIR or a CSV file (see docs/data.md)."
Device = Annotated[str, typer.Option(help="`cpu`, or `cuda` for a training run.")]


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _report_unraisable
    warnings.showwarning = _show_warning
    try:
        app()
    except Terminated:  # before a command was reached
        sys.exit(TERMINATED)


def _report_unraisable(found: "sys.UnraisableHookArgs") -> None:
    """Python's report, but not for GDAL's messages that rasterio cannot decode: our own error follows."""
    if not isinstance(found.exc_value, UnicodeError):
        sys.__unraisablehook__(found)


_SAID: set[str] = set()
"""Warnings that this process has shown."""


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings as a line for the user, each text once; those of libraries as Python shows them."""
    if category.__module__.startswith("terradelta"):
        if str(message) in _SAID:
            return
        _SAID.add(str(message))
        _say_marked("warning:", "yellow", str(message))
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


@contextmanager
def progress(text: str) -> Iterator[Advance]:
    """A progress bar; gives the function to call with (done, total) and, instead of the text, a line on how it goes."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(text, total=None)
        try:
            yield lambda done, total, line="": bar.update(task, completed=done, total=total, description=line or text)
        except BaseException:
            if bar.tasks[0].total is None:  # an error before the first step: its message alone is to stand there
                bar.update(task, visible=False)
            raise


def free_name(name: str) -> Path:
    """``name``, or ``name-2``, ``name-3``, ... in the present folder: the first that is not taken."""
    candidates = (Path(name if i == 1 else f"{name}-{i}") for i in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def write(path: Path, text: str) -> None:
    """Write a text file and the folders above it."""
    write_whole(path, text, make_folder=True)


def check_new(path: Path) -> None:
    """Raise OutputExistsError if there is something under the name of a file to write, InputError if it cannot be."""
    try:
        there = path.exists()
        above = next((each for each in path.parents if each.exists()), path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be a file ({getattr(error, 'strerror', error)}); give another name") from error
    if there:
        raise OutputExistsError(f"{path} is there already; nothing was overwritten. Remove it or give another name")
    if not above.is_dir():
        raise InputError(f"{path} cannot be made, for {above} is no folder; give another place")


def say_path(path: Path) -> None:
    """Print where a result lies on standard output, for scripts."""
    print(printable(str(path)))


def say_terms(location: str) -> None:
    """Name licence and citation, if a location is a public archive."""
    from terradelta.lab.data.opening import find_data

    archive, _ = find_data(location)
    if archive is not None:
        say(f"{archive.title}: licence: {archive.licence}. Cite: {archive.citation}")


def say(text: str) -> None:
    """Print a line for the user, on standard error."""
    console.print(text, markup=False)


def _say_error(message: str) -> None:
    _say_marked("error:", "red", message)


def _say_marked(mark: str, colour: str, message: str) -> None:
    """Print a message after its mark."""
    text = Text("\n".join(wrapped(f"{mark} {printable(message)}", console.width)))
    text.stylize(colour, 0, len(mark))
    console.print(text, soft_wrap=True)


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text for a terminal of ``width`` columns, broken between words alone.

    A name that is longer stands whole in a line of its own, and so does a command that installs: both can be copied.
    """
    lines = []
    for line in text.split("\n"):
        words, install, rest = line.partition("pip install ")
        lines += textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False) or [""] * (not install)
        lines += [install + rest] if install else []
    return lines


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(terradelta.__version__)
        raise typer.Exit
