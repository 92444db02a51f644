import numpy as np
import pytest

from mm_ovseg.data.inspection.classes import guess_classes
from mm_ovseg.data.inspection.facts import read_facts
from mm_ovseg.errors import VocabularyError
from tests.data.inspection.folders import OEM_PALETTE, save


@pytest.fixture
def label_facts(tmp_path):
    """A function ``(values of a file, ...) -> facts of label files``; a value is a pixel."""

    def make(*files, colormap=None, dtype=np.uint8):
        paths = [
            save(tmp_path / f"{number}.png", np.array([values], dtype=dtype), colormap=colormap)
            for number, values in enumerate(files)
        ]
        return [read_facts(path) for path in paths]

    return make


def test_without_names_classes_are_called_by_their_number(label_facts):
    scheme = guess_classes(label_facts([1, 1, 4, 255], [1, 9]))
    assert scheme.names == ("class 1", "class 4", "class 9")
    assert scheme.index_of == {1: 0, 4: 1, 9: 2, 255: 255} == scheme.label_values
    assert scheme.colors is None and scheme.source == ""
    assert scheme.pixels == {1: 3, 4: 1, 9: 1, 255: 1} and scheme.files[1] == 2


def test_files_that_hold_class_indices_need_no_label_values(label_facts):
    assert guess_classes(label_facts([0, 1, 2, 255])).label_values is None
    assert guess_classes(label_facts([0, 1, 2])).label_values is None


@pytest.mark.parametrize("values, names, index_of", [
    ([0, 2], "abc", {0: 0, 1: 1, 2: 2}),  # from 0; one does not occur
    ([1, 3, 255], "abc", {0: 255, 1: 0, 2: 1, 3: 2}),  # from 1
    ([0, 1, 3], "abc", {0: 255, 1: 0, 2: 1, 3: 2}),
    ([10, 20, 90], "abc", {10: 0, 20: 1, 90: 2}),  # one for each that occurs
    ([0, 10, 20], "ab", {0: 255, 10: 0, 20: 1}),
])  # fmt: skip
def test_names_that_are_given_are_taken_in_the_order_of_the_numbers(label_facts, values, names, index_of):
    scheme = guess_classes(label_facts(values), list(names), "--classes")
    assert scheme.names == tuple(names) and scheme.index_of == index_of and scheme.source == "--classes"


def test_a_number_that_one_of_several_files_has_gets_none_of_the_names(label_facts):
    files = [[0, 1, 2]] * 4
    assert guess_classes(label_facts(*files, [0, 40]), ["a", "b", "c"]).index_of == {0: 0, 1: 1, 2: 2}
    assert guess_classes(label_facts([0, 10], [0, 20], [0, 10], [0, 20]), ["a", "b"]).index_of == {0: 255, 10: 0, 20: 1}


def test_names_that_do_not_fit_the_numbers(label_facts):
    with pytest.raises(
        VocabularyError, match=r"2 class names \(a, b\), but the label files hold the values 0, 5, 6, 7;"
    ):
        guess_classes(label_facts([0, 5, 6, 7]), ["a", "b"])


def test_a_published_palette_names_the_classes(label_facts):
    scheme = guess_classes(label_facts([0, 4, 8], colormap=dict(enumerate(OEM_PALETTE))))
    assert scheme.names[3] == "road" and scheme.names[7] == "building" and len(scheme.names) == 8
    assert scheme.index_of == {0: 255, **{value: value - 1 for value in range(1, 9)}}
    assert scheme.source == "the palette, which is openearthmap's"


def test_another_palette_gives_its_colours_only(label_facts):
    palette = {0: (9, 9, 9), 1: (200, 0, 0), 2: (0, 0, 200)}
    scheme = guess_classes(label_facts([0, 1, 2], colormap=palette))
    assert scheme.names == ("class 0", "class 1", "class 2")
    assert scheme.colors == [(9, 9, 9), (200, 0, 0), (0, 0, 200)]
    gray = guess_classes(label_facts([0, 1, 2], colormap={value: (value,) * 3 for value in range(256)}))
    assert gray.colors is None


def test_names_that_gdal_keeps_beside_a_file(label_facts, tmp_path):
    label_facts([0, 1, 2])
    names = "".join(f"<Category>{name}</Category>" for name in ("Unlabelled", "river, lake", "burnt forest"))
    (tmp_path / "0.png.aux.xml").write_text(
        f"<PAMDataset><PAMRasterBand band='1'><CategoryNames>{names}</CategoryNames></PAMRasterBand></PAMDataset>"
    )
    scheme = guess_classes([read_facts(tmp_path / "0.png")])
    assert scheme.names == ("river, lake", "burnt forest")
    assert scheme.index_of == {0: 255, 1: 0, 2: 1}
    assert scheme.source == "the category names in .aux.xml"


def test_files_without_class_numbers(tmp_path):
    facts = [
        read_facts(save(tmp_path / "fractions.tif", np.array([[0.5, 1.0]], np.float32))),
        read_facts(save(tmp_path / "colours.png", np.ones((3, 2, 2), np.uint8))),
        read_facts(tmp_path / "nowhere.png"),
    ]
    assert guess_classes(facts) is None
