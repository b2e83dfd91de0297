"""``python -m terradelta``: the command line."""

from terradelta.cli import main

main()
