"""A QGIS Processing script that maps images with `mm-ovseg scene` and loads the map.

mm_ovseg runs in its own environment; nothing is installed into QGIS's Python. README.md says how to install the script.
"""

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

PROGRAM_VARIABLE = "MM_OVSEG"  # the mm-ovseg of its environment, such as /home/me/mm_ovseg/.venv/bin/mm-ovseg
# Set by QGIS for its own Python and libraries; they would break another Python.
OF_QGIS = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "LD_LIBRARY_PATH", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB")
PERCENT = re.compile(r"(\d+)%\|")
SECONDS_BETWEEN_LOOKS = 0.2  # at whether the user has cancelled


class SceneAlgorithm(QgsProcessingAlgorithm):
    """Open-vocabulary land cover of optical and radar images."""

    RGB, SAR, PRODUCT_RGB, PRODUCT_SAR = "RGB", "SAR", "PRODUCT_RGB", "PRODUCT_SAR"
    CLASSES, CONFIG, WEIGHTS, SETTINGS = "CLASSES", "CONFIG", "WEIGHTS", "SETTINGS"
    AREA, SAMPLING_DISTANCE, OPTIONS, PROGRAM = "AREA", "GROUND_SAMPLING_DISTANCE", "OPTIONS", "PROGRAM"
    OUTPUT, POLYGONS = "OUTPUT", "POLYGONS"

    def name(self) -> str:
        """Name in commands."""
        return "mm_ovseg_scene"

    def displayName(self) -> str:  # noqa: N802 (QGIS's names)
        """Name in the toolbox."""
        return "Map a scene by typed class names"

    def group(self) -> str:
        """Group in the toolbox."""
        return "mm_ovseg"

    def groupId(self) -> str:  # noqa: N802
        """Name of the group in commands."""
        return "mm_ovseg"

    def shortHelpString(self) -> str:  # noqa: N802
        """What the dialog says."""
        return (
            "Maps optical and radar images by class names that you type: water, road, burnt forest. Give RGB, SAR or "
            "both, as layers or as products (a Sentinel .SAFE folder or zip, an item of a STAC catalogue). The config "
            "and weights are those of your model. mm-ovseg runs in its own environment: give its program once as the "
            f"environment variable {PROGRAM_VARIABLE} (Settings, Options, System), or in the advanced parameters."
        )

    def createInstance(self) -> "SceneAlgorithm":  # noqa: N802
        """A new algorithm."""
        return SceneAlgorithm()

    def initAlgorithm(self, configuration: "dict | None" = None) -> None:  # noqa: N802
        """Declare the parameters."""
        raster, string, file = (
            QgsProcessingParameterRasterLayer,
            QgsProcessingParameterString,
            QgsProcessingParameterFile,
        )
        self.addParameter(raster(self.RGB, "RGB image", optional=True))
        self.addParameter(raster(self.SAR, "SAR image, on any grid", optional=True))
        self.addParameter(string(self.CLASSES, "Classes, separated by commas", "water, city, forest, farmland"))
        self.addParameter(file(self.CONFIG, "Config of the model", extension="yaml"))
        self.addParameter(file(self.WEIGHTS, "Weights of the model", optional=True))
        self.addParameter(
            QgsProcessingParameterFeatureSource(
                self.AREA, "Area to map", [QgsProcessing.TypeVectorPolygon], optional=True
            )
        )
        self.addParameter(
            QgsProcessingParameterNumber(
                self.SAMPLING_DISTANCE,
                "Pixel size of the map in metres (default: the image's)",
                QgsProcessingParameterNumber.Double,
                optional=True,
                minValue=1e-6,
            )
        )
        for parameter in (
            string(self.PRODUCT_RGB, "Optical product instead of a layer: folder, zip or STAC item", optional=True),
            string(self.PRODUCT_SAR, "Radar product instead of a layer", optional=True),
            string(self.SETTINGS, "Settings of the config (INPUT.SAR.SCALE db ...)", optional=True),
            string(self.OPTIONS, "Further options of mm-ovseg scene (--stac ADDRESS ...)", optional=True),
            string(self.PROGRAM, f"mm-ovseg (default: the variable {PROGRAM_VARIABLE}, or PATH)", optional=True),
        ):
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
            self.addParameter(parameter)
        self.addParameter(QgsProcessingParameterRasterDestination(self.OUTPUT, "Map"))
        self.addParameter(
            QgsProcessingParameterVectorDestination(self.POLYGONS, "Polygons", optional=True, createByDefault=False)
        )

    def processAlgorithm(  # noqa: N802
        self, parameters: dict, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict:
        """Run mm-ovseg."""

        def text(name: str) -> str:
            return self.parameterAsString(parameters, name, context).strip()

        output = self.parameterAsOutputLayer(parameters, self.OUTPUT, context)
        polygons = self.parameterAsOutputLayer(parameters, self.POLYGONS, context)
        command = [find_program(text(self.PROGRAM)), "scene", "--config-file", text(self.CONFIG)]
        images = 0
        for option, layer_name, product_name in (
            ("--rgb", self.RGB, self.PRODUCT_RGB),
            ("--sar", self.SAR, self.PRODUCT_SAR),
        ):
            layer, product = self.parameterAsRasterLayer(parameters, layer_name, context), text(product_name)
            if layer is not None and product:
                raise QgsProcessingException(f"{layer_name} is given as a layer and as a product; give one of them.")
            if layer is not None or product:
                command += [option, product or layer.source()]
                images += 1
        options = shlex.split(text(self.OPTIONS))
        if not images and "--stac" not in options:
            raise QgsProcessingException("No image is given; give RGB, SAR or both.")
        command += ["--classes", text(self.CLASSES), "--output", output]
        if polygons:
            command += ["--vector", polygons]
        if parameters.get(self.SAMPLING_DISTANCE) is not None:
            command += ["--gsd", str(self.parameterAsDouble(parameters, self.SAMPLING_DISTANCE, context))]
        if parameters.get(self.AREA):
            path, layer = self.parameterAsCompatibleSourceLayerPathAndLayerName(
                parameters, self.AREA, context, ["gpkg", "geojson", "shp"], "gpkg", feedback
            )
            command += ["--aoi", path, *(["--aoi-layer", layer] if layer else [])]
        command += options
        settings = shlex.split(text(self.SETTINGS))
        if text(self.WEIGHTS):
            settings += ["MODEL.WEIGHTS", text(self.WEIGHTS)]
        if settings:
            command += ["--opts", *settings]
        run(command, feedback)
        results = {self.OUTPUT: output}
        return {**results, self.POLYGONS: polygons} if polygons else results


def find_program(given: str) -> str:
    """The mm-ovseg to run: the given one, that of the environment variable, or that on the search path."""
    program = given or os.environ.get(PROGRAM_VARIABLE, "") or "mm-ovseg"
    found = shutil.which(program)
    if found is None:
        raise QgsProcessingException(
            f"{program} is not a program; give the mm-ovseg of its environment in the advanced parameters or in the "
            f"environment variable {PROGRAM_VARIABLE}, such as /home/me/mm_ovseg/.venv/bin/mm-ovseg."
        )
    return found


def run(command: "list[str]", feedback: QgsProcessingFeedback) -> None:
    """Run mm-ovseg, with its progress and messages in the dialog."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_QGIS}
    feedback.pushCommandInfo(shlex.join(command))
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=read_lines, args=(process.stdout, lines), daemon=True).start()
    last = ""
    cancelled = False
    while True:
        if feedback.isCanceled() and not cancelled:
            cancelled = True
            process.terminate() if sys.platform == "win32" else process.send_signal(signal.SIGINT)
        try:
            line = lines.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            continue
        if line is None:
            break
        if match := PERCENT.search(line):
            feedback.setProgress(int(match[1]))
        elif line.strip():
            last = line.strip()
            feedback.pushConsoleInfo(line)
    status = process.wait()
    if cancelled:
        feedback.pushInfo("Cancelled; the same map with the option --resume goes on.")
    elif status:
        raise QgsProcessingException(f"mm-ovseg failed: {last}")


def read_lines(stream: "IO[bytes]", lines: "queue.Queue[str | None]") -> None:  # noqa: F821
    """Put what a program prints into a queue by lines, of which a progress bar has many; None at its end."""
    rest = b""
    with stream:
        while part := stream.read1(4096):
            *whole, rest = re.split(rb"[\r\n]+", rest + part)
            for line in whole:
                lines.put(line.decode("utf-8", "replace"))
    lines.put(rest.decode("utf-8", "replace"))
    lines.put(None)
