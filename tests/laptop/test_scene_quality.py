"""projects/laptop/scene_quality.py."""

import numpy as np
import pytest
import rasterio

import scene_quality
from scene_quality import seam_ratio


def cells(printed):
    """The tables that were printed: lists of rows of cells."""
    tables, rows = [], []
    for line in [*printed.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            tables.append(rows)
            rows = []
    return tables


def class_map(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_classes_that_change_at_seams_are_told_from_those_that_change_anywhere():
    windows = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((6, 6), int))[None]  # a class per window of 6
    assert seam_ratio(windows, 6, 0) == np.inf
    assert seam_ratio(windows, 8, 2) == pytest.approx(0, abs=0.01)  # its seams are within windows of 6
    everywhere = (np.indices((24, 24)).sum(0) % 2)[None]
    assert seam_ratio(everywhere, 6, 0) == 1
    assert np.isnan(seam_ratio(everywhere, 24, 12))


def test_both_tables(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(scene_quality, "OVERLAPS", (0.5, 0.0))
    monkeypatch.setattr(scene_quality, "WINDOW_SCALES", (0.75,))
    arguments = ["--output", str(tmp_path), "--scenes", "1", "--size", "256"]
    scene_quality.main([*arguments, "--opts", "INPUT.CROP.SIZE", "(192, 192)"])
    overlaps, dtypes = cells(capsys.readouterr().out)
    print(overlaps, dtypes)
