"""The command `info`: what a bug report needs, in a few lines."""

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from terradelta.cli._base import app

__all__ = ["info"]

_INSTRUCTIONS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni", "asimddp"),
    "bf16": ("avx512_bf16", "bf16"),
    "AMX": ("amx_tile",),
}
"""What speeds networks up, and the names that Linux has for it."""
_WIDTH = 13


@app.command()
def info(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Versions, the machine, extras and the cache: to be pasted into a bug report."""
    facts = _facts()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        first, *more = _lines(value)
        print(f"{name:<{_WIDTH}}{first}")
        for line in more:
            print(" " * _WIDTH + line)


def _lines(value: str | list[str]) -> list[str]:
    """A fact in lines; a command stands on a line of its own, to be copied."""
    return (value if isinstance(value, str) else ", ".join(value) or "none").replace("run: ", "run:\n").split("\n")


def _facts() -> dict[str, str | list[str]]:
    import pyproj
    import rasterio

    import terradelta
    from terradelta.machine import cores, cpu_flags, cpu_name, total_memory
    from terradelta.predict.load import shipped_models

    flags, memory = cpu_flags(), total_memory()
    has = {name: flags is not None and not flags.isdisjoint(known) for name, known in _INSTRUCTIONS.items()}
    there = [name for name, yes in has.items() if yes]
    return {
        "terradelta": terradelta.__version__,
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        "GDAL": f"{rasterio.__gdal_version__} (rasterio {rasterio.__version__})",
        "PROJ": f"{rasterio.__proj_version__} (rasterio), {pyproj.proj_version_str} (pyproj {pyproj.__version__})",
        "OpenVINO": _version("openvino"),
        "torch": _version("torch"),
        "CPU": cpu_name(),
        "instructions": "the system does not tell" if flags is None else there,
        "cores": str(cores()),
        "memory": "the system does not tell" if memory is None else f"{memory / 2**30:.1f} GiB",
        **_extras(),
        **_cache(),
        "models": list(shipped_models()),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _extras() -> dict[str, str | list[str]]:
    """Which optional dependencies are there, and what installs the others."""
    from packaging.requirements import Requirement

    from terradelta.errors import cure

    try:
        found = metadata.metadata("terradelta")
        extras, needed = found.get_all("Provides-Extra") or [], found.get_all("Requires-Dist") or []
    except metadata.PackageNotFoundError:
        return {}
    there, missing, names = [], [], []
    asked = [each for each in map(Requirement, needed) if each.marker is not None]
    for extra in (each for each in extras if each != "all"):
        wants = [each.name for each in asked if each.marker is not None and each.marker.evaluate({"extra": extra})]
        lacks = [name for name in wants if _version(name) == "not installed"]
        if lacks:
            missing.append(f"{extra} (lacks {', '.join(lacks)})" if len(lacks) < len(wants) else extra)
            names.append(extra)
        else:
            there.append(extra)
    return {"extras": there, **({"missing": missing, "install": cure(",".join(names))} if missing else {})}


def _cache() -> dict[str, str]:
    """Where fetched models are, with ``~`` for the home folder: names of people do not belong into reports."""
    from terradelta.predict.hub import cache_folder, cached_models

    folder = cache_folder()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    count = len(cached_models())
    shown = str(folder).replace(str(Path.home()), "~", 1) if folder.is_relative_to(Path.home()) else str(folder)
    return {"cache": f"{shown}: {size / 1e6:.1f} MB, {count} fetched model{'' if count == 1 else 's'}"}
