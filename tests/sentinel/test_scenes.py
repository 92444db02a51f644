import zipfile

import numpy as np
import pytest

from mm_ovseg.errors import DataError
from sentinel.scenes import CLASS_NAMES, read_scenes
from tests.sentinel.realtrain import write_scene_archives


def test_all_sets_are_read_with_their_classes(realtrain):
    scenes = read_scenes(realtrain)
    assert len(scenes.images) == 10 * 30 + 10 * 12 + 1 + 10 * 7
    for index, (file, of_set, label) in enumerate(zip(scenes.files, scenes.sets, scenes.labels, strict=True)):
        classes = list(CLASS_NAMES.values())[of_set]
        assert file.split("/")[0] == list(classes)[label], index
    lake = scenes.files.index("lake/003.jpg")
    assert scenes.sets[lake] == 1 and np.abs(scenes.images[lake].astype(int) - (20, 40, 70)).max() < 5
    held_out = {file for file, is_out in zip(scenes.files, scenes.held_out, strict=True) if is_out}
    tenth = {f"{name}/009.jpg" for classes in CLASS_NAMES.values() for name in classes if name != "lake"}
    assert held_out == tenth | {"lake/100.jpg", "lake/008.jpg"}  # the test scene of lakes is the first of them


def test_large_scenes_become_small(tmp_path):
    write_scene_archives(tmp_path, side=120)
    assert read_scenes(tmp_path).images.shape[1:] == (112, 112, 3)


def test_archives_that_are_missing_or_empty(tmp_path):
    with pytest.raises(DataError, match="aid.zip cannot be read as a zip archive"):
        read_scenes(tmp_path)
    write_scene_archives(tmp_path)
    with zipfile.ZipFile(tmp_path / "rsscn7.zip", "w"):
        pass
    with pytest.raises(DataError, match="rsscn7.zip has 0 scenes in aGrass/; copy it again"):
        read_scenes(tmp_path)
