"""The files that a finished scene becomes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mm_ovseg.data.palette import class_legend
from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder, complete_file
from mm_ovseg.inference.areas import measure_areas
from mm_ovseg.inference.map_writer import NODATA_CLASS, class_band, write_qgis_style
from mm_ovseg.inference.polygons import write_polygons
from mm_ovseg.inference.scene_files import sibling
from mm_ovseg.inference.scene_options import SceneOptions
from mm_ovseg.inference.scene_work import SceneWork
from mm_ovseg.raster import Grid, RasterSource, write_geotiff
from mm_ovseg.raster.cog import write_cog
from mm_ovseg.raster.vector_drivers import check_name
from mm_ovseg.vocabulary import is_text, select_unseen

__all__ = ["COVERAGE", "SceneOutputs", "polygon_options"]

COVERAGE = {"no_rgb": 0, "rgb_only": 1, "rgb_and_sar": 2}  # values of the coverage file


class SceneOutputs:
    """Writes the map of a scene and what comes with it.

    Args:
        class_names: T names.
        colors: (red, green, blue) of each, 0..255; None for the usual ones.
        unseen: those of the names that training saw no labels of.

    Attributes:
        legend: of each class its ``name``, its ``color`` as [red, green, blue], and whether it is ``unseen``; as JSON.

    Raises:
        VocabularyError: an unseen name is none of the names, or there are not as many colours.
    """

    def __init__(
        self, class_names: Sequence[str], *, colors: Sequence[Sequence[int]] | None = None, unseen: Sequence[str] = ()
    ) -> None:
        self._names = tuple(class_names)
        self._entries = class_legend(self._names, colors, select_unseen(self._names, unseen), owner="The map")
        self.legend = [{**entry._asdict(), "color": list(entry.color)} for entry in self._entries]

    def check(self, output: Path, vector: Path | None) -> None:
        """Check, before long work, that the files can be written.

        Raises:
            DataError: a name has another suffix, or a folder is closed.
        """
        if output.suffix.lower() not in (".tif", ".tiff"):
            raise DataError(f"{output} is to be a GeoTIFF; let its name end in .tif.")
        if vector is not None and vector.suffix.lower() != ".gpkg":
            raise DataError(f"{vector} is to be a GeoPackage; let its name end in .gpkg.")
        for path in (output, vector):
            if path is not None and not is_text(str(path)):
                raise DataError(f"The file name {str(path)!r} holds characters that are not text; choose another.")
        check_writable_folder(output.parent)
        if vector is not None:
            check_name(vector)
            check_writable_folder(vector.parent)

    def write(
        self, output: Path, work: SceneWork, grid: Grid, report: Mapping[str, Any], options: SceneOptions
    ) -> dict[str, Any]:
        """Write everything; the JSON report comes last.

        Args:
            output: the map.
            work: whose rows are all done.
            grid: of the map.
            report: what is known of the run so far.
            options: which say where polygons go, and which.

        Returns:
            The whole report.

        Raises:
            DataError: a file cannot be written.
        """
        names = self._names
        layers = {
            "class": class_band(self._entries),
            "coverage": {
                "descriptions": ["what the map was made from"],
                "band_tags": {f"value_{value}": name for name, value in COVERAGE.items()},
            },
            "confidence": {"descriptions": ["score of the class, percent"]},
            "probabilities": {"descriptions": [f"score of {name}, percent" for name in names]},
        }
        for layer in work.layers:
            plain = work.folder / f"{layer}.tif"
            # It is copied once more, so it needs no hard compression.
            write_geotiff(
                plain, work.parts(layer), grid, bands=work.layers[layer], nodata=NODATA_CLASS, level=1, **layers[layer]
            )
            path = output if layer == "class" else sibling(output, f"_{layer}.tif")
            write_cog(plain, path, categorical=layer in ("class", "coverage"))
        write_qgis_style(output.with_suffix(".qml"), names, [entry.color for entry in self._entries])
        if options.vector is not None:
            shape = polygon_options(options)
            count = write_polygons(output, options.vector, names, **shape)
            report = {**report, "polygons": count, "polygon_options": shape}
        areas = [
            {**asdict(area), **entry} for area, entry in zip(measure_areas(output, names), self.legend, strict=True)
        ]
        report = {
            "map": output.name,
            "classes": areas,
            "coverage": self._count_coverage(sibling(output, "_coverage.tif")),
            "grid": {
                "width": grid.width,
                "height": grid.height,
                "crs": None if grid.crs is None else grid.crs.to_string(),
                "transform": None if grid.transform is None else list(grid.transform)[:6],
                "pixel_size_metres": grid.pixel_size_metres,
            },
            **report,
        }
        with complete_file(sibling(output, ".json")) as temporary:
            temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return report

    def _count_coverage(self, path: Path) -> dict[str, int]:
        """Pixels of each kind."""
        counts = np.zeros(256, np.int64)
        with RasterSource(path) as source:
            for _, rows in source.strips(1):
                counts += np.bincount(rows.ravel(), minlength=256)
        return {name: int(counts[value]) for name, value in COVERAGE.items()}


def polygon_options(options: SceneOptions) -> dict[str, float | None]:
    """What the polygons depend on beside the map."""
    return {"min_area": options.min_area, "simplify": options.simplify}
