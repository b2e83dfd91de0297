"""``python -m terradelta``: the command line."""

from terradelta.cli import main

if __name__ == "__main__":
    main()
