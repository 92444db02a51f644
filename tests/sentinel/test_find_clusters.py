"""projects/sentinel/find_clusters.py on a tile of each scene."""

import json
import shutil

import numpy as np
import pytest

import find_clusters
from mm_ovseg.raster import read_rgb
from sentinel.labels import GROUPS
from sentinel.pairs import write_pairs


@pytest.fixture(scope="module")
def pairs(realtrain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(realtrain, folder)
    return folder


def test_clusters_are_written_and_drawn_to_be_named(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(find_clusters, "PER_ROW", 2)
    find_clusters.main(["--pairs", str(pairs), "--output", str(tmp_path)])
    clusters = json.loads((tmp_path / "clusters.json").read_text())
    assert list(clusters) == list(GROUPS)
    for group, (count, _) in GROUPS.items():
        assert np.shape(clusters[group]["centres"]) == (count, 10) and np.isfinite(clusters[group]["centres"]).all()
        assert clusters[group]["names"] == [None] * count
        picture, _ = read_rgb(tmp_path / f"{group}.tif")
        assert picture.shape == (count * 64, 2 * 64, 3)
        for half in (picture[:64, :64], picture[:64, 64:]):  # the same place in RGB and in SAR
            assert (half[28, 28:37] == (255, 0, 0)).all() and (half[32, 29:36] != (255, 0, 0)).any()
    assert str(tmp_path / "clusters.json") in capsys.readouterr().out


def test_bad_input(pairs, tmp_path, error_of):
    def error(folder):
        return error_of(find_clusters.main, "--pairs", folder, "--output", tmp_path / "output")

    assert "has no tiles of farmland; run projects/sentinel/prepare.py first" in error(tmp_path / "missing")
    some = shutil.copytree(pairs, tmp_path / "some")
    for path in some.glob("*/*/sanantonio_*"):
        path.unlink()
    assert "has no tiles of texas" in error(some)
    assert not (tmp_path / "output").exists()
    (tmp_path / "output").mkdir()
    (tmp_path / "output/clusters.json").write_text("named by hand")
    assert "clusters.json exists, and may hold names; choose another folder" in error(pairs)
    assert (tmp_path / "output/clusters.json").read_text() == "named by hand"
