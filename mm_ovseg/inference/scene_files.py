"""What segmenting a scene reads and writes, for :func:`mm_ovseg.files.check_outputs`."""

import os
from collections.abc import Iterable
from pathlib import Path

from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.inference.scene_options import SceneOptions
from mm_ovseg.inference.scene_work import work_folder
from mm_ovseg.raster import Paths, path_list

__all__ = ["scene_inputs", "scene_outputs", "sibling"]

PathLike = str | os.PathLike


def sibling(output: Path, ending: str) -> Path:
    """A file beside the map, with its stem and another ending."""
    return output.with_name(output.stem + ending)


def scene_outputs(output: Path, options: SceneOptions) -> dict[str, list[Path | None]]:
    """Everything that a scene may write: option that names it -> paths."""
    endings = ["_coverage.tif", ".qml", ".json"]
    endings += ["_confidence.tif"] if options.confidence else []
    endings += ["_probabilities.tif"] if options.probabilities else []
    beside = [sibling(output, ending) for ending in endings]
    return {"--output": [output, *beside, work_folder(output)], "--vector": [options.vector]}


def scene_inputs(rgb: Paths, sar: Paths | None, options: SceneOptions) -> dict[str, Iterable[PathLike | None]]:
    """Everything that a scene is made from: what it is -> paths."""
    images = {}
    for kind, paths in (("RGB", path_list(rgb)), ("SAR", path_list(sar))):
        images[f"the {kind} image" if len(paths) < 2 else f"one of the {kind} images"] = paths
    return {**raster_inputs(images), "the area of interest": [options.area]}
