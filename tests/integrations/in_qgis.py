"""Run by QGIS's own Python, see test_qgis.py: uses the plugin as the toolbox does, and prints what came of it."""

import faulthandler
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsMapLayer,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize


class Feedback(QgsProcessingFeedback):
    """Remembers what is said, and stops the run at a share of it."""

    def __init__(self, stop_at: float = 200.0) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.shares: list[float] = []
        self.progressChanged.connect(self._moved)
        self._stop_at = stop_at

    def _moved(self, share: float) -> None:
        self.shares.append(share)
        if share >= self._stop_at:
            self.cancel()

    def pushInfo(self, info: str) -> None:
        self.lines.append(info)

    def pushWarning(self, warning: str) -> None:
        self.warnings.append(warning)

    def reportError(self, error: str, fatalError: bool = False) -> None:
        self.lines.append(error)


def drawn(project: QgsProject, picture: Path) -> list[int]:
    """Draw what is switched on; gives red, green and blue of the middle of the scene, where the change is."""
    layers = [node.layer() for node in project.layerTreeRoot().findLayers() if node.isVisible()]
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(project.crs())
    settings.setOutputSize(QSize(320, 200))
    scene = next(layer for layer in project.mapLayers().values() if layer.source().endswith("change.tif"))
    settings.setExtent(scene.extent())
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(picture))
    colour = job.renderedImage().pixelColor(160, 100)
    return [colour.red(), colour.green(), colour.blue()]


def described(project: QgsProject) -> dict[str, Any]:
    """Groups and layers of a project."""
    root = project.layerTreeRoot()
    return {
        "crs": project.crs().authid(),
        "groups": {group.name(): [node.name() for node in group.findLayers()] for group in root.findGroups()},
        "layers": {
            node.layer().name(): {
                "valid": node.layer().isValid(),
                "crs": node.layer().crs().authid(),
                "renderer": type(node.layer().renderer()).__name__,
                "shown": node.isVisible(),
                "legend": [each.label() for each in node.layer().renderer().legendSymbolItems()]
                if node.layer().type() == QgsMapLayer.VectorLayer
                else [item.label for item in getattr(node.layer().renderer(), "classes", list)()],
            }
            for node in root.findLayers()
        },
    }


def call(name: str, parameters: dict[str, Any], feedback: Feedback) -> dict[str, Any]:
    """Run an algorithm in the project, as the toolbox does."""
    import processing

    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    context.setFeedback(feedback)
    return dict(processing.run(f"terradelta:{name}", parameters, feedback=feedback, context=context))


def label(samples: str) -> None:
    """Label points of the left half as unchanged, of the right half as changed, as somebody would by hand."""
    layer = QgsVectorLayer(samples, "samples", "ogr")
    layer.startEditing()
    field = layer.fields().indexOf("label")
    middle = layer.extent().center().x()
    for feature in layer.getFeatures():
        layer.changeAttributeValue(feature.id(), field, int(feature.geometry().asPoint().x() > middle))
    assert layer.commitChanges(), layer.commitErrors()


def main(folder: Path) -> dict[str, Any]:
    """All of it, in a folder with before.tif and after.tif; ``long_*.tif`` is a longer pair."""
    project, told, found = QgsProject.instance(), Feedback(), {}
    pair = {"BEFORE": str(folder / "before.tif"), "AFTER": str(folder / "after.tif")}
    provider = QgsApplication.processingRegistry().providerById("terradelta")
    found["help"] = {each.name(): each.shortHelpString() for each in provider.algorithms()}
    out = folder / "out"
    found["map"] = call("mapbymethod", {**pair, "METHOD": 1, "OUTPUT": str(out)}, told)
    found["shares"], found["lines"], found["warnings"] = told.shares, told.lines, told.warnings
    found["loaded"] = described(project)
    samples = folder / "samples.gpkg"
    found["samples"] = call("drawsamples", {"PRODUCT": str(out), "COUNT": 40, "OUTPUT": str(samples)}, Feedback())
    label(str(samples))
    areas = {"PRODUCT": str(out), "SAMPLES": str(samples), "OUTPUT": str(folder / "areas.json")}
    found["areas"] = call("changedarea", areas, Feedback())
    try:
        call("mapbymethod", {**pair, "METHOD": 1, "OUTPUT": str(out)}, Feedback())
    except Exception as error:
        found["refused"] = str(error)

    long = {"BEFORE": str(folder / "long_before.tif"), "AFTER": str(folder / "long_after.tif")}
    stopped = Feedback(stop_at=60)
    job = {**long, "MODEL": "default", "OUTPUT": str(folder / "long")}
    found["stopped"] = call("mapchange", job, stopped)
    found["stopped_lines"], found["left"] = stopped.lines, sorted(path.name for path in folder.iterdir())
    found["resumed"] = call("mapchange", job, Feedback())

    shutil.copytree(folder, folder.parent / "moved", dirs_exist_ok=True)
    for name, place in (("project", folder), ("moved", folder.parent / "moved")):
        project.clear()
        found[f"{name}_read"] = project.read(str(place / "out" / "change.qgs"))
        found[name] = described(project)
        found[f"{name}_sources"] = sorted(layer.source() for layer in project.mapLayers().values())
        found[f"{name}_colour"] = drawn(project, place / "drawn.png")
    probability = QgsRasterLayer(str(out / "probability.tif"), "p", "gdal")
    found["ramp"] = [item.label for item in probability.renderer().shader().rasterShaderFunction().colorRampItemList()]
    return found


if __name__ == "__main__":
    faulthandler.enable()
    plugins, plugin, where = sys.argv[1:]
    sys.path[:0] = [plugins, plugin]
    application = QgsApplication([], False)
    application.initQgis()
    from processing.core.Processing import Processing

    Processing.initialize()
    from terradelta_qgis import classFactory

    ours = classFactory(None)
    ours.initProcessing()
    print(json.dumps(main(Path(where))), flush=True)
    ours.unload()
    os._exit(0)  # not by way of exitQgis, which crashes where Python still holds objects of QGIS
