import numpy as np
import pytest
import rasterio

from mm_ovseg.data.check.contents import read_contents
from mm_ovseg.data.check.label_meaning import guess_classes
from mm_ovseg.data.tile.label_values import parse_legend
from mm_ovseg.errors import DataError, VocabularyError
from tests.data.check.folders import OEM_PALETTE, save


@pytest.fixture
def label_facts(tmp_path):
    """A function ``(values of a file, ...) -> facts of label files``; a value is a pixel."""

    def make(*files, colormap=None, dtype=np.uint8):
        paths = [
            save(tmp_path / f"{number}.png", np.array([values], dtype=dtype), colormap=colormap)
            for number, values in enumerate(files)
        ]
        return [read_contents(path) for path in paths]

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
    ([0, 1, 2], "abc", {0: 0, 1: 1, 2: 2}),
    ([0, 2], "abc", {0: 0, 1: 1, 2: 2}),  # one does not occur
    ([0, 1, 2, 255], "abc", {0: 0, 1: 1, 2: 2, 255: 255}),
    ([1, 2, 3], "abc", {1: 0, 2: 1, 3: 2}),  # there is no 0 to be one of them
    ([1, 2, 3, 255], "abc", {1: 0, 2: 1, 3: 2, 255: 255}),
])  # fmt: skip
def test_names_that_are_given_are_taken_in_the_order_of_the_numbers(label_facts, values, names, index_of):
    scheme = guess_classes(label_facts(values), list(names), "--classes")
    assert scheme.names == tuple(names) and scheme.index_of == index_of and scheme.source == "--classes"


@pytest.mark.parametrize("number, dtype", [
    (-1, np.int16), (-9999, np.int16), (-128, np.int8), (127, np.int8), (65535, np.uint16), (32767, np.int16),
    (-32768, np.int16), (2**31 - 1, np.int32), (-1, np.float32), (-9999, np.float64),
])  # fmt: skip
def test_negative_numbers_and_the_largest_of_a_type_are_no_classes(tmp_path, number, dtype):
    facts = [read_contents(save(tmp_path / "0.tif", np.array([[number, 0, 1, 2]], dtype)))]
    scheme = guess_classes(facts, ["a", "b", "c"])
    assert scheme.index_of == {number: 255, 0: 0, 1: 1, 2: 2} == scheme.label_values
    unnamed = guess_classes(facts)
    assert unnamed.names == ("class 0", "class 1", "class 2") and unnamed.index_of == scheme.index_of


@pytest.mark.parametrize("values, names, line", [
    ([0, 1, 2, 3], "abc", "0: ignore, 1: a, 2: b, 3: c"),  # 0 may be the first class, or no label
    ([0, 1, 3], "abc", "0: a, 1: b, 3: c"),
    ([1, 2], "abc", "1: ?, 2: ?"),
    ([10, 20, 90], "abc", "10: a, 20: b, 90: c"),
    ([0, 10, 20], "ab", "0: ignore, 10: a, 20: b"),
    ([0, 1, 255], "abc", "0: ?, 1: ?, 255: ignore"),  # 255 may be the third
    ([-1, 0, 1], "abc", "-1: ignore, 0: ?, 1: ?"),
    ([0, 1, 2, 300], "abc", "0: a, 1: b, 2: c, 300: ?"),
    ([0, 255], "ab", "0: a, 255: b"),
    ([0, 255], "a", "0: ?, 255: ?"),
    ([0, 255], "", "0: ?, 255: ?"),
    ([0, 65535], "ab", "0: a, 65535: b"),
    ([-1, 255], "", "-1: ?, 255: ?"),
])  # fmt: skip
def test_where_numbers_leave_a_choice_they_are_listed_with_the_line_to_write(tmp_path, values, names, line):
    dtype = np.int16 if min(values) < 0 else np.uint16
    facts = [read_contents(save(tmp_path / "0.tif", np.array([values], dtype)))]
    with pytest.raises(VocabularyError) as caught:
        guess_classes(facts, list(names))
    message = str(caught.value)
    assert f'give the meaning of each with --label-values "{line}"' in message
    assert f"hold the values {', '.join(map(str, sorted(values)))};" in message
    assert f"{values[0]} has {100 / len(values):.2g}% of the pixels, in 1 of 1 files" in message


def test_synonyms_in_the_line_to_write_are_not_taken_for_classes(label_facts):
    facts = label_facts([7, 9])
    with pytest.raises(VocabularyError, match=r"--label-values \"7: river, lake; 9: road\"") as caught:
        guess_classes(facts, ["river, lake", "road"])
    line = str(caught.value).split('"')[1]
    legend = parse_legend(line, ["river, lake", "road"], source="--label-values")
    assert guess_classes(facts, legend=legend).index_of == {7: 0, 9: 1}


def test_a_number_that_one_of_several_files_has_gets_none_of_the_names(label_facts, tmp_path):
    files = [[0, 1, 2]] * 4
    assert guess_classes(label_facts(*files, [0, 40]), ["a", "b", "c"]).index_of == {0: 0, 1: 1, 2: 2}
    with pytest.raises(VocabularyError, match=r"3 has 7\.1% of the pixels, only in \S+4\.png"):
        guess_classes(label_facts(*files, [0, 3]), ["a", "b", "c"])  # which 0 may be no label of


def test_names_that_do_not_fit_the_numbers(label_facts):
    with pytest.raises(
        VocabularyError, match=r"2 class names \(a, b\), but the label files hold the values 0, 5, 6, 7;"
    ):
        guess_classes(label_facts([0, 5, 6, 7]), ["a", "b"])


def test_what_a_file_masks_has_no_part_in_it(tmp_path):
    label = np.array([[0, 1, 2, 3]], np.uint8)
    for name, options in (("nodata", {"nodata": 0}), ("plain", {})):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", width=4, height=1, count=1, dtype="uint8", **options
        ) as file:
            file.write(label, 1)
            if name == "plain":
                file.write_mask(label > 0)
    for name in ("nodata", "plain"):
        scheme = guess_classes([read_contents(tmp_path / f"{name}.tif")], ["a", "b", "c"])
        assert scheme.index_of == {1: 0, 2: 1, 3: 2} and 0 not in scheme.pixels
        assert guess_classes([read_contents(tmp_path / f"{name}.tif")]).names == ("class 1", "class 2", "class 3")


def test_no_data_in_one_file_and_a_number_in_another_is_not_decided(label_facts, tmp_path):
    (plain,) = label_facts([0, 1, 2])
    with rasterio.open(
        tmp_path / "nodata.tif", "w", driver="GTiff", width=3, height=1, count=1, dtype="uint8", nodata=0
    ) as file:
        file.write(np.array([[0, 1, 2]], np.uint8), 1)
    for names in (["a", "b", "c"], []):
        with pytest.raises(VocabularyError, match="0 has 20% of the pixels, in 1 of 2 files, declared as nodata in"):
            guess_classes([plain, read_contents(tmp_path / "nodata.tif")], names)


def write_jpeg(path, label):
    with rasterio.open(
        path, "w", driver="JPEG", width=label.shape[1], height=label.shape[0], count=1, dtype="uint8", quality=95
    ) as file:
        file.write(label, 1)
    return read_contents(path)


def blocks(numbers, size=144, seed=0):
    """Rectangles of some numbers."""
    generator = np.random.default_rng(seed)
    return np.kron(generator.choice(numbers, (size // 12, size // 12)), np.ones((12, 12), int)).astype(np.uint8)


def test_the_rounding_of_jpeg_shifts_no_class(tmp_path):
    for first in (0, 1):
        numbers = range(first, first + 5)
        label = blocks(numbers)
        facts = write_jpeg(tmp_path / f"{first}.jpg", label)
        strangers = set(facts.values) - set(numbers)
        assert facts.is_lossy and strangers
        scheme = guess_classes([facts], list("abcde"))
        assert scheme.index_of == {n: i for i, n in enumerate(numbers)} | dict.fromkeys(strangers, 255)


def test_much_rounding_of_jpeg_is_refused(tmp_path):
    facts = write_jpeg(tmp_path / "a.jpg", blocks([0, 40, 80]))
    assert len(facts.values) > 3
    for names in ("abc", "abcde"):
        with pytest.raises(VocabularyError, match="give the meaning of each"):
            guess_classes([facts], list(names))


def test_a_legend_says_what_numbers_mean(label_facts):
    legend = parse_legend("0: land, 255: water, 7: ignore, 010: land", source="--label-values")
    scheme = guess_classes(label_facts([0, 255, 7]), source="--label-values", legend=legend)
    assert scheme.names == ("land", "water") and scheme.source == "--label-values"
    assert scheme.index_of == scheme.label_values == {0: 0, 7: 255, 10: 0, 255: 1}
    with pytest.raises(
        VocabularyError, match=r'does not have 8, 9, but .* "0: land, 7: ignore, 8: \?, 9: \?, 10: land,'
    ):
        guess_classes(label_facts([0, 8, 9]), legend=legend)
    with pytest.raises(DataError, match=r"--label-values has the value 'x'; .* integers"):
        guess_classes(label_facts([0]), legend=parse_legend("x: land", source="--label-values"))


def test_a_published_palette_names_the_classes(label_facts):
    scheme = guess_classes(label_facts([0, 4, 8], colormap=dict(enumerate(OEM_PALETTE))))
    assert scheme.names[3] == "road" and scheme.names[7] == "building" and len(scheme.names) == 8
    assert scheme.index_of == {0: 255, **{value: value - 1 for value in range(1, 9)}}
    assert scheme.source == "the palette, which is that of openearthmap"


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
    scheme = guess_classes([read_contents(tmp_path / "0.png")])
    assert scheme.names == ("river, lake", "burnt forest")
    assert scheme.index_of == {0: 255, 1: 0, 2: 1}
    assert scheme.source == "the category names in .aux.xml"


def test_names_that_are_given_go_by_those_in_the_files(label_facts, tmp_path):
    label_facts([0, 1, 2, 3])
    names = "".join(f"<Category>{name}</Category>" for name in ("void", "Water", "road", "city"))
    (tmp_path / "0.png.aux.xml").write_text(
        f"<PAMDataset><PAMRasterBand band='1'><CategoryNames>{names}</CategoryNames></PAMRasterBand></PAMDataset>"
    )
    facts = [read_contents(tmp_path / "0.png")]
    assert guess_classes(facts, ["city", "water", "road"]).index_of == {0: 255, 1: 1, 2: 2, 3: 0}
    with pytest.raises(VocabularyError, match=r'"0: ignore, 1: water, 2: road, 3: \?"'):
        guess_classes(facts, ["water", "road"])
    renamed = guess_classes(facts, ["none at all", "lake", "street", "town"])
    assert renamed.index_of == {0: 0, 1: 1, 2: 2, 3: 3}


def test_numbers_that_a_category_table_does_not_name(tmp_path):
    path = save(tmp_path / "0.tif", np.array([[-1, 0, 1, 2]], np.int16))
    names = "<Category>water</Category><Category>road</Category>"
    path.with_name("0.tif.aux.xml").write_text(
        f"<PAMDataset><PAMRasterBand band='1'><CategoryNames>{names}</CategoryNames></PAMRasterBand></PAMDataset>"
    )
    scheme = guess_classes([read_contents(path)])
    assert scheme.names == ("water", "road", "class 2") and scheme.index_of == {-1: 255, 0: 0, 1: 1, 2: 2}


def test_files_without_class_numbers(tmp_path):
    facts = [
        read_contents(save(tmp_path / "fractions.tif", np.array([[0.5, 1.0]], np.float32))),
        read_contents(save(tmp_path / "colours.png", np.ones((3, 2, 2), np.uint8))),
        read_contents(tmp_path / "nowhere.png"),
    ]
    assert guess_classes(facts) is None
