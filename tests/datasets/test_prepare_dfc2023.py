"""datasets/prepare_dfc2023.py on archives of the published structure, but small."""

import json
import zipfile

import numpy as np
import pytest
import rasterio
from detectron2.data import DatasetCatalog

from mm_ovseg.data import build_dataset_mapper
from tests.datasets.conftest import contents, noise, without_journals, write_tile

SCRIPT = "prepare_dfc2023"
SIZE = 16
CITIES = ("Barcelona", "SanDiego", "Berlin", "Sydney", "Rio")
NAMES = [
    f"{satellite}_{city}_{place}" for city in CITIES for satellite in ("GF2", "SV") for place in ("41.38_2.15", "7")
]


def amplitudes(seed):
    """uint16 whose decibels lie evenly from 20 to 70."""
    return np.rint(10 ** (np.random.default_rng(seed).uniform(20, 70, (SIZE, SIZE, 1)) / 20)).astype(np.uint16)


def write_track(folder, names, make_sar=lambda seed: noise(SIZE, SIZE, 1, seed)):
    for name in names:
        seed = NAMES.index(name)
        write_tile(folder / "train" / "rgb" / f"{name}.tif", noise(SIZE, SIZE, 3, seed))
        write_tile(folder / "train" / "sar" / f"{name}.tif", make_sar(seed))
        write_tile(folder / "train" / "dsm" / f"{name}.tif", noise(SIZE, SIZE, 1, seed))
    (folder / "train" / "buildings_only_train.json").write_text("{}")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_track(tmp_path / "track1", NAMES)


def manifest_of(root):
    return json.loads((root / "CMU" / "manifest_dfc2023.json").read_text())


def splits_by_city(manifest):
    found = {}
    for pair in manifest["pairs"]:
        found.setdefault(pair["name"].split("_")[2], set()).add(pair["split"])
    return found


def test_the_archives_as_downloaded_become_a_dataset_that_trains(folder, root, prepare, cfg, tmp_path):
    # The tracks share some tiles, and one of them holds its tiles a folder deeper.
    other = write_track(tmp_path / "track2", NAMES[:3])
    for track in (folder, other):
        with zipfile.ZipFile(tmp_path / f"{track.name}.zip", "w") as archive:
            for path in sorted(track.rglob("*.*")):
                archive.write(path, path.relative_to(track if track is other else tmp_path))
    printed = prepare(SCRIPT, tmp_path / "track1.zip", tmp_path / "track2.zip").out
    manifest = manifest_of(root)
    assert manifest["counts"]["tiles"] == len(NAMES) and sum(manifest["counts"]["pairs"].values()) == len(NAMES)
    assert manifest["counts"]["skipped"] == {"the name of another tile": 2 * 3}
    assert "no longer needed" in printed and "SAR (" not in printed  # 8-bit: there is no range
    assert not list((root / "CMU" / "sources").rglob("dsm"))

    cities = splits_by_city(manifest)
    assert set(cities) == set(CITIES) and all(len(splits) == 1 for splits in cities.values())
    assert sum(splits == {"val"} for splits in cities.values()) == 1  # a tenth of five, but at least one

    (sample, *_), held_out = DatasetCatalog.get("cmu_pairs_train"), DatasetCatalog.get("cmu_pairs_val")
    assert len(held_out) == 4
    name = sample["image_id"].removeprefix("dfc2023_")
    item = build_dataset_mapper(cfg, True)(sample)
    for key, kind in (("image", "rgb"), ("sar_image", "sar")):
        with rasterio.open(folder / "train" / kind / f"{name}.tif") as source:
            np.testing.assert_array_equal(item[key][: source.count], source.read())  # 8-bit files as they are
    assert item["image_valid"].all() and item["sar_valid"].all()


def test_sixteen_bits_are_amplitude(tmp_path, root, prepare):
    folder = write_track(tmp_path, NAMES, amplitudes)
    assert "SAR (amplitude): 20 to 70 dB became 0 to 255." in prepare(SCRIPT, folder, "--val-fraction", 0).out
    name = NAMES[0]
    with (
        rasterio.open(root / "CMU" / "train" / "sar" / f"dfc2023_{name}.tif") as written,
        rasterio.open(folder / "train" / "sar" / f"{name}.tif") as source,
    ):
        expected = np.clip((20 * np.log10(source.read().astype(float)) - 20) / 50 * 255, 0, 255)
        np.testing.assert_allclose(written.read(), expected, atol=0.51)


@pytest.mark.parametrize(("scale", "value", "expected"), [("power", 100, 51), ("amplitude", 10, 51), ("db", 20, 51)])
def test_floats_by_option(tmp_path, root, prepare, scale, value, expected):
    def make_sar(seed):
        sar = np.full((SIZE, SIZE, 1), value, np.float32)
        sar[0, 0] = -1 if scale != "db" else np.nan
        sar[0, 1] = value * 2
        return sar

    write_track(tmp_path, NAMES[:1], make_sar)
    prepare(SCRIPT, tmp_path, "--sar-scale", scale, "--sar-range", 10, 60)
    with rasterio.open(root / "CMU" / "train" / "sar" / f"dfc2023_{NAMES[0]}.tif") as written:
        assert written.read(1)[1:].tolist() == [[expected] * SIZE] * (SIZE - 1)
        assert written.read_masks(1)[0, :2].tolist() == [0, 255]


def test_no_data_by_option(tmp_path, root, prepare):
    folder = write_track(tmp_path, NAMES[:1], lambda seed: noise(SIZE, SIZE, 1, seed, low=0, high=3))
    prepare(SCRIPT, folder, "--output", root / "kept")
    prepare(SCRIPT, folder, "--output", root / "masked", "--sar-nodata", 0)
    name = f"train/sar/dfc2023_{NAMES[0]}.tif"
    with rasterio.open(root / "kept" / name) as kept, rasterio.open(root / "masked" / name) as masked:
        assert kept.read_masks(1).all()
        np.testing.assert_array_equal(masked.read_masks(1) > 0, kept.read(1) > 0)


def test_cities_by_name_and_by_seed(folder, root, prepare):
    prepare(SCRIPT, folder, "--val-cities", "Rio", "Berlin")
    held_out = {city for city, splits in splits_by_city(manifest_of(root)).items() if splits == {"val"}}
    assert held_out == {"Rio", "Berlin"}
    message = prepare(SCRIPT, folder, "--val-cities", "Oslo", "--output", root / "b", status=2).err.splitlines()[-1]
    assert "no scene 'Oslo'" in message and "SanDiego" in message
    assert not (root / "b").exists()


def test_tiles_are_cut_on_demand_and_workers_change_nothing(folder, root, prepare):
    for workers, output in ((1, root / "a"), (2, root / "b")):
        prepare(SCRIPT, folder, "--size", 12, "--overlap", 4, "--workers", workers, "--output", output)
    first = without_journals(contents(root / "a"))
    assert first == without_journals(contents(root / "b"))
    windows = {name.split("_r0")[1] for name in first if "/rgb/" in name}
    assert windows == {f"{row}_c{column}.tif" for row in ("000", "004") for column in ("0000", "0004")}


def test_both_archives_share_the_output_folder(folder, root, prepare, tmp_path):
    rotterdam = tmp_path / "rotterdam"
    for kind, pixels in (("PS-RGB", noise(SIZE, SIZE, 3, 0)), ("SAR-Intensity", noise(SIZE, SIZE, 4, 1) / 4)):
        name = f"SN6_Train_AOI_11_Rotterdam_{kind}_20190804111224_20190804111453_tile_1.tif"
        write_tile(
            rotterdam / kind / name, np.asarray(pixels, np.uint8 if kind == "PS-RGB" else np.float32), (0.0, 9.0)
        )
    prepare(SCRIPT, folder)
    before = contents(root)
    prepare("prepare_spacenet6", rotterdam, "--val-fraction", 0)
    assert before.items() <= contents(root).items()
    names = [sample["image_id"] for sample in DatasetCatalog.get("cmu_pairs_train")]
    assert len(names) == 16 + 1 and names[-1].startswith("sn6_")


def test_names_without_a_city_are_not_split_at_random(tmp_path, root, prepare):
    for number in range(20):
        for kind, bands in (("rgb", 3), ("sar", 1)):
            write_tile(tmp_path / "train" / kind / f"{number}.tif", noise(SIZE, SIZE, bands, number))
    printed = prepare(SCRIPT, tmp_path, "--val-fraction", 0.2)
    assert (
        "warning: 20 names have no city, such as 0; of these tiles: by name: neighbours stay together." in printed.err
    )
    held_out = sorted(int(pair["name"].split("_")[1]) for pair in manifest_of(root)["pairs"] if pair["split"] == "val")
    assert held_out == list(range(held_out[0], held_out[0] + 4))


def test_cities_of_two_names_that_share_ground(tmp_path, root, prepare):
    for number, name in enumerate(["GF2_Rio_1", "GF2_Rio_2", "SV_Rio-de-Janeiro_1", "SV_Rio-de-Janeiro_9"]):
        place = (600_000.0 + 100 * (number % 2), 5_748_000.0 + 1000 * (number == 3))
        for kind, bands in (("rgb", 3), ("sar", 1)):
            write_tile(tmp_path / "train" / kind / f"{name}.tif", noise(SIZE, SIZE, bands, number), place)
    prepare(SCRIPT, tmp_path, "--val-cities", "Rio")
    manifest = manifest_of(root)
    assert manifest["counts"] == {
        "tiles": 4,
        "pairs": {"train": 1, "val": 2},
        "skipped": {"overlaps a held-out tile": 1},
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sar-scale", "8bit"], ["none of 20 tiles", "cannot be read: 20", "GF2_Barcelona", "--sar-scale"]),
        (["--sar-bands", "2"], ["none of 20 tiles", "not band 2"]),
        (["--sar-bands", "0"], ["SAR bands"]),
        (["--sar-nodata", "7", "--sar-scale", "power"], ["20 SAR tiles", "--sar-range"]),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path, root, prepare, arguments, words):
    folder = write_track(tmp_path, NAMES, lambda seed: np.full((SIZE, SIZE, 1), 7, np.uint16))
    message = prepare(SCRIPT, folder, *arguments, status=2).err.splitlines()[-1]
    assert message.startswith("error: ") and all(word in message for word in words)
    assert not list(root.rglob("*.tif"))
