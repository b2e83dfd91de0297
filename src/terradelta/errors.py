"""Every error that terradelta raises on purpose.

    TerradeltaError
    ├── InputError            the caller's fault; the command line exits with 2
    │   ├── RasterError       a file is missing, is no raster, is truncated, has no valid pixel
    │   │   └── NoDataError   no pixel is valid on both dates
    │   ├── RemoteError       a server failed while a file behind a URL was read; nothing is wrong with the file
    │   ├── GridError         two images do not share a place: no overlap, one without a CRS
    │   ├── BandError         bands that do not exist, or do not fit the model
    │   ├── ShapeError        an array's shape is not what the function takes
    │   ├── ModelError        a model file that is none, lacks its card, or does not fit the data
    │   ├── DataError         a data set: a missing label, a size mismatch, a bad value
    │   └── OutputExistsError the place to write to is taken
    ├── OutputError           writing failed (disk full, no permission); the command line exits with 1
    └── MissingExtraError     an optional dependency is not installed; the message names the cure

Messages say what was given, what is allowed and what to do next.
"""

from pathlib import Path

__all__ = [
    "BandError",
    "DataError",
    "DoubtWarning",
    "GridError",
    "InputError",
    "LeftOutWarning",
    "MissingExtraError",
    "ModelError",
    "NoDataError",
    "OutputError",
    "OutputExistsError",
    "RasterError",
    "RemoteError",
    "ShapeError",
    "TerradeltaError",
    "cure",
]


class TerradeltaError(Exception):
    """Root of all errors raised on purpose.

    Example:
        >>> import terradelta as td
        >>> try:
        ...     td.load_model("gone")
        ... except td.TerradeltaError as error:
        ...     print(str(error)[:30])
        there is no model 'gone'; give
    """


class InputError(TerradeltaError):
    """What the caller gave cannot be used."""


class RasterError(InputError):
    """A raster cannot be read, or holds nothing."""


class NoDataError(RasterError):
    """Two rasters have no pixel that is valid on both dates."""


class RemoteError(InputError):
    """A server failed; the same command may succeed later."""


class GridError(InputError):
    """Two rasters do not share a place."""


class BandError(InputError):
    """Bands that do not exist or do not fit."""


class ShapeError(InputError):
    """An array has the wrong shape."""


class ModelError(InputError):
    """A model cannot be used: no file, no card, or it does not fit the data."""


class DataError(InputError):
    """A data set is damaged or incomplete."""


class OutputExistsError(InputError):
    """The place to write to is taken."""


class OutputError(TerradeltaError):
    """Writing failed."""


class MissingExtraError(TerradeltaError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the optional dependencies [{extra}]; {cure(extra)}")


def cure(extra: str) -> str:
    """What installs optional dependencies; terradelta is on no package index: from its sources, or the wheel it was."""
    import shlex

    origin = _origin()
    if origin is None:
        return f"in the folder of terradelta's sources run: pip install -c constraints.txt '.[{extra}]'"
    constraints = f"-c {shlex.quote(str(origin / 'constraints.txt'))} " if origin.is_dir() else ""
    return f"run: pip install {constraints}{shlex.quote(f'{origin}[{extra}]')}"


def _origin() -> Path | None:
    """The sources that this package runs in, or what it was installed from (PEP 610): sources or a wheel."""
    import contextlib
    import json
    import urllib.parse
    from importlib.metadata import PackageNotFoundError, distribution

    found = [Path(__file__).parents[2]]
    with contextlib.suppress(PackageNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        url = urllib.parse.urlsplit(json.loads(distribution("terradelta").read_text("direct_url.json") or "")["url"])
        found += [Path(urllib.parse.unquote(url.path))] if url.scheme == "file" else []
    sources = [each for each in found if (each / "constraints.txt").is_file()]
    wheels = [each for each in found if each.suffix == ".whl" and each.is_file()]
    return next(iter(sources + wheels), None)


class LeftOutWarning(UserWarning):
    """A part of an input was passed over, as it is nothing that can be used."""


class DoubtWarning(UserWarning):
    """Two images can be compared, but something may make the result wrong."""
