"""The command `view`: the product of a map in the browser."""

import contextlib
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from terradelta.cli._base import app, say
from terradelta.errors import needs

__all__ = ["open_page", "view_command"]


@app.command("view")
def view_command(
    product: Annotated[Path, typer.Argument(help="Folder that `map` made.")],
    before: Annotated[str | None, typer.Option(help="The first image, if it was moved: a file or a URL.")] = None,
    after: Annotated[str | None, typer.Option(help="The second image, likewise.")] = None,
    author: Annotated[str | None, typer.Option(help="Who gives verdicts.  [default: the user's name]")] = None,
    task: Annotated[
        Path | None, typer.Option(help="Samples of `area --draw` to label; the map's answer is hidden.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; at another, other machines can reach it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int | None, typer.Option(help="Port to listen on.  [default: a free one from 8137 on]")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Look at a map in the browser, and judge what it found."""
    open_page(product, before=before, after=after, author=author, task=task, place=(host, port), browser=open_browser)


def open_page(
    product: Path,
    *,
    before: str | None = None,
    after: str | None = None,
    author: str | None = None,
    task: Path | None = None,
    place: tuple[str, int | None] = ("127.0.0.1", None),
    browser: bool = True,
) -> None:
    """Serve a product until Ctrl-C; arguments as for the command."""
    with needs("view", "`terradelta view`"):
        from terradelta.view.server import HOW_TO_BUILD, bundle_is_built
        from terradelta.view.serving import address, bind, bind_usual, serve
        from terradelta.view.view_session import Session, ViewOptions

    session = Session(product, ViewOptions(before, after, author, task, lasting=True))
    for problem in session.dates.problems():
        say(f"Warning: {problem}")
    if not bundle_is_built():
        say(f"Warning: the page is not built, so that there is nothing to see; build it: {HOW_TO_BUILD}")
    host, port = place
    with bind_usual(host) if port is None else bind(host, port) as listening:
        url = address(session, listening)
        print(url, flush=True)
        say("Press Ctrl-C to close.")
        if browser:
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            serve(session, listening, (host,))
    say("Closed.")
