"""datasets/prepare_{pie_rgb_sar,ddhr,openearthmap_sar}.py on small archives of the structure that they expect."""

import hashlib
import json

import numpy as np
import pytest
import rasterio
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mm_ovseg.data.raster import read_label
from tests.conftest import ROOT, load_tool
from tests.datasets.conftest import contents, noise, without_journals, write_tile
from tests.datasets.labelled_archives import (
    DDHR,
    DDHR_CH,
    OEM,
    PIE,
    PROCESSED,
    SIZE,
    pack,
    stripes,
    write_authors,
    write_picture,
    write_processed,
)

REAL = ROOT.parent / "shared" / "realdata" / "oemsar_figure"
PIE_SCRIPT, DDHR_SCRIPT, OEM_SCRIPT = "prepare_pie_rgb_sar", "prepare_ddhr", "prepare_openearthmap_sar"


def classes_of(name):
    """The class in every column of the first label map of a registered dataset, and all of its pairs."""
    samples, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
    label = read_label(
        samples[0]["sem_seg_file_name"],
        num_classes=len(metadata.stuff_classes),
        label_values=metadata.label_values,
    )
    names = [*metadata.stuff_classes, *[None] * (256 - len(metadata.stuff_classes))]
    shown = [names[value] for value in label[0]]
    return list(dict.fromkeys(shown)), samples


def manifest_of(folder):
    (path,) = folder.glob("manifest_*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize(("script", "titles", "expected"), [
    (PIE_SCRIPT, ["PIE_RGBSAR"], {
        "pie_cloud_train": ["background", "city", "forest", "farmland"], "pie_cloud_val": PIE,
        "pie_clean_train": ["background", "city", "forest", "farmland"], "pie_clean_val": PIE,
    }),
    (DDHR_SCRIPT, ["DDSK", "DDCH"], {
        "ddhr_sk_train": ["city", "forest", "farmland"], "ddhr_sk_val": DDHR, "ddhr_ch_val": DDHR_CH,
    }),
    (OEM_SCRIPT, ["OEM"], {
        "oem_thick_train": ["bareland", "rangeland", "developed space", "tree", "agriculture land"],
        "oem_thick_val": OEM, "oem_thin_val": OEM,
    }),
])  # fmt: skip
@pytest.mark.parametrize("form", ["folder", "zip with a folder", "zip without", "tar"])
def test_the_processed_release_becomes_the_registered_datasets(tmp_path, root, prepare, script, titles, expected, form):
    inputs = [write_processed(tmp_path / "in", title) for title in titles]
    if form == "tar":
        inputs = [pack(tmp_path / "in", tmp_path / "all.tar.gz", "release")]
    elif form != "folder":
        tops = titles if form == "zip with a folder" else [""] * len(titles)
        inputs = [
            pack(folder, tmp_path / f"{title}.zip", top)
            for folder, title, top in zip(inputs, titles, tops, strict=True)
        ]
    printed = prepare(script, *inputs).out
    for name, classes in expected.items():
        shown, samples = classes_of(name)
        assert shown == [*classes, None] and len(samples) == 2
        assert ["|", name, "|", "2", "|"] in map(str.split, printed.splitlines())
    for place, (rgb_kinds, sar, _, suffix, _) in PROCESSED.items():
        if place.split("/")[0] in titles:
            for file in (*(f"{kind}/tile_1{suffix}" for kind in rgb_kinds), f"{sar}/tile_1.png"):
                assert (root / place / file).read_bytes() == (tmp_path / "in" / place / file).read_bytes()
    assert "assumption" not in printed and "warning" not in printed
    assert ("no longer needed" in printed) == (form != "folder")


def test_the_manifest_names_every_file_with_its_hash_and_counts_classes(tmp_path, root, prepare):
    printed = prepare(DDHR_SCRIPT, write_processed(tmp_path / "in", "DDSK")).out
    manifest = manifest_of(root / "DDSK")
    named = {
        pair[kind]["file"]: pair[kind]["sha256"]
        for pair in manifest["pairs"]
        for kind in ("rgb_clouds", "sar", "labels")
    }
    written = contents(root / "DDSK")
    assert named == {path: digest for path, digest in written.items() if path.endswith(".png")} and len(named) == 12
    source = tmp_path / "in" / "DDSK" / "val" / "D2masks" / "tile_0.png"
    entry = next(pair for pair in manifest["pairs"] if (pair["split"], pair["name"]) == ("val", "tile_0"))
    assert entry["source"]["labels"] == {
        "file": "D2masks/tile_0.png", "sha256": hashlib.sha256(source.read_bytes()).hexdigest()
    }  # fmt: skip
    counts = {"tiles": 4, "pairs": {"train": 2, "val": 2}, "dropped": {}}
    assert manifest["counts"] == {**counts, "datasets": {"ddhr_sk_train": 2, "ddhr_sk_val": 2}}
    val = stripes([*range(5), 255])
    expected = {name: 2 * int((val == index).sum()) for index, name in enumerate(DDHR)}
    assert manifest["pixels"]["val"] == {**expected, "ignored": 2 * int((val == 255).sum())}
    (road,) = [line.split("|") for line in printed.splitlines() if "road (unseen)" in line]
    assert road[2].strip() == "not in these masks"
    assert road[3].strip() == f"{expected['road'] / sum(expected.values()):.2%}"


def test_what_authors_publish_becomes_masks_of_the_seen_classes_and_of_all(tmp_path, root, prepare):
    """OpenEarthMap's numbers: 0 is nothing, 1 to 8 are the classes."""
    folder = write_authors(tmp_path / "in", stripes(range(9)), rgb="rgb_images", sar="sar_images")
    printed = prepare(OEM_SCRIPT, pack(folder, tmp_path / "OpenEarthMap-SAR.zip", "OEM-SAR/data")).out
    assert "there is no pair for oem_thick_train; its RGB would be in OEM/train/rgb_cloud" in printed
    assert "tools/add_clouds.py can make it of OEM/train/rgb" in printed and "assumption" not in printed
    for split in ("train", "val"):  # what add_clouds.py leaves
        (root / "OEM" / split / "rgb_cloud").symlink_to(root / "OEM" / split / "rgb")
    assert classes_of("oem_thick_val")[0] == [None, *OEM]
    shown, samples = classes_of("oem_thick_train")
    assert set(shown) == {None, "bareland", "rangeland", "developed space", "tree", "agriculture land"}
    assert [sample["image_id"] for sample in samples] == ["train_0", "train_1"]
    with Image.open(samples[0]["sem_seg_file_name"]) as picture:  # to look at: in the colours of the classes
        assert picture.convert("RGB").getpixel((SIZE // 9 + 1, 0)) == (128, 0, 0)
    assert manifest_of(root / "OEM")["pixels"]["train"]["road"] > 0  # as published, not as written
    prepare(OEM_SCRIPT, tmp_path / "OpenEarthMap-SAR.zip")  # which leaves what add_clouds.py has made
    assert (root / "OEM" / "train" / "rgb_cloud" / "train_0.tif").is_file()


def test_folders_file_names_and_colours_by_option(tmp_path, root, prepare):
    colors = [(0, 0, 0), (255, 0, 0), (255, 255, 0), (0, 0, 255), (0, 255, 0), (120, 60, 0)]
    table = {"colors": {",".join(map(str, color)): name for color, name in zip(colors, PIE, strict=True)}}
    table["colors"]["255, 255, 255"] = None
    (tmp_path / "table.json").write_text(json.dumps(table))
    label = np.array([*colors, (255, 255, 255)], np.uint8)[stripes(range(7))]
    for index in range(4):
        write_tile(tmp_path / "in" / "images" / f"opt_{index}.tif", noise(SIZE, SIZE, 3, index))
        write_tile(tmp_path / "in" / "images" / f"sar_{index}.tif", noise(SIZE, SIZE, 1, index))
        write_tile(tmp_path / "in" / "gt" / f"{index}.tif", label)
    (tmp_path / "val.txt").write_text("opt/2.tif\n\n3\n")
    words = ["--rgb", "images/opt_*", "--sar", "images/sar_*.tif", "--labels", "gt"]
    words += ["--val-list", tmp_path / "val.txt"]
    printed = prepare(PIE_SCRIPT, tmp_path / "in", *words, "--label-table", tmp_path / "table.json").out
    shown, samples = classes_of("pie_clean_val")
    assert shown == [*PIE, None] and [sample["image_id"] for sample in samples] == ["2", "3"]
    assert len(classes_of("pie_clean_train")[1]) == 2
    assert "there is no pair for pie_cloud_val" in printed and "assumption" not in printed

    # A palette counts by its colours then.
    for index in range(4):
        (tmp_path / "in" / "gt" / f"{index}.tif").unlink()
        picture = Image.fromarray(stripes(range(7))[:, ::-1].copy()).convert("P")
        picture.putpalette(np.array([*colors, (255, 255, 255)], np.uint8).ravel().tolist())
        picture.save(tmp_path / "in" / "gt" / f"{index}.png")
    output = root / "palette"
    prepare(PIE_SCRIPT, tmp_path / "in", *words, "--label-table", tmp_path / "table.json", "--output", output)
    with rasterio.open(output / "PIE_RGBSAR" / "val" / "D2masks6" / "2.png") as file:
        assert list(dict.fromkeys(file.read(1)[0].tolist())) == [255, 5, 4, 3, 2, 1, 0]


def test_clouds_over_clear_images_lie_where_the_dataset_looks(tmp_path, root, prepare):
    """As datasets/README.md says, with the clouds that need no further package."""
    folder = write_authors(tmp_path / "in", stripes([0, 1, 2, 3, 4]))
    printed = prepare(DDHR_SCRIPT, folder, "--region", "sk").out
    assert "there is no pair for ddhr_sk_train" in printed and "there is no pair for ddhr_sk_val" in printed
    for split in ("train", "val"):
        words = [root / "DDSK" / split / "rgb", root / "DDSK" / split, "--kind", "fractal", "--workers", 1]
        load_tool("add_clouds").main([str(word) for word in words])
        assert classes_of(f"ddhr_sk_{split}")[1][0]["image_id"] == f"{split}_0"
    before = contents(root / "DDSK")
    prepare(DDHR_SCRIPT, folder, "--region", "sk")
    assert contents(root / "DDSK") == before  # they are left alone


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_real_tiles_of_openearthmap_sar(root, prepare):
    words = ["--rgb", "rgb_*", "--sar", "sar_*", "--labels", "label_*", "--val-fraction", 0.5, "--scene", "([a-z]+)"]
    prepare(OEM_SCRIPT, REAL, *words)
    manifest = manifest_of(root / "OEM")
    assert manifest["counts"]["tiles"] == 6 and manifest["counts"]["pairs"] == {"train": 3, "val": 3}
    assert manifest["counts"]["dropped"] == {} and len({pair["name"][:3] for pair in manifest["pairs"]}) == 2
    pixels = [sum(manifest["pixels"][split][name] for split in ("train", "val")) for name in OEM]
    assert sum(pixels) > 0.9 * 6 * 432**2 and min(pixels[1:]) > 0  # there is no bareland on them


def test_regions_of_ddhr(tmp_path, root, prepare):
    folder = write_authors(tmp_path / "in", stripes([0, 1, 2, 3, 4, 255]), rgb="rgb_clouds")
    message = prepare(DDHR_SCRIPT, folder, status=2).err.splitlines()[-1]
    assert "--region" in message and not root.exists()
    printed = prepare(DDHR_SCRIPT, folder, "--region", "sk").out
    assert classes_of("ddhr_sk_val")[0] == [*DDHR, None]
    assert "what the label maps hold is an assumption" in printed and "preview_dataset.py ddhr_sk_val" in printed
    printed = prepare(DDHR_SCRIPT, folder, "--region", "ch").out
    assert classes_of("ddhr_ch_val")[0] == [*DDHR_CH, None]
    assert manifest_of(root / "DDCH")["counts"]["dropped"] == {"would be for train, which DDHR-CH is not used for": 2}
    flat = ["--rgb-clouds", "rgb_clouds", "--sar", "sar", "--labels", "labels"]
    prepare(DDHR_SCRIPT, folder, "--region", "ch", *flat, "--output", root / "all")
    assert manifest_of(root / "all" / "DDCH")["counts"]["datasets"] == {"ddhr_ch_val": 4}


def test_tiles_without_a_split_are_held_out_by_scene(tmp_path, root, prepare):
    for index in range(8):
        name = f"{'abcd'[index // 2]}_{index}"
        for kind, bands in (("rgb", 3), ("sar", 1)):
            write_tile(tmp_path / "in" / kind / f"{name}.tif", noise(SIZE, SIZE, bands, index))
        write_picture(tmp_path / "in" / "labels" / f"{name}.png", stripes(range(6)))
    words = [tmp_path / "in", "--rgb", "rgb", "--sar", "sar", "--labels", "labels"]
    message = prepare(PIE_SCRIPT, *words, status=2).err.splitlines()[-1]
    assert "Nothing says which of the 8 tiles" in message and "--val-list" in message
    prepare(PIE_SCRIPT, *words, "--val-fraction", 0.25, "--scene", "(.)_")
    pairs = manifest_of(root / "PIE_RGBSAR")["pairs"]
    splits = {scene: {pair["split"] for pair in pairs if pair["name"][0] == scene} for scene in "abcd"}
    assert sorted(splits.values(), key=str) == [{"train"}] * 3 + [{"val"}]


def test_images_of_other_types_become_8_bit_over_one_range(tmp_path, root, prepare):
    folder = write_authors(tmp_path / "in", stripes([0, 1, 2, 3, 4, 5]))
    for path in (folder / "train").rglob("*.tif"):
        with rasterio.open(path) as file:
            pixels = file.read().transpose(1, 2, 0)
        if path.parent.name == "rgb":
            write_tile(path, pixels.astype(np.uint16) * 8, (0.0, 0.0))
        elif path.parent.name == "sar":
            write_tile(path, 10 ** (pixels / 51.2 - 3).astype(np.float32), (0.0, 0.0))
        else:
            write_tile(path, pixels, (0.0, 0.0))
    words = ["--sar-scale", "power", "--sar-range", -30, 20]
    for path in (folder / "val").rglob("*.tif"):
        path.unlink()
    printed = prepare(PIE_SCRIPT, folder, *words, "--rgb-range", 0, 2040).out
    assert "SAR (power): -30 to 20 dB became 0 to 255." in printed
    for kind, bands, seed in (("rgb", 3, 1), ("sar", 1, 51)):
        with rasterio.open(root / "PIE_RGBSAR" / "train" / kind / "train_1.tif") as file:
            assert file.dtypes[0] == "uint8" and file.crs is not None
            np.testing.assert_allclose(file.read(), noise(SIZE, SIZE, bands, seed).transpose(2, 0, 1), atol=1)


def test_an_interrupted_run_goes_on_and_workers_change_nothing(tmp_path, root, prepare):
    folder = write_processed(tmp_path / "in", "PIE_RGBSAR", count=3)
    prepare(PIE_SCRIPT, folder, "--output", tmp_path / "whole", "--workers", 2)
    expected = without_journals(contents(tmp_path / "whole"))
    prepare(PIE_SCRIPT, folder)
    assert without_journals(contents(root)) == expected

    dataset = root / "PIE_RGBSAR"
    journal = dataset / ".pie_rgbsar_journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:4]) + lines[4][:20])  # killed while it wrote
    (dataset / "manifest_pie_rgbsar.json").unlink()
    (dataset / "val" / "sar" / ".tile_1.9.tmp.png").write_bytes(b"half")
    finished = json.loads(lines[1])["pairs"][0]["sar"]["file"]
    before = (dataset / finished).stat().st_mtime_ns
    changed = json.loads(lines[2])["pairs"][0]["labels"]["file"]
    (dataset / changed).write_bytes(b"changed since")
    printed = prepare(PIE_SCRIPT, folder).out
    assert ["|", "tiles", "done", "before", "|", "2", "|"] in map(str.split, printed.splitlines())
    assert (dataset / finished).stat().st_mtime_ns == before
    assert without_journals(contents(root)) == expected

    (folder / "val" / "sar" / "tile_0.png").unlink()  # withdrawn
    prepare(PIE_SCRIPT, folder)
    assert not list((dataset / "val").rglob("tile_0.png")) and len(DatasetCatalog.get("pie_cloud_val")) == 2


def test_a_dry_run_writes_nothing_and_counts_the_same(tmp_path, root, prepare):
    folder = write_processed(tmp_path / "in", "OEM")
    archive = pack(folder, tmp_path / "OEM.zip", "OEM")
    printed = prepare(OEM_SCRIPT, archive, "--dry-run").out
    assert "4 tiles. 16 files" in printed and not root.exists()
    dry = prepare(OEM_SCRIPT, folder, "--dry-run").out
    assert "nothing was written" in dry and not root.exists()
    wet = prepare(OEM_SCRIPT, folder).out
    assert dry.splitlines()[:-1] == wet.splitlines()[:-1]


def test_tiles_that_cannot_be_read_are_named_and_leave_nothing_behind(tmp_path, root, prepare):
    folder = write_processed(tmp_path / "in", "DDSK", count=4)
    sar = folder / "train" / "sar" / "tile_1.png"
    sar.write_bytes(sar.read_bytes()[:-400])
    write_picture(folder / "train" / "D2masks3class" / "tile_2.png", stripes([0, 1], 16))
    (folder / "train" / "rgb_clouds" / "tile_3.png").unlink()
    done = prepare(DDHR_SCRIPT, folder)
    for name in ("sar/tile_1.png", "tile_2.png"):
        assert any(line.startswith("left out: ") and name in line for line in done.err.splitlines())
    dropped = {"cannot be read": 2, "no rgb_clouds file": 1}
    assert manifest_of(root / "DDSK")["counts"]["dropped"] == dropped
    assert [sample["image_id"] for sample in DatasetCatalog.get("ddhr_sk_train")] == ["tile_0"]
    message = prepare(DDHR_SCRIPT, folder, "--strict", "--output", root / "b", status=2).err.splitlines()[-1]
    assert message.startswith("error: ") and "tile_2.png" in message


def fit(folder):
    """Nothing to spoil."""


def write_table_with_a_value_twice(folder):
    classes = ("background", "city", "road", "water", "forest", "farmland")
    values = ", ".join(f'"{value}": "{name}"' for value, name in enumerate(classes))
    (folder / "twice.json").write_text(f'{{"values": {{{values}, "01": "road"}}}}')


def use_another_value(folder):
    write_picture(folder / "PIE_RGBSAR" / "val" / "D2masks6" / "tile_1.png", stripes([0, 6, 7]))


def use_colours(folder):
    label = np.repeat(stripes([0, 1])[..., None], 3, axis=2)
    write_picture(folder / "PIE_RGBSAR" / "train" / "D2masks6" / "tile_1.png", label)


def rename_masks(folder):
    for path in list(folder.rglob("D2masks6")):
        path.rename(path.with_name("labels"))


def remove_sar(folder):
    for path in folder.rglob("sar/*"):
        path.unlink()


@pytest.mark.parametrize(("spoil", "words", "expected"), [
    (use_another_value, [], ["val/D2masks6/tile_1.png has the label value 6, 7", "0, 1, 2, 3, 4, 5, 255"]),
    (use_colours, [], ["tile_1.png has 3 band(s)", "as numbers"]),
    (remove_sar, [], ["no tile has all of its files (no sar file: 4)", "train/rgb (2)"]),
    (rename_masks, ["--source", "processed"], ["processed release: no tile", "train/D2masks6", "val/labels (2)"]),
    (fit, ["--source", "authors"], ["no tile has all", "no labels file", "labels in train/labels", "D2masks6 (2)"]),
    (fit, ["--source", "authors", "--rgb", "rgb", "--sar", "{split}/sar"], ["{split} stands in some of the patterns"]),
    (fit, ["--source", "authors", "--sar", "{split}/*/sar"], ["'{split}/*/sar' is neither a folder nor"]),
    (fit, ["--label-table", "table.json"], ["--label-table is for the authors' release"]),
    (fit, ["--source", "authors", "--label-table", "nowhere.json"], ["nowhere.json cannot be read"]),
    (write_table_with_a_value_twice, ["--label-table", "{in}/twice.json", "--source", "authors"], ["'01' in 'values'"]),
    (fit, ["--workers", "0"], ["--workers is 0"]),
    (fit, ["--sar-scale", "db", "--sar-range", "5", "1"], ["--sar-range is 5 1"]),
    (fit, ["--output", "{in}"], ["lies in", "it can be used as it is"]),
])  # fmt: skip
def test_bad_input_ends_in_one_sentence(tmp_path, root, prepare, spoil, words, expected):
    folder = tmp_path / "in"
    write_processed(folder, "PIE_RGBSAR")
    spoil(folder)
    before = contents(folder)
    words = [word.replace("{in}", str(folder)) for word in words]
    message = prepare(PIE_SCRIPT, folder / "PIE_RGBSAR", *words, status=2).err.splitlines()[-1]
    assert message.startswith("error: ") and all(part in message for part in expected), message
    assert contents(folder) == before


def test_other_settings_and_foreign_files_need_another_folder(tmp_path, root, prepare):
    folder = write_authors(tmp_path / "in", stripes([0, 1, 2, 3, 4]), rgb="rgb_clouds")
    prepare(DDHR_SCRIPT, folder, "--region", "sk")
    table = {"values": {str(value): name for value, name in enumerate(DDHR_CH)}}
    (tmp_path / "table.json").write_text(json.dumps(table))
    words = [DDHR_SCRIPT, folder, "--region", "sk", "--label-table", tmp_path / "table.json"]
    assert "holds pairs made with other settings (labels " in prepare(*words, status=2).err
    (root / "DDSK" / ".ddsk_journal.jsonl").unlink()
    assert "but not the journal of how they were made" in prepare(*words, status=2).err
