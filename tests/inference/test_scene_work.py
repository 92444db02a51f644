import json

import numpy as np
import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.inference.scene_work import SceneWork

LAYERS = {"class": 1, "probabilities": 3}
SETTINGS = {"window": 64, "files": [["a.tif", 5, 7]]}


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    return {name: generator.integers(0, 255, (bands, 20, 7), dtype=np.uint8) for name, bands in LAYERS.items()}


def part(rows, start, end):
    return {name: values[:, start:end] for name, values in rows.items()}


def open_work(tmp_path, *, resume=False, settings=SETTINGS):
    return SceneWork(tmp_path / "map.tif", layers=LAYERS, width=7, height=20, settings=settings, resume=resume)


def finished_layers(work):
    return {name: np.concatenate(list(work.parts(name)), axis=1) for name in LAYERS}


def test_rows_written_in_parts_are_the_layers(rows, tmp_path):
    work = open_work(tmp_path)
    for start, end in ((0, 6), (6, 7), (7, 20)):
        work.append(part(rows, start, end))
    layers = finished_layers(work)
    assert all(np.array_equal(layers[name], rows[name]) for name in LAYERS)
    work.close(finished=True)
    assert not work.folder.exists()


def test_rows_after_the_last_that_were_counted_are_made_again(rows, tmp_path):
    work = open_work(tmp_path)
    work.append(part(rows, 0, 6))
    work.close(finished=False)
    with open(work.folder / "class.raw", "ab") as file:  # killed between writing rows and counting them
        file.write(b"xxxxxxxxxx")
    work = open_work(tmp_path, resume=True)
    assert work.rows_done == 6
    work.append(part(rows, 6, 20))
    layers = finished_layers(work)
    assert all(np.array_equal(layers[name], rows[name]) for name in LAYERS)


def test_without_resume_it_begins_anew_and_says_so(rows, tmp_path, caplog):
    work = open_work(tmp_path)
    work.append(part(rows, 0, 6))
    work.close(finished=False)
    open_work(tmp_path, resume=True).close(finished=False)
    assert not caplog.records  # nothing was discarded yet
    work = open_work(tmp_path)
    assert work.rows_done == 0 and (work.folder / "class.raw").stat().st_size == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{work.folder} is discarded" in caplog.text and "--resume" in caplog.text


def test_another_map_is_not_gone_on_with(rows, tmp_path):
    open_work(tmp_path).close(finished=False)
    with pytest.raises(DataError, match=r"another map: files, window differ"):
        open_work(tmp_path, resume=True, settings={"window": 32, "files": [["a.tif", 6, 7]]})


def test_damaged_work_is_named(rows, tmp_path):
    work = open_work(tmp_path)
    work.append(part(rows, 0, 6))
    work.close(finished=False)
    (work.folder / "class.raw").write_bytes(b"")
    with pytest.raises(DataError, match="lacks finished rows"):
        open_work(tmp_path, resume=True)
    (work.folder / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"damaged.*without --resume"):
        open_work(tmp_path, resume=True)


def test_a_full_disk_keeps_what_was_done(rows, tmp_path, monkeypatch):
    work = open_work(tmp_path)
    work.append(part(rows, 0, 6))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(DataError, match=r"No space left.*--resume"):
            work.append(part(rows, 6, 12))
    work.close(finished=False)
    assert json.loads((work.folder / "state.json").read_text())["rows_done"] == 6
    assert open_work(tmp_path, resume=True).rows_done == 6
