"""projects/laptop/scene_quality.py."""

import numpy as np
import rasterio

import scene_quality
from mm_ovseg.inference import SceneOptions
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


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_classes_that_change_at_seams_are_told_from_those_that_change_anywhere():
    blocks = [(np.indices((24, 24)) + shift) // 3 for shift in (0, 1)]
    at_seams, elsewhere = (block.sum(axis=0)[None] % 2 for block in blocks)  # seams are after pixels 5, 11 and 17
    assert seam_ratio(at_seams, 7, 1) == 1 / (4 / 20)
    assert seam_ratio(elsewhere, 7, 1) == 0
    assert np.isnan(seam_ratio(at_seams, 24, 12))


def test_both_tables(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(scene_quality, "OVERLAPS", (0.5, 0.0))
    monkeypatch.setattr(scene_quality, "WINDOW_SCALES", (0.75,))
    arguments = ["--output", str(tmp_path), "--scenes", "1", "--size", "200"]
    scene_quality.main([*arguments, "--opts", "INPUT.CROP.SIZE", "(192, 192)"])
    overlaps, dtypes = cells(capsys.readouterr().out)

    truth = read(tmp_path / "1_scenes_of_200" / "val" / "labels" / "00000.tif")[0]
    reference, without = (
        read(tmp_path / f"window_192_overlap_{overlap}" / "clear" / "00000.tif")[0] for overlap in ("0.5", "0")
    )
    rows = {row[0]: dict(zip(overlaps[0], row, strict=True)) for row in overlaps[2:]}
    assert list(rows) == ["192, 0.5", "192, 0", f"144, {SceneOptions().overlap:g}"]
    assert [row["windows"] for row in rows.values()] == ["4", "4", "4"]
    assert rows["192, 0"]["reads per pixel"] == f"{4 * 192**2 / 200**2:.2f}"
    assert [rows["192, 0.5"][name] for name in ("time", "agreement, clear", "agreement, clouds")] == [
        "1.00",
        "100.00",
        "100.00",
    ]
    assert rows["192, 0"]["agreement, clear"] == f"{100 * (without == reference).mean():.2f}"
    shared = [
        ((truth == index) & (without == index)).sum() / ((truth == index) | (without == index)).sum()
        for index in np.unique(truth)
    ]
    assert rows["192, 0"]["mIoU, clear"] == f"{100 * np.mean(shared):.2f}"

    rows = {row[0]: dict(zip(dtypes[0], row, strict=True)) for row in dtypes[2:]}
    assert list(rows) == [
        f"{scenes}, {weather}" for scenes in ("drawn", "shipped pair") for weather in ("clear", "clouds")
    ]
    folders = [tmp_path / f"{dtype}_shipped_pair" / "clouds" for dtype in ("float32", "bfloat16")]
    differs = np.not_equal(*(read(folder / "00000.tif")[0] for folder in folders))
    scores = np.sort(read(folders[0] / "00000_probabilities.tif").astype(int), axis=0)  # (T, H, W)
    margins = (scores[-1] - scores[-2])[differs]
    row = rows["shipped pair, clouds"]
    assert 95 < float(row["agreement"]) < 100 and row["agreement"] == f"{100 - 100 * differs.mean():.3f}"
    assert row["largest margin among them"] == str(margins.max())
    assert row["near-ties among those that differ"] == f"{100 * (margins <= 1).mean():.1f}"
