"""terradelta in QGIS: Processing algorithms that start the program and load what it makes."""

from typing import Any

__all__ = ["classFactory"]


def classFactory(iface: Any) -> Any:
    """What QGIS calls to load the plugin."""
    from .plugin import TerradeltaPlugin

    return TerradeltaPlugin()
