"""The provider, and its one setting: the program."""

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import ALGORITHMS
from .runner import SETTING

__all__ = ["TerradeltaProvider"]


class TerradeltaProvider(QgsProcessingProvider):
    """terradelta's algorithms in the toolbox."""

    def id(self) -> str:
        """First part of the algorithms' ids."""
        return "terradelta"

    def name(self) -> str:
        """As shown."""
        return "terradelta"

    def icon(self) -> QIcon:
        """As shown."""
        return QgsProcessingProvider.icon(self)

    def load(self) -> bool:
        """Add the setting, then the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        words = "Program terradelta (leave empty if it is on the PATH)"
        ProcessingConfig.addSetting(Setting(self.name(), SETTING, words, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Take the setting away."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:
        """Give QGIS its instances."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
