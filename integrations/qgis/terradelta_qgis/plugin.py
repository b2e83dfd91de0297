"""The plugin: adds the provider to Processing, and nothing else."""

from qgis.core import QgsApplication

from .provider import TerradeltaProvider

__all__ = ["TerradeltaPlugin"]


class TerradeltaPlugin:
    """Registers the provider while the plugin is loaded."""

    def __init__(self) -> None:
        self._provider: TerradeltaProvider | None = None

    def initProcessing(self) -> None:
        """Called by `qgis_process`, which has no windows."""
        self._provider = TerradeltaProvider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Called by QGIS."""
        self.initProcessing()

    def unload(self) -> None:
        """Called when the plugin is switched off."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
