"""datasets/prepare_spacenet6.py on archives as they are published, but small."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from detectron2.data import DatasetCatalog

from mm_ovseg.data import build_dataset_mapper
from tests.conftest import ROOT
from tests.datasets.conftest import contents, noise, without_journals, write_tile
from tests.patience import PATIENCE

SCRIPT = "prepare_spacenet6"
STRIPS = ("20190804111224_20190804111453", "20190822070610_20190822070846")
TILE = 24  # pixels, 12 metres
CORNER = (600_000.0, 5_748_000.0)
AOI = "train/AOI_11_Rotterdam"
REAL = Path(__file__).resolve().parents[3] / "shared" / "realdata" / "sn6_solaris"
SMALL = ("--size", 12, "--block", 12, "--val-fraction", 0.4)


def decibels(seed, size=TILE):
    return np.random.default_rng(seed).uniform(10, 60, (size, size, 4)).astype(np.float32)


def paths_of(folder, strip, number):
    name = "SN6_Train_AOI_11_Rotterdam_{}_" + f"{strip}_tile_{number}.tif"
    return [folder / kind / name.format(kind) for kind in ("PS-RGB", "SAR-Intensity")]


def write_pair(folder, strip=STRIPS[0], number=0, rgb=None, sar=None, place=(0, 0), **profile):
    """Write a tile, at (row, column) of a grid of tiles; noise where nothing is given."""
    rgb_path, sar_path = paths_of(folder, strip, number)
    corner = (CORNER[0] + 12 * place[1], CORNER[1] - 12 * place[0])
    write_tile(rgb_path, noise(TILE, TILE, 3, number) if rgb is None else rgb, corner, **profile)
    write_tile(sar_path, decibels(number) if sar is None else sar, corner)
    return rgb_path, sar_path


@pytest.fixture
def folder(tmp_path):
    """Two strips over the same 3 x 3 tiles, as unpacked; their numbers differ."""
    folder = tmp_path / AOI
    for strip_index, strip in enumerate(STRIPS):
        for index in range(9):
            write_pair(folder, strip, 100 * strip_index + index, place=divmod(index, 3))
    (folder / "geojson_buildings").mkdir()
    (folder / "geojson_buildings" / "SN6_Train_AOI_11_Rotterdam_Buildings.geojson").write_text("{}")
    return folder


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / "SN6_buildings_AOI_11_Rotterdam_train.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, arcname=AOI)
    return path


def manifest_of(root):
    return json.loads((root / "CMU" / "manifest_sn6.json").read_text())


def test_the_archive_as_downloaded_becomes_a_dataset_that_trains(archive, root, cfg):
    command = [sys.executable, ROOT / "datasets" / f"{SCRIPT}.py", archive, "--workers", "2", *map(str, SMALL)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    manifest = manifest_of(root)
    counts = manifest["counts"]
    assert counts["tiles"] == 18 and counts["skipped"] == {}
    assert sum(counts["pairs"].values()) == 18 * 4 and min(counts["pairs"].values()) > 0
    assert ["|", "val", "pairs", "|", str(counts["pairs"]["val"]), "|"] in map(str.split, done.stdout.splitlines())

    samples = {split: DatasetCatalog.get(f"cmu_pairs_{split}") for split in ("train", "val")}
    assert {split: len(found) for split, found in samples.items()} == counts["pairs"]
    item = build_dataset_mapper(cfg, True)(samples["train"][0])
    assert item["image"].shape == item["sar_image"].shape == (3, 12, 12)
    assert item["image_valid"].all() and item["sar_valid"].all() and item["sar_image"].std() > 40
    # The same ground lies in one split, whichever strip shows it.
    places = {
        split: {tuple(np.round(rasterio.open(sample["file_name"]).bounds, 3)) for sample in found}
        for split, found in samples.items()
    }
    assert not places["train"] & places["val"]
    assert sum(map(len, places.values())) == 9 * 4


def test_pixels_by_hand(tmp_path, root, prepare):
    rgb, sar = noise(TILE, TILE, 3, 0), decibels(0)
    rgb[0, :2] = [[0, 0, 0], [0, 0, 7]]  # no data, and a dark pixel
    sar[0, :6, 0] = [0, 5, 10, 20, 70, np.nan]  # HH
    sar[1, 0, 2] = 0  # VH, which is not taken
    write_pair(tmp_path, rgb=rgb, sar=sar)
    prepare(SCRIPT, tmp_path, "--size", 0, "--sar-range", 10, 60, "--polarisations", "HH", "VV")
    name = f"train/{{}}/sn6_{STRIPS[0]}_tile_0.tif"
    with rasterio.open(root / "CMU" / name.format("rgb")) as file:
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), rgb)
        assert file.read_masks(1)[0, :3].tolist() == [0, 255, 255] and file.read_masks(1)[1:].all()
        assert file.crs == "EPSG:32631" and (file.bounds.left, file.bounds.top) == CORNER and file.res == (0.5, 0.5)
    with rasterio.open(root / "CMU" / name.format("sar")) as file:
        assert file.count == 2 and file.dtypes == ("uint8", "uint8")
        written, valid = file.read(), file.read_masks(1) > 0
    assert written[0, 0, :6].tolist() == [0, 0, 0, 51, 255, 0]  # (20 - 10) / 50 * 255 = 51
    assert valid[0, :6].tolist() == [False, True, True, True, True, False] and valid[1:].all()
    expected = np.rint((sar[1:, :, [0, 3]] - 10) * 5.1)
    np.testing.assert_allclose(written[:, 1:].transpose(1, 2, 0), expected, atol=1)  # atol: halves, in float32
    assert (written[:, 1:].transpose(1, 2, 0) == expected).mean() > 0.99


def test_a_window_has_the_numbers_and_the_place_of_the_whole_tile(folder, root, prepare):
    prepare(SCRIPT, folder, "--sar-range", 10, 60, "--val-fraction", 0, "--size", 16)
    prepare(SCRIPT, folder, "--sar-range", 10, 60, "--val-fraction", 0, "--size", 0, "--output", root / "whole")
    name = f"sn6_{STRIPS[1]}_tile_104"
    for kind in ("rgb", "sar"):
        with (
            rasterio.open(root / "whole" / "train" / kind / f"{name}.tif") as whole,
            rasterio.open(root / "CMU" / "train" / kind / f"{name}_r0008_c0000.tif") as window,
        ):
            np.testing.assert_array_equal(window.read(), whole.read()[:, 8:, :16])
            assert window.bounds.left == whole.bounds.left and window.bounds.top == whole.bounds.top - 4


def test_the_range_of_the_archive_is_measured_once(folder, root, prepare):
    printed = prepare(SCRIPT, folder, *SMALL).out
    assert "SAR (db): 10 to 60 dB became 0 to 255." in printed
    # Another tile, far brighter, changes nothing about the rest.
    before = contents(root / "CMU" / "train")
    write_pair(folder, number=77, sar=decibels(7) + 40, place=(9, 9))
    assert "10 to 60 dB" in prepare(SCRIPT, folder, *SMALL).out
    after = contents(root / "CMU" / "train")
    assert before.items() <= after.items()
    assert prepare(SCRIPT, folder, *SMALL, "--sar-range", 30, 40, "--output", root / "b").out.count("warning: ") == 1


def test_the_result_hangs_neither_on_workers_nor_on_packing(archive, folder, root, prepare):
    outputs = [root / name for name in "abc"]
    for output, source, workers in zip(outputs, (folder, folder, archive), (1, 2, 1), strict=True):
        prepare(SCRIPT, source, *SMALL, "--output", output, "--workers", workers)
    shutil.rmtree(outputs[2] / "sources")
    first, second, third = map(contents, outputs)
    assert len(first) == 18 * 4 * 2 + 2
    assert without_journals(first) == without_journals(second) == without_journals(third)


def test_the_manifest_names_every_file_with_its_hash(folder, root, prepare):
    prepare(SCRIPT, folder, *SMALL)
    manifest, files = manifest_of(root), contents(root / "CMU")
    written = {pair[kind]["file"]: pair[kind]["sha256"] for pair in manifest["pairs"] for kind in ("rgb", "sar")}
    assert written.items() <= files.items() and set(files) - set(written) == {"manifest_sn6.json", ".sn6_journal.jsonl"}
    source = manifest["pairs"][0]["source"]
    assert source["window"] == [0, 0, 12, 12] and len(source["sha256"]) == 2
    for file, digest in source["sha256"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
    assert manifest["settings"]["sar"]["value_range"] == [10, 60] and manifest["split"]["split_by"] == "place"


KILLED = """
import os, signal
from mm_ovseg.jobs import Journal
from tests.conftest import load_tool

append = Journal.append
def append_and_die(self, result):
    append(self, result)
    if len(self.results) == 5:
        with self.path.open("a") as file:
            file.write('{"name": "half')
        (self.path.parent / "train/rgb/.sn6_x.1.tmp.tif").write_bytes(b"II")
        os.kill(os.getpid(), signal.SIGKILL)
Journal.append = append_and_die
load_tool("../datasets/prepare_spacenet6").main(WORDS)
"""


def test_a_killed_run_goes_on_and_gives_the_same(folder, root, prepare):
    words = [*map(str, (folder, *SMALL)), "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    code = KILLED.replace("WORDS", repr(words))
    command = [sys.executable, "-c", code]
    killed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    output = root / "CMU"
    assert not (output / "manifest_sn6.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in output.glob("*/*/sn6_*")}
    assert len(finished) == 5 * 4 * 2

    damaged = next(path for path in sorted(finished) if path.parent.name == "sar")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert "| tiles done before |        4 |" in prepare(SCRIPT, *words).out
    again = [path for path, written in finished.items() if path.stat().st_mtime_ns != written]
    assert {path.stem.split("_r")[0] for path in again} == {damaged.stem.split("_r")[0]}
    prepare(SCRIPT, *words, "--output", root / "unbroken")
    assert without_journals(contents(output)) == without_journals(contents(root / "unbroken"))

    before = {path: path.stat().st_mtime_ns for path in output.glob("*/*/*")}
    assert "| tiles done before |       18 |" in prepare(SCRIPT, *words).out
    assert before == {path: path.stat().st_mtime_ns for path in output.glob("*/*/*")}


def test_tiles_that_change_or_turn_out_held_out_leave_nothing_behind(folder, root, prepare):
    prepare(SCRIPT, folder, *SMALL)
    training = [pair for pair in manifest_of(root)["pairs"] if pair["split"] == "train"]
    source = next(folder / file for file in training[0]["source"]["sha256"] if file.startswith("SAR"))
    with rasterio.open(source, "r+") as file:
        file.write(np.zeros((4, TILE, TILE), np.float32))
    prepare(SCRIPT, folder, *SMALL)
    manifest = manifest_of(root)
    assert manifest["counts"]["skipped"] == {"too few pixels with SAR": 4}
    assert not list((root / "CMU").glob(f"train/*/{training[0]['name']}*"))
    assert sum(manifest["counts"]["pairs"].values()) * 2 == len(list((root / "CMU").glob("*/*/*.tif")))


def test_a_dry_run_writes_nothing_and_counts_the_same(archive, folder, root, prepare, tmp_path):
    write_pair(folder, number=50, sar=np.zeros((TILE, TILE, 4), np.float32))
    before = contents(tmp_path)
    printed = prepare(SCRIPT, folder, *SMALL, "--dry-run").out
    assert printed.endswith("Dry run: nothing was written.\n")
    packed = prepare(SCRIPT, archive, *SMALL, "--dry-run").out
    assert "18 tiles. 36 files (" in packed and "sources" in packed
    assert contents(tmp_path) == before and not root.exists()
    table = printed[: printed.index("SAR (")]
    assert "skipped: too few pixels with SAR" in table
    assert prepare(SCRIPT, folder, *SMALL).out.startswith(table)
    # Once unpacked, the archive is looked at as a folder is.
    prepare(SCRIPT, archive, *SMALL, "--output", root / "b")
    assert "Dry run" in prepare(SCRIPT, archive, *SMALL, "--output", root / "b", "--dry-run").out


@pytest.fixture
def broken(folder):
    """The archive with a tile of every kind that cannot be used, by the number of the tile."""
    half = decibels(0)
    half[: TILE // 2 + 1] = 0
    write_pair(folder, number=61, rgb=np.zeros((TILE, TILE, 3), np.uint8))
    write_pair(folder, number=62, sar=half)
    write_pair(folder, number=63, rgb=np.full((TILE, TILE, 3), 90, np.uint8))
    write_pair(folder, number=64)[1].unlink()
    write_pair(folder, number=65)[0].unlink()
    truncated = write_pair(folder, number=66)[1]
    truncated.write_bytes(truncated.read_bytes()[:-500])
    write_pair(folder, number=67)[0].write_bytes(b"")
    write_tile(write_pair(folder, number=68)[1], decibels(0), (CORNER[0] + 5, CORNER[1]))
    write_tile(write_pair(folder, number=69)[1], decibels(0, 20), CORNER)
    write_tile(write_pair(folder, number=70)[1], decibels(0)[..., :1], CORNER)
    write_tile(write_pair(folder, number=71)[0], noise(TILE, TILE, 1, 0), CORNER)
    return folder


def test_tiles_that_cannot_be_used_are_named_and_counted(broken, root, prepare):
    printed = prepare(SCRIPT, broken, "--size", 0, "--block", 12, "--polarisations", "VV")
    skipped = {
        "no RGB file": [65],
        "no SAR file": [64],
        "too few pixels with RGB": [61],
        "too few pixels with SAR": [62],
        "the same RGB everywhere": [63],
        "cannot be read": [66, 67, 68, 69, 70, 71],
    }
    manifest = manifest_of(root)
    assert manifest["counts"]["skipped"] == {reason: len(tiles) for reason, tiles in skipped.items()}
    for reason, tiles in skipped.items():
        assert f"skipped: {reason}" in printed.out
        assert [entry["name"][-2:] for entry in manifest["skipped"] if entry["reason"] == reason] == [*map(str, tiles)]
    for number in skipped["cannot be read"]:
        assert f"tile_{number}.tif" in printed.err
    assert len(list((root / "CMU").glob("*/*/*.tif"))) == 2 * 18

    # Once mended, it is taken.
    write_pair(broken, number=66)
    prepare(SCRIPT, broken, "--size", 0, "--block", 12, "--polarisations", "VV")
    assert manifest_of(root)["counts"]["skipped"]["cannot be read"] == 5


def test_a_tile_without_georeference_is_named(folder, root, prepare):
    for path, image in zip(paths_of(folder, STRIPS[0], 66), (noise(TILE, TILE, 3, 0), decibels(0)), strict=True):
        write_tile(path, image)
    message = prepare(SCRIPT, folder, *SMALL, status=2).err.splitlines()[-1]
    assert "tile_66.tif has no georeference, so it cannot be held out by location" in message
    assert not list(root.rglob("*.tif"))


def test_a_tile_that_could_not_be_read_is_tried_again(folder, root, prepare):
    path = write_pair(folder, number=66, compress="deflate")[0]
    whole, written = path.read_bytes(), path.stat().st_mtime_ns
    for content, pairs in ((whole.replace(whole[600:700], b"\xff" * 100), 18), (whole, 19)):
        path.write_bytes(content)
        os.utime(path, ns=(written, written))
        prepare(SCRIPT, folder, "--size", 0, "--block", 12)
        assert sum(manifest_of(root)["counts"]["pairs"].values()) == pairs


@pytest.mark.parametrize("workers", [1, 2])
def test_strict_stops_at_the_first(folder, root, prepare, workers):
    truncated = write_pair(folder, number=66)[1]
    truncated.write_bytes(truncated.read_bytes()[:-500])
    message = prepare(SCRIPT, folder, *SMALL, "--strict", "--workers", workers, status=2).err
    assert "tile_66.tif cannot be read" in message.splitlines()[-1]
    assert not (root / "CMU" / "manifest_sn6.json").exists()


def test_sixteen_bits_go_by_a_stated_range(tmp_path, root, prepare):
    rgb = np.full((TILE, TILE, 3), 1000, np.uint16)
    rgb[0, :4, 0] = [0, 2047, 4000, 1024]
    write_pair(tmp_path, rgb=rgb)
    prepare(SCRIPT, tmp_path, "--val-fraction", 0)
    (path,) = (root / "CMU" / "train" / "rgb").iterdir()
    with rasterio.open(path) as file:
        assert file.read(1)[0, :5].tolist() == [0, 255, 255, 128, 125]


def test_other_settings_need_another_folder(folder, root, prepare):
    # Unless nothing came of them.
    assert "the same SAR everywhere: 72" in prepare(SCRIPT, folder, *SMALL, "--sar-range", -9, -8, status=2).err
    prepare(SCRIPT, folder, *SMALL, "--sar-range", 10, 60)
    before = contents(root)
    message = prepare(SCRIPT, folder, *SMALL, "--min-valid", 0.9, status=2).err
    assert "min_valid 0.5 instead of 0.9" in message and ".sn6_journal.jsonl" in message
    (root / "CMU" / ".sn6_journal.jsonl").unlink()
    assert "not their journal" in prepare(SCRIPT, folder, *SMALL, status=2).err
    assert contents(root).items() <= before.items()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.tar.gz"], ["missing.tar.gz", "does not exist"]),
        (["empty"], ["empty contains no tiles", "SpaceNet 6"]),
        (["{folder}", "--size", "-1"], ["--size"]),
        (["{folder}", "--overlap", "450"], ["--overlap"]),
        (["{folder}", "--min-valid", "2"], ["--min-valid"]),
        (["{folder}", "--val-fraction", "1"], ["--val-fraction"]),
        (["{folder}", "--workers", "0"], ["--workers"]),
        (["{folder}", "--block", "0"], ["--block"]),
        (["{folder}", "--sar-range", "9", "9"], ["--sar-range"]),
        (["{folder}", "--rgb-range", "9", "1"], ["--rgb-range"]),
        (["{folder}", "--polarisations", "HH", "HV", "VH", "VV"], ["SAR bands"]),
        (["{folder}", "--sar-scale", "8bit"], ["none of 18 tiles gives a pair", "cannot be read: 18"]),
        (["{folder}", "--output", "file"], ["file", "cannot be written"]),
    ],
)
def test_wrong_input_is_one_sentence(folder, root, prepare, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    message = prepare(SCRIPT, *(word.format(folder=folder) for word in arguments), status=2).err.splitlines()[-1]
    assert message.startswith("error: ") and all(word in message for word in words)
    assert not list(root.rglob("*.tif"))


def test_help_has_an_example(prepare, capsys):
    with pytest.raises(SystemExit):
        prepare(SCRIPT, "--help")
    assert "python datasets/prepare_spacenet6.py SN6" in capsys.readouterr().out


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/realdata")
def test_the_real_sample_of_rotterdam(tmp_path, root, prepare, cfg):
    for source, target in zip(("rgb", "sar"), paths_of(tmp_path, STRIPS[0], 8679), strict=True):
        target.parent.mkdir()
        target.symlink_to(REAL / f"{source}_rotterdam.tif")
    printed = prepare(SCRIPT, tmp_path, "--size", 100, "--polarisations", "HH", "HV", "VV", "--val-fraction", 0).out
    # SAR covers part of the scene: two of four windows.
    assert "SAR (db): -19 to 7 dB" in printed
    assert manifest_of(root)["counts"]["skipped"] == {"too few pixels with SAR": 2}
    samples = DatasetCatalog.get("cmu_pairs_train")
    item = build_dataset_mapper(cfg, True)(samples[0])
    assert len(samples) == 2 and 0.95 < item["sar_valid"].float().mean() < 1
    assert 20 < item["sar_image"].std() < 80
