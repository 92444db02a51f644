"""The files of a finished scene."""

import numpy as np
import pytest
import rasterio

from mm_ovseg.data.palette import class_legend
from mm_ovseg.errors import StoppedError
from mm_ovseg.inference.scene_files import sibling, write_scene_outputs
from mm_ovseg.inference.scene_options import SceneOptions
from mm_ovseg.inference.scene_work import SceneWork
from mm_ovseg.raster import Grid

SIDE = 600  # enough for an overview
LAYERS = {"class": 1, "coverage": 1, "confidence": 1, "probabilities": 2}


@pytest.fixture
def write(tmp_path):
    """A function ``(**callbacks) -> map`` that writes the files of a scene of noise; ``work`` has its folder."""
    output = tmp_path / "map.tif"
    work = SceneWork(output, layers=LAYERS, width=SIDE, height=SIDE, settings={}, resume=False)
    noise = np.random.default_rng(0).integers(0, 101, (2, SIDE, SIDE), dtype=np.uint8)
    classes = (noise[1] > noise[0]).astype(np.uint8)
    rows = {"class": classes[None], "coverage": classes[None], "confidence": noise.max(0)[None]}
    work.append({**rows, "probabilities": noise})

    def write(**callbacks):
        options = SceneOptions(confidence=True, probabilities=True)
        legend, report = class_legend(("water", "city")), {"images": {}, "warnings": []}
        about_images = {"rasters": {}, "trained_without_rgb": True}
        write_scene_outputs(output, work, Grid(SIDE, SIDE), report, options, legend, **about_images, **callbacks)
        return output

    write.work = work
    yield write
    work.close(finished=False)


def overview(path):
    """The whole raster (bands, H, W), and its overview."""
    with rasterio.open(path) as file:
        whole = file.read()
    with rasterio.open(path, overview_level=0) as file:
        return whole, file.read()


def test_overviews_of_the_confidence_are_of_the_pixels_of_the_classes(write):
    output = write()
    (classes, few), (percent, few_percent) = (overview(path) for path in (output, sibling(output, "_confidence.tif")))
    places = [np.s_[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    [place] = [place for place in places if np.array_equal(classes[place], few)]
    assert np.array_equal(percent[place], few_percent)
    probabilities, means = overview(sibling(output, "_probabilities.tif"))
    assert np.abs(probabilities.reshape(2, 300, 2, 300, 2).mean((2, 4)) - means).max() <= 0.5


@pytest.mark.parametrize("finished", range(len(LAYERS)))
def test_nothing_more_is_written_once_nobody_wants_it(finished, write, tmp_path):
    answers = iter([False] * finished + [True])
    with pytest.raises(StoppedError, match="no longer needed"):
        write(should_stop=lambda: next(answers))
    assert len(list(tmp_path.glob("map*.tif"))) == finished and not list(tmp_path.glob("*.json"))
    assert len(list(write.work.folder.glob("*.tif"))) == finished and write.work.rows_done == SIDE
    assert write(should_stop=lambda: False).is_file() and len(list(tmp_path.glob("map*.tif"))) == len(LAYERS)
