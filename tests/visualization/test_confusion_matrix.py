import numpy as np
import pytest
from PIL import Image

from mm_ovseg.errors import DataError
from mm_ovseg.visualization.confusion_matrix import draw_confusion_matrix

CLASSES = ["city", "road", "forest"]
CONFUSION_MATRIX = np.array([[90, 10, 0], [0, 0, 0], [5, 5, 10]])


def read(path):
    return np.array(Image.open(path).convert("RGB"))


def test_writes_a_picture_that_is_not_blank_and_nothing_else(tmp_path):
    draw_confusion_matrix(tmp_path / "matrix.png", CONFUSION_MATRIX, CLASSES)
    picture = read(tmp_path / "matrix.png")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.png"]


def test_unseen_names_are_underlined(tmp_path):
    draw_confusion_matrix(tmp_path / "one.png", CONFUSION_MATRIX, CLASSES, ["road"])
    draw_confusion_matrix(tmp_path / "two.png", CONFUSION_MATRIX, CLASSES, ["road", "forest"])
    one, two = read(tmp_path / "one.png"), read(tmp_path / "two.png")
    assert one.shape == two.shape
    changed = (one != two).any(axis=2)
    # Two short lines, one of them slanted: few pixels, and darker where the underline is new.
    assert 30 < changed.sum() < 3000
    assert two[changed].mean() < one[changed].mean()


def test_row_colors_follow_the_share_of_the_row_not_the_count(tmp_path):
    matrix = np.array([[1000, 0], [0, 1]])
    scaled = np.array([[1, 0], [0, 1000]])
    draw_confusion_matrix(tmp_path / "first.png", matrix, ["a", "b"])
    draw_confusion_matrix(tmp_path / "second.png", scaled, ["a", "b"])
    assert (read(tmp_path / "first.png") == read(tmp_path / "second.png")).all()


def test_a_class_without_ground_truth_is_grey(tmp_path):
    def grey_share(path):
        picture = read(path).astype(int)
        return ((np.ptp(picture, axis=2) == 0) & (abs(picture[..., 0] - 217) < 4)).mean()

    draw_confusion_matrix(tmp_path / "absent.png", CONFUSION_MATRIX, CLASSES)
    draw_confusion_matrix(tmp_path / "present.png", CONFUSION_MATRIX + 1, CLASSES)
    assert grey_share(tmp_path / "absent.png") > 0.05
    assert grey_share(tmp_path / "present.png") < 0.01


def test_many_classes_and_names_that_look_like_formulas(tmp_path):
    names = [f"${index}_$^{{" for index in range(60)]
    draw_confusion_matrix(tmp_path / "matrix.png", np.eye(60, dtype=np.int64), names, names[:1])
    assert Image.open(tmp_path / "matrix.png").width > 1000


def test_unwritable_folder_is_a_data_error_that_names_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "matrix.png"
    with pytest.raises(DataError, match=f"{path} cannot be written"):
        draw_confusion_matrix(path, CONFUSION_MATRIX, CLASSES)
