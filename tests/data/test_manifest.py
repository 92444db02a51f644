import logging
from pathlib import Path

import pytest

from mm_ovseg.data.manifest import SceneFiles, read_manifest
from mm_ovseg.errors import DataError
from mm_ovseg.inference.archive import read_archive


def manifest(folder, text, encoding="utf-8"):
    path = folder / "pairs.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_every_column_and_its_default(tmp_path, caplog):
    text = (
        "\ufeffRGB, sar ,name,aoi,date,clouds\r\n"
        "a/one.tif,s/one.tif,,,2020,\r\n"
        ",,,,,\r\n"
        '"B04.jp2; B03.jp2;B02.jp2",,"Zürich, south",area.geojson,,SCL.jp2\r\n'
        "/data/three.v2.tif,vv.tif;vh.tif,,,,\r\n"
        ",four/vv.tif;four/vh.tif,,,,\r\n"
    )
    with caplog.at_level(logging.INFO, logger="mm_ovseg"):
        scenes = read_archive(manifest(tmp_path, text))
    assert scenes == [
        SceneFiles("one", (tmp_path / "a/one.tif",), (tmp_path / "s/one.tif",)),
        SceneFiles(
            "Zürich, south",
            (tmp_path / "B04.jp2", tmp_path / "B03.jp2", tmp_path / "B02.jp2"),
            (),
            area=tmp_path / "area.geojson",
            clouds=tmp_path / "SCL.jp2",
        ),
        SceneFiles("three.v2", (Path("/data/three.v2.tif"),), (tmp_path / "vv.tif", tmp_path / "vh.tif")),
        SceneFiles("vv", (), (tmp_path / "four/vv.tif", tmp_path / "four/vh.tif")),
    ]
    assert "pairs.csv: date." in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; its first line must name the columns: rgb, sar"),
        ("\n , \n", "is empty"),
        ("rgb,sar\n", "lists no scene"),
        ("rgb;sar\na.tif;b.tif\n", "no column 'rgb'; its first line is 'rgb;sar'"),
        ("rgb\na.tif\n", "no column 'sar'"),
        ("rgb,sar,RGB\na,b,c\n", "two columns 'rgb'"),
        ("rgb,sar\na.tif,b.tif\nc.tif\n", "line 3: there are 1 values for 2 columns"),
        ("rgb,sar\na,b.tif,c.tif\n", "line 2: there are 3 values"),
        ("rgb,sar\n;,\n", "line 2: the columns 'rgb' and 'sar' are empty"),
        ("rgb,sar\nx/a.tif,\n\ny/A.tif,\n", "lines 2 and 4: both scenes are named 'A'"),
        ("rgb,sar,name\na.tif,,x\nb.tif,,x_coverage\n", "lines 2 and 3: 'x_coverage' is also the name of a file"),
        ('rgb,sar\n"a.tif,b.tif\n', "is not a CSV file"),
        ("rgb,sar\n\xe9.tif,\n", "is not UTF-8; save it as UTF-8"),
    ],
)
def test_a_faulty_manifest_is_one_sentence(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_archive(manifest(tmp_path, text, encoding="latin-1"))


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", ".hidden", "..", "=1+1", "-x", "@x", "a\x01b", "é" * 101])
def test_a_name_that_could_leave_the_folder_or_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"line 2: the name '.*give another in the column 'name'"):
        read_archive(manifest(tmp_path, f"rgb,sar,name\na.tif,,{name}\n"))


def test_a_missing_manifest_and_a_file_without_a_name(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_archive(tmp_path / "none.csv")
    with pytest.raises(DataError, match="line 2: the name ''"):
        read_archive(manifest(tmp_path, "rgb,sar\n/,\n"))


def test_scenes_with_labels(tmp_path):
    path = manifest(tmp_path, "rgb,sar,labels\nr.tif;g.tif;b.tif,s.tif,use.gpkg\n")
    rgb = tuple(tmp_path / f"{name}.tif" for name in "rgb")
    required = ("rgb", "sar", "labels")
    assert read_manifest(path, required=required) == [
        SceneFiles("r", rgb, (tmp_path / "s.tif",), labels=tmp_path / "use.gpkg")
    ]
    with pytest.raises(DataError, match="no column 'labels'"):
        read_manifest(manifest(tmp_path, "rgb,sar\na.tif,b.tif\n"), required=required)
    with pytest.raises(DataError, match="line 2: the column 'sar' is empty"):
        read_manifest(manifest(tmp_path, "rgb,sar,labels\na.tif,;,c.tif\n"), required=required)
