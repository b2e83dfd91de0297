"""`rio change`: `terradelta map` as a command of rasterio, found by its entry point ``rasterio.rio_plugins``."""

import click

__all__ = ["change"]


@click.command(
    "change",
    short_help="Map what changed between two images.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def change(arguments: tuple[str, ...]) -> None:
    """Map what changed between two images: what `terradelta map` does, with its options."""
    from typer.main import get_group

    from terradelta.cli import app

    commands = get_group(app)  # of typer's own click, which rio's cannot hold
    commands.add_command(commands.commands["map"], "change")
    commands.main(["change", *arguments], prog_name="rio")
