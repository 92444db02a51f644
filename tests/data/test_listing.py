"""Datasets are listed once a run."""

import pytest
from detectron2.data import DatasetCatalog

from mm_ovseg.data.listing import listed_once
from mm_ovseg.errors import DataError


@pytest.fixture
def counted():
    """A registered dataset that counts how often it is listed."""
    calls = []

    def load():
        calls.append(None)
        return [{"file_name": "a.png", "image_id": "a"}]

    DatasetCatalog.register("counted", load)
    yield calls
    DatasetCatalog.remove("counted")


def test_a_dataset_is_listed_once_within_the_block_and_again_after_it(counted):
    with listed_once(["counted", "counted", "unknown"]):
        first = DatasetCatalog.get("counted")
        first[0]["image_id"] = "changed"
        assert DatasetCatalog.get("counted") == [{"file_name": "a.png", "image_id": "a"}]
        assert len(counted) == 1
    DatasetCatalog.get("counted")
    assert len(counted) == 2


def test_the_other_processes_take_what_the_main_one_has_listed(counted, monkeypatch):
    monkeypatch.setattr("mm_ovseg.data.listing.comm.is_main_process", lambda: False)
    monkeypatch.setattr("mm_ovseg.data.listing.comm.all_gather", lambda mine: [([{"file_name": "b.png"}], False), mine])
    with listed_once(["counted"]):
        assert DatasetCatalog.get("counted") == [{"file_name": "b.png"}]
    assert not counted


def test_a_machine_that_lacks_the_files_says_so(counted, monkeypatch):
    monkeypatch.setattr("mm_ovseg.data.listing.comm.is_main_process", lambda: False)
    monkeypatch.setattr("mm_ovseg.data.listing.comm.all_gather", lambda mine: [([{"file_name": "b.png"}], True), mine])
    with pytest.raises(DataError, match="This machine lacks dataset 'counted': b.png"), listed_once(["counted"]):
        pass


def test_what_cannot_be_listed_is_left_to_whoever_asks(request):
    def load():
        raise DataError("there is no folder")

    DatasetCatalog.register("broken", load)
    request.addfinalizer(lambda: DatasetCatalog.remove("broken"))
    with listed_once(["broken"]), pytest.raises(DataError, match="there is no folder"):
        DatasetCatalog.get("broken")
