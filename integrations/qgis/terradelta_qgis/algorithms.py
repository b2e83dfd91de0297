"""The algorithms: each turns its parameters into a command line of terradelta, runs it, and loads what it made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsLayerTreeGroup,
    QgsMapLayer,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingOutputNumber,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsRasterLayer,
    QgsVectorLayer,
)

from .runner import SETTING, NotFoundError, RunError, find_program, run

__all__ = ["ALGORITHMS"]

_LAYERS = (("POLYGONS", "change.gpkg|layername=change", "Changes"), ("CHANGE", "change.tif", "Changed pixels"))
_LAYERS += (("PROBABILITY", "probability.tif", "Probability of change"),)
"""Output, file and title of what a map consists of, from the top."""


class _Algorithm(QgsProcessingAlgorithm):
    """What they share: a name, the program, and its words."""

    NAME, TITLE, HELP = "", "", ""

    def name(self) -> str:
        return self.NAME

    def displayName(self) -> str:
        return self.TITLE

    def shortHelpString(self) -> str:
        return self.HELP

    def helpUrl(self) -> str:
        return "https://github.com/terradelta/terradelta/blob/main/docs/qgis.md"

    def createInstance(self) -> QgsProcessingAlgorithm:
        return type(self)()

    def canExecute(self) -> Any:
        """Whether the program is there; the toolbox shows the message if not."""
        try:
            find_program(ProcessingConfig.getSetting(SETTING) or "")
        except NotFoundError as error:
            return False, str(error)
        return True, ""

    def start(self, arguments: Sequence[str], feedback: QgsProcessingFeedback) -> dict[str, Any] | None:
        """Run terradelta; gives the event that it ended with, or None if the user stopped it.

        Raises:
            QgsProcessingException: with the program's own words if it cannot be started or fails.
        """
        last: dict[str, Any] = {}

        def told(event: dict[str, Any]) -> None:
            if event["event"] == "done":
                last.update(event)
            _show(event, feedback)

        try:
            command = [find_program(ProcessingConfig.getSetting(SETTING) or ""), *arguments]
            feedback.pushCommandInfo(" ".join(f'"{each}"' if " " in each else each for each in command))
            if run(command, told, feedback.isCanceled):
                return last
        except (NotFoundError, RunError) as error:
            raise QgsProcessingException(str(error)) from error
        feedback.pushInfo("Stopped. What is finished is kept: run it again with the same settings to go on.")
        return None

    def addAdvanced(self, parameter: QgsProcessingParameterDefinition) -> None:
        """Add a parameter that is shown on demand."""
        parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(parameter)


def _show(event: dict[str, Any], feedback: QgsProcessingFeedback) -> None:
    """An event of terradelta in QGIS's log and progress bar."""
    kind, text = event["event"], event.get("text", "")
    if kind == "progress" and event.get("total"):
        feedback.setProgress(100 * event["done"] / event["total"])
    if kind == "note" and event.get("warning"):
        feedback.pushWarning(str(text).removeprefix("Warning: "))
    elif kind != "error" and text:
        feedback.pushInfo("\n".join(map(str, text)) if isinstance(text, list) else str(text))


class _Map(_Algorithm):
    """Two images to a change map."""

    def __init__(self) -> None:
        super().__init__()
        self._made = ""
        self._group: tuple[str, bool] = ("", False)

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Parameters and outputs."""
        self.addParameter(QgsProcessingParameterRasterLayer("BEFORE", "Image of the first date"))
        self.addParameter(QgsProcessingParameterRasterLayer("AFTER", "Image of the second date"))
        self.addOwn()
        self.addParameter(QgsProcessingParameterExtent("AOI", "Area of interest", optional=True))
        self.addAdvanced(
            QgsProcessingParameterString("BANDS", "Bands in the model's order, such as 3,2,1", optional=True)
        )
        for key, words, least in (
            ("THRESHOLD", "Probability from which a pixel counts as changed", 0.0),
            ("MIN_AREA", "Leave out smaller polygons, m²", 0.0),
        ):
            self.addAdvanced(
                QgsProcessingParameterNumber(
                    key, words, QgsProcessingParameterNumber.Double, None, optional=True, minValue=least
                )
            )
        self.addAdvanced(
            QgsProcessingParameterNumber(
                "SIEVE",
                "Make groups of fewer changed pixels unchanged",
                QgsProcessingParameterNumber.Integer,
                0,
                minValue=0,
            )
        )
        self.addAdvanced(
            QgsProcessingParameterBoolean("COREGISTER", "Move the second image by the shift that was measured", False)
        )
        self.addAdvanced(QgsProcessingParameterBoolean("FRESH", "Discard what a stopped run left", False))
        self.addParameter(QgsProcessingParameterBoolean("LOAD", "Load the result, styled, in a group", True))
        self.addParameter(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the change map"))
        self.addOutput(QgsProcessingOutputVectorLayer("POLYGONS", "Changes", QgsProcessing.TypeVectorPolygon))
        self.addOutput(QgsProcessingOutputRasterLayer("CHANGE", "Changed pixels"))
        self.addOutput(QgsProcessingOutputRasterLayer("PROBABILITY", "Probability of change"))
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))
        self.addOutput(QgsProcessingOutputNumber("CHANGED_FRACTION", "Changed share of what both dates show"))
        self.addOutput(QgsProcessingOutputNumber("CHANGED_AREA_M2", "Changed area, m²"))

    def addOwn(self) -> None:
        """Parameters of one algorithm alone."""

    def own(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Their options."""
        raise NotImplementedError

    def options(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """The options that both algorithms have."""
        made: list[str] = []
        bands = self.parameterAsString(parameters, "BANDS", context)
        made += ["--bands", bands] if bands else []
        for key, option in (("THRESHOLD", "--threshold"), ("MIN_AREA", "--min-area")):
            if parameters.get(key) is not None:
                made += [option, repr(self.parameterAsDouble(parameters, key, context))]
        sieve = self.parameterAsInt(parameters, "SIEVE", context)
        made += ["--sieve", str(sieve)] if sieve else []
        for key, option in (("COREGISTER", "--coregister"), ("FRESH", "--fresh")):
            made += [option] if self.parameterAsBoolean(parameters, key, context) else []
        return made + self._area(parameters, context)

    def _area(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """The area of interest, in the extent's own CRS."""
        extent = self.parameterAsExtent(parameters, "AOI", context)
        if extent.isNull():
            return []
        crs = self.parameterAsExtentCrs(parameters, "AOI", context)
        corners = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
        if not crs.authid().startswith("EPSG:"):
            raise QgsProcessingException("The area of interest needs a CRS with an EPSG code; choose another, or none")
        return ["--aoi", ",".join([*map(repr, corners), crs.authid()])]

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run `terradelta map`."""
        images = [_file_of(self.parameterAsRasterLayer(parameters, key, context)) for key in ("BEFORE", "AFTER")]
        folder = self.parameterAsString(parameters, "OUTPUT", context)
        chosen = [*self.own(parameters, context), *self.options(parameters, context)]
        done = self.start(["map", *images, "--out", folder, "--progress", "json", "--qgis", *chosen], feedback)
        if done is None:
            return {}
        if self.parameterAsBoolean(parameters, "LOAD", context):
            self._made = folder
        return {
            "OUTPUT": folder,
            **{key: os.path.join(folder, file) for key, file, _ in _LAYERS},
            "REPORT": os.path.join(folder, "report.html"),
            "CHANGED_FRACTION": done.get("changed_fraction"),
            "CHANGED_AREA_M2": done.get("changed_area_m2"),
        }

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        """Load the layers, in QGIS's main thread."""
        project = context.project()
        if self._made and project is not None:
            group = QgsLayerTreeGroup(f"Change in {os.path.basename(self._made)}")
            for key, file, title in _LAYERS:
                path = os.path.join(self._made, file)
                layer = QgsVectorLayer(path, title, "ogr") if key == "POLYGONS" else QgsRasterLayer(path, title, "gdal")
                if not layer.isValid():
                    feedback.reportError(f"{path} cannot be loaded")
                    continue
                project.addMapLayer(layer, False)  # its style comes from the .qml beside it
                node = group.addLayer(layer)
                node.setItemVisibilityChecked(key == "POLYGONS")
                node.setExpanded(key == "POLYGONS")
            project.layerTreeRoot().insertChildNode(0, group)
        return {}


class MapChange(_Map):
    """By a network."""

    NAME, TITLE = "mapchange", "Map change"
    HELP = (
        "Maps what changed between two images of the same place with a trained network: probability, changed pixels, "
        "polygons with their areas, and a report. The images may lie on different grids; the map has the first one's. "
        "The default model finds buildings that appeared or disappeared at 0.4 to 1 m per pixel, nothing else.\n"
        'Model: default, a name that "terradelta models" lists, hf:OWNER/REPO, an .onnx file, or a URL. The output '
        "folder must be new. A run that was stopped goes on if it is started again with the same settings."
    )

    def addOwn(self) -> None:
        """The model."""
        self.addParameter(QgsProcessingParameterString("MODEL", "Model", "default"))
        self.addAdvanced(
            QgsProcessingParameterBoolean("ANYWAY", "Use the model on pixels of a size that it does not know", False)
        )

    def own(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Its options."""
        anyway = self.parameterAsBoolean(parameters, "ANYWAY", context)
        return ["--model", self.parameterAsString(parameters, "MODEL", context), *["--anyway"] * anyway]


class MapByMethod(_Map):
    """By a method that is fitted to the pair."""

    NAME, TITLE = "mapbymethod", "Change by IR-MAD or CVA"
    HELP = (
        "Maps what looks different between two images, with a method that is fitted to them: no model, no training "
        "data, any bands and resolution. It finds change of whatever kind, season and light included.\n"
        "IR-MAD: change that no linear mapping of the bands explains; needs no equal sensors. CVA: length of the "
        "change of the standardised bands. PCA and k-means: principal components of the difference around each pixel."
    )
    METHODS = (("irmad", "IR-MAD"), ("cva", "CVA"), ("pca-kmeans", "PCA and k-means"))

    def addOwn(self) -> None:
        """The method."""
        titles = [title for _, title in self.METHODS]
        self.addParameter(QgsProcessingParameterEnum("METHOD", "Method", titles, False, 0))

    def own(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Its option."""
        return ["--method", self.METHODS[self.parameterAsEnum(parameters, "METHOD", context)][0]]


class DrawSamples(_Algorithm):
    """Random places of a map, to be labelled."""

    NAME, TITLE = "drawsamples", "Draw samples"
    HELP = (
        "Draws random places among the changed and the unchanged pixels of a change map, as points with a field "
        '"label". Look at both images at each point and write 1 (changed) or 0 (unchanged) into it; then run "Changed '
        'area with interval".'
    )

    def __init__(self) -> None:
        super().__init__()
        self._made = ""

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Parameters."""
        folder = QgsProcessingParameterFile.Folder
        self.addParameter(QgsProcessingParameterFile("PRODUCT", "Folder of the change map", folder))
        integer = QgsProcessingParameterNumber.Integer
        self.addParameter(QgsProcessingParameterNumber("COUNT", "Samples", integer, 200, minValue=2))
        self.addAdvanced(QgsProcessingParameterNumber("SEED", "Seed of the random numbers", integer, 0, minValue=0))
        self.addParameter(QgsProcessingParameterFileDestination("OUTPUT", "Samples", "GeoPackage (*.gpkg)"))

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run `terradelta area --draw`."""
        out = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        numbers = [str(self.parameterAsInt(parameters, key, context)) for key in ("COUNT", "SEED")]
        product = self.parameterAsFile(parameters, "PRODUCT", context)
        if self.start(["area", product, "--draw", numbers[0], "--seed", numbers[1], "--out", out], feedback) is None:
            return {}
        self._made = out
        return {"OUTPUT": out}

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        """Load the points."""
        project = context.project()
        if self._made and project is not None:
            project.addMapLayer(QgsVectorLayer(self._made, "Samples to label", "ogr"))
        return {}


class ChangedArea(_Algorithm):
    """How much changed, from labelled samples."""

    NAME, TITLE = "changedarea", "Changed area with interval"
    HELP = (
        'Tells how much changed, with a 95 % interval, from samples of a change map that somebody has labelled ("Draw '
        'samples"), after Olofsson et al. 2014. Without samples it tells the mapped area alone, which is biased. With '
        "regions it tells both for each polygon. The result is a JSON file; the log shows it as a table."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Parameters and outputs."""
        folder = QgsProcessingParameterFile.Folder
        self.addParameter(QgsProcessingParameterFile("PRODUCT", "Folder of the change map", folder))
        kinds = ((QgsProcessing.TypeVectorPoint, "SAMPLES", "Labelled samples"),)
        kinds += ((QgsProcessing.TypeVectorPolygon, "REGIONS", "Regions"),)
        for kind, key, words in kinds:
            self.addParameter(QgsProcessingParameterVectorLayer(key, words, [kind], None, True))
        self.addParameter(QgsProcessingParameterFileDestination("OUTPUT", "Areas", "JSON (*.json)"))
        for key, words in (("AREA", "Changed area"), ("LOW", "Lower end"), ("HIGH", "Upper end"), ("MAPPED", "Mapped")):
            self.addOutput(QgsProcessingOutputNumber(key, f"{words}, m² (pixels without a CRS)"))

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run `terradelta area`."""
        out = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        arguments = ["area", self.parameterAsFile(parameters, "PRODUCT", context), "--out", out]
        for key, option in (("SAMPLES", "--samples"), ("REGIONS", "--regions")):
            layer = self.parameterAsVectorLayer(parameters, key, context)
            if layer is not None:
                if layer.isModified():
                    raise QgsProcessingException(f"Save the edits of {layer.name()} first: terradelta reads the file")
                path = self.parameterAsCompatibleSourceLayerPath(parameters, key, context, ["gpkg"], "gpkg", feedback)
                arguments += [option, path.partition("|")[0]]
        if self.start(arguments, feedback) is None:
            return {}
        with open(out, encoding="utf-8") as file:
            whole = json.load(file)["whole_map"]
        found = whole["changed_area"] or {}
        mapped = whole.get("area_m2") or whole.get("area_px") or {}
        return {
            "OUTPUT": out,
            "AREA": found.get("value"),
            "LOW": found.get("low"),
            "HIGH": found.get("high"),
            "MAPPED": mapped.get("changed"),
        }


def _file_of(layer: QgsMapLayer) -> str:
    """The file or URL of a raster layer.

    Raises:
        QgsProcessingException: if it comes from no file.
    """
    if layer is None or layer.dataProvider().name() != "gdal":
        name = "The image" if layer is None else layer.name()
        raise QgsProcessingException(f"{name} is no raster file; terradelta reads files that GDAL opens")
    source = str(layer.source())
    return source.removeprefix("/vsicurl/") if "://" in source else source


ALGORITHMS: tuple[Callable[[], QgsProcessingAlgorithm], ...] = (MapChange, MapByMethod, ChangedArea, DrawSamples)
"""All of them."""
