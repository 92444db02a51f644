import os

import matplotlib.figure
import numpy as np
import pytest
import rasterio
from PIL import Image

from mm_ovseg.errors import DataError
from mm_ovseg.files import check_outputs, check_writable_folder, complete_file, remove_leftovers


def test_the_file_appears_when_the_block_ends_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "folder" / "report.json"
    with complete_file(str(path)) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent and not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a defect")])
def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "report.json"
    path.write_text("old")
    expected = DataError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), complete_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_message_says_what_why_and_what_to_do(tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(DataError) as caught, complete_file(path):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == f"{path} cannot be written (No space left on device); choose another place for it."


def test_the_reason_of_rasterio_is_what_it_was_caused_by(tmp_path):
    with pytest.raises(DataError, match=r"\(disk quota exceeded\)"), complete_file(tmp_path / "map.tif"):
        raise rasterio.errors.RasterioIOError("Write failed. See previous exception for details.") from RuntimeError(
            "disk quota\nexceeded"
        )
    with (
        pytest.raises(DataError, match=r"a\.tif cannot be written"),
        complete_file(tmp_path / "a.tif") as temporary,
        rasterio.open(temporary / "below", "w", driver="GTiff", width=1, height=1, count=1, dtype="uint8"),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("inside", ["map.png", "deeper/map.png", "deeper/still/map.png"])
def test_a_folder_that_is_a_file_is_a_data_error(tmp_path, inside):
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / inside
    reason = "file is a file, not a folder" if inside == "map.png" else "Not a directory"
    with pytest.raises(DataError, match=rf"{path} cannot be written \(.*{reason}\)"), complete_file(path):
        pytest.fail("there is nowhere to write to")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_path_that_is_a_folder_or_too_long_is_a_data_error(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match=f"{path.name} cannot be written"), complete_file(path) as temporary:
            temporary.write_text("content")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_closed_folder_is_a_data_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(DataError, match="Permission denied"), complete_file(tmp_path / "closed" / "a") as temporary:
        temporary.write_text("content")


def test_libraries_that_go_by_the_suffix_write_the_right_format(tmp_path):
    with complete_file(tmp_path / "image.png") as temporary:
        Image.new("L", (3, 2)).save(temporary)
    with complete_file(tmp_path / "figure.pdf") as temporary:
        matplotlib.figure.Figure().savefig(temporary)
    with complete_file(tmp_path / "map.tif") as temporary:
        profile = {"width": 3, "height": 2, "count": 1, "dtype": "uint8"}
        with rasterio.open(temporary, "w", **profile) as file:
            file.write(np.ones((1, 2, 3), np.uint8))
    starts = {"image.png": b"\x89PNG", "figure.pdf": b"%PDF", "map.tif": b"II*\x00"}
    assert {path.name: path.read_bytes()[:4] for path in tmp_path.iterdir()} == starts


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    with complete_file(tmp_path / "model_0000001.pth") as temporary:
        temporary.write_text("")
        left = temporary.name
    others = [".hidden.tmp", "map.12.tmp.tif", "model.pth"]
    for name in (left, ".last_checkpoint.12.tmp", *others):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "model_0000001.pth"])


def test_long_names_of_files_are_written_or_refused_before_any_work(tmp_path):
    longest = tmp_path / ("水" * 83 + ".json")  # 254 bytes
    check_outputs({"--output": [longest]}, {})
    with complete_file(longest) as temporary:
        temporary.write_text("{}")
    assert longest.read_text() == "{}"
    with pytest.raises(DataError, match="has a name of 257 bytes, more than the 255 .* choose a shorter --output"):
        check_outputs({"--output": [tmp_path / ("水" * 84 + ".json")]}, {})


def test_calls_at_the_same_time_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "map.tif"
    with complete_file(path) as first, complete_file(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]  # the outer block ends last


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    path, events = tmp_path / "report.json", []
    flush, replace = os.fsync, os.replace
    inodes = {}

    def fsync(descriptor):
        events.append(inodes.get(os.fstat(descriptor).st_ino))
        flush(descriptor)

    def rename(source, target):
        events.append("renamed")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    with complete_file(path) as temporary:
        temporary.write_text("whole")
        inodes.update({temporary.stat().st_ino: "file", tmp_path.stat().st_ino: "folder"})
    assert events == ["file", "renamed", "folder"]


def test_a_folder_whose_name_is_not_text_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="is not text in this locale"):
        check_writable_folder(tmp_path / "d\udcc3\udca9")
