"""tools/add_clouds.py as a user runs it."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from mm_ovseg.data.clouds import CloudyImage
from mm_ovseg.data.preparation import cloudy
from mm_ovseg.raster import check_same_grid, read_raster_info, read_rgb
from tests.conftest import ROOT, load_tool

DRIVERS = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
GRID = {"crs": "EPSG:32631", "transform": from_origin(500_000, 5_700_000, 2.0, 2.0)}


def write(path, bands, meanings=None, mask=None, **profile):
    """Write (bands, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    profile = {"driver": DRIVERS[path.suffix], "dtype": bands.dtype, **profile}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as file:
            if meanings:
                file.colorinterp = meanings
            file.write(bands)
            if mask is not None:
                file.write_mask(mask)
    return path


def read(path):
    """Bands (bands, H, W), and what they mean."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read(), file.colorinterp


def ground(count=3, shape=(70, 80), seed=0):
    return np.random.default_rng(seed).integers(20, 90, (count, *shape), dtype=np.uint8)


def run(*arguments, status=None):
    """Run the tool in this process; ``status`` is what it exits with."""
    words = [str(word) for word in ("--workers", 1, "--kind", "fractal", *arguments)]
    if status is None:
        load_tool("add_clouds").main(words)
        return
    with pytest.raises(SystemExit) as stopped:
        load_tool("add_clouds").main(words)
    assert stopped.value.code == status


def contents(folder):
    """The bytes of every file that is for users, by its path."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def clear(tmp_path):
    """A folder of clear images."""
    folder = tmp_path / "clear"
    write(folder / "a.tif", ground(seed=1), meanings=RGB, photometric="rgb", **GRID)
    write(folder / "city" / "b.png", ground(seed=2))
    write(folder / "city" / "c.jpg", ground(seed=3))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_images_get_clouds_and_masks(clear, tmp_path, capsys):
    out = tmp_path / "out"
    run(clear, out, "--seed", 3, "--cover", 0.2, 0.3)
    images = {"rgb_clouds/a.tif", "rgb_clouds/city/b.png", "rgb_clouds/city/c.jpg"}
    masks = {"cloud_masks/a.tif", "cloud_masks/city/b.png", "cloud_masks/city/c.png"}
    assert contents(out).keys() == images | masks | {"manifest_clouds.json"}
    for name in ("a.tif", "city/b.png"):
        before, after, mask = (read(folder / name)[0] for folder in (clear, out / "rgb_clouds", out / "cloud_masks"))
        assert mask.shape == (1, 70, 80) and mask.dtype == np.uint8 and mask.max() > 150
        changed = (before != after).any(axis=0)
        assert changed[mask[0] > 30].mean() > 0.98
        assert after[:, mask[0] > 170].mean() > before.max() + 60
        assert (mask == 0).any()
        brighter = after.astype(int).sum(axis=0) > before.astype(int).sum(axis=0)
        assert not brighter[mask[0] == 0].any()  # there is shadow at most
    assert "3 images in rgb_clouds" in capsys.readouterr().out


def test_the_manifest_says_how_all_was_made(clear, tmp_path):
    out = tmp_path / "out"
    run(clear, out, "--seed", 3, "--cover", 0.2, 0.4)
    manifest = json.loads((out / "manifest_clouds.json").read_text())
    assert manifest["settings"]["kind"] == "fractal" and manifest["settings"]["cover"] == [0.2, 0.4]
    assert manifest["settings"]["seed"] == 3 and manifest["dropped"] == []
    assert [entry["name"] for entry in manifest["files"]] == ["a", "city/b", "city/c"]
    first = manifest["files"][0]
    assert first["image"]["file"] == "rgb_clouds/a.tif" and len(first["image"]["sha256"]) == 64
    opacity = read(out / "cloud_masks" / "a.tif")[0] / 255
    assert first["mean_opacity"] == pytest.approx(opacity.mean(), abs=2e-3)
    assert first["covered"] == pytest.approx((opacity >= 0.1).mean(), abs=0.02)
    assert len({entry["seed"] for entry in manifest["files"]}) == 3


def test_the_seed_and_the_name_decide_not_order_workers_or_company(clear, tmp_path):
    run(clear, tmp_path / "one", "--seed", 3)
    command = [sys.executable, "tools/add_clouds.py", clear, tmp_path / "two", "--kind", "fractal", "--seed", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run([*command, "--workers", "2"], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    (clear / "a.tif").unlink()
    run(clear, tmp_path / "less", "--seed", 3)
    run(clear, tmp_path / "other", "--seed", 4)
    name = "rgb_clouds/city/b.png"
    assert contents(tmp_path / "less")[name] == contents(tmp_path / "one")[name] != contents(tmp_path / "other")[name]


@pytest.mark.parametrize("kind", ["thin", "thick", "varied"])
def test_the_librarys_clouds(cloud_generator, clear, tmp_path, kind):
    for name in ("first", "again"):
        run(clear, tmp_path / name, "--kind", kind, "--cover", 0.5, 0.6)
    assert contents(tmp_path / "first") == contents(tmp_path / "again")
    manifest = json.loads(contents(tmp_path / "first")["manifest_clouds.json"])
    assert manifest["settings"]["satellite_cloud_generator"]
    assert any(entry["mean_opacity"] > 0.05 for entry in manifest["files"])
    assert (read(tmp_path / "first/rgb_clouds/a.tif")[0] != read(clear / "a.tif")[0]).any()


def test_interrupted_it_goes_on_with_what_is_missing_or_broken(clear, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    run(clear, out)
    whole = contents(out)
    (out / "rgb_clouds" / "a.tif").write_bytes(b"half")
    (out / "cloud_masks" / "city" / "b.png").unlink()
    half_written = out / "rgb_clouds" / ".c.123.tmp.tif"
    half_written.write_bytes(b"half")
    drawn = []
    build = cloudy.build_clouds
    monkeypatch.setattr(cloudy, "build_clouds", lambda *arguments: drawn.append(arguments) or build(*arguments))
    run(clear, out)
    assert contents(out) == whole and not half_written.exists()
    assert len(drawn) == 1 + 2  # once to check the settings
    assert "3 images (1 were there already)" in capsys.readouterr().out


def test_a_changed_image_is_done_again(clear, tmp_path):
    out = tmp_path / "out"
    run(clear, out)
    before = contents(out)
    write(clear / "a.tif", ground(seed=9), meanings=RGB, photometric="rgb", **GRID)
    run(clear, out)
    after = contents(out)
    differing = {name for name in after if before[name] != after[name]}
    assert differing == {"rgb_clouds/a.tif", "manifest_clouds.json"}  # its name, and so its clouds, are the same


# What a file has is kept


def one(tmp_path, path, *arguments):
    """Draw clouds over one file and return the cloudy one and its mask, (H, W)."""
    run(path.parent, tmp_path / "out", *arguments)
    (mask,) = (tmp_path / "out" / "cloud_masks").glob(f"{path.stem}.*[!l]")
    return tmp_path / "out" / "rgb_clouds" / path.name, read(mask)[0][0]


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_the_place_on_the_ground_is_kept(tmp_path, suffix):
    path = write(tmp_path / "clear" / f"a{suffix}", ground(), **GRID)
    done, _ = one(tmp_path, path)
    before, after = read_raster_info(path), read_raster_info(done)
    assert after.crs == before.crs is not None and after.transform == before.transform is not None
    (mask,) = (tmp_path / "out" / "cloud_masks").glob("a.*[!l]")
    check_same_grid(before, read_raster_info(mask))
    assert read_raster_info(mask).crs == before.crs


def test_the_order_of_bands_and_the_bands_beyond_are_kept(tmp_path):
    bands = ground(4)
    bands[2] += 100  # red
    meanings = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)
    path = write(tmp_path / "clear" / "a.tif", bands, meanings=meanings, photometric="minisblack")
    done, mask = one(tmp_path, path)
    after, kept = read(done)
    assert kept == meanings
    assert np.array_equal(after[3], bands[3])
    clear = mask == 0
    assert (after[:3, mask > 50] != bands[:3, mask > 50]).mean() > 0.9
    assert after[2, clear].mean() > after[0, clear].mean() + 50


@pytest.mark.parametrize("nodata", [0, 255])
def test_no_data_stays_no_data_and_nothing_else_becomes_it(tmp_path, nodata):
    bands = ground()
    bands[:, :20, :30] = nodata
    path = write(tmp_path / "clear" / "a.tif", bands, nodata=nodata)
    done, mask = one(tmp_path, path, "--cover", 1, 1)
    assert set(read_raster_info(done).nodata) == {nodata}
    assert (read(done)[0][:, :20, :30] == nodata).all() and not mask[:20, :30].any()
    assert np.array_equal(read_rgb(done)[1], read_rgb(path)[1])


@pytest.mark.parametrize("nodata", [0, 7, 255])
def test_a_cloud_as_white_as_no_data_stays_data(tmp_path, monkeypatch, nodata):
    bands = ground()
    bands[:, :20, :30] = nodata
    path = write(tmp_path / "clear" / "a.tif", bands, nodata=nodata)

    def cover_all(image, valid, seed):
        image = np.where(valid[..., None], np.uint8(nodata), image)
        return CloudyImage(image, valid.astype(np.float32), np.zeros(valid.shape, np.float32))

    monkeypatch.setattr(cloudy, "build_clouds", lambda *arguments: cover_all)
    done, _ = one(tmp_path, path)
    image, valid = read_rgb(done)
    assert np.array_equal(valid, read_rgb(path)[1])
    assert (abs(image[valid].astype(int) - nodata) <= 1).all()


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_alpha_is_kept(tmp_path, suffix):
    bands = ground(4)
    bands[3] = 255
    bands[3, :20, :30] = 0
    path = write(tmp_path / "clear" / f"a{suffix}", bands, meanings=(*RGB, ColorInterp.alpha))
    done, mask = one(tmp_path, path, "--cover", 1, 1)
    after, meanings = read(done)
    assert meanings == (*RGB, ColorInterp.alpha) and np.array_equal(after[3], bands[3])
    assert np.array_equal(after[:, :20, :30], bands[:, :20, :30]) and not mask[:20, :30].any()


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_a_mask_beside_the_bands_is_kept(tmp_path, suffix):
    valid = np.ones((70, 80), bool)
    valid[:20, :30] = False
    path = write(tmp_path / "clear" / f"a{suffix}", ground(), mask=valid)
    done, _ = one(tmp_path, path)
    assert np.array_equal(read_rgb(done)[1], valid)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("dtype, settings", [(np.uint8, ()), (np.uint16, ("--rgb-range", 0, 2550))])
def test_grey_images_become_rgb_of_their_type(tmp_path, suffix, dtype, settings):
    grey = ground(1).astype(dtype) * (1 if dtype is np.uint8 else 10)
    grey[:, :20, :30] = 0
    path = write(tmp_path / "clear" / f"a{suffix}", grey, nodata=0)
    done, mask = one(tmp_path, path, *settings, "--cover", 0.3, 0.4)
    after, meanings = read(done)
    assert after.shape == (3, 70, 80) and after.dtype == dtype and meanings == RGB
    assert set(read_raster_info(done).nodata) == {0}
    dark = (mask == 0) & (after == grey).all(axis=0)
    assert dark.mean() > 0.2 and (after[:, mask > 170] > 0.4 * 255 * (1 if dtype is np.uint8 else 10)).all()
    value_range = settings[1:]
    assert np.array_equal(read_rgb(done, value_range=value_range)[1], read_rgb(path, value_range=value_range)[1])


def test_a_palette_becomes_rgb_and_what_has_no_data_transparent(tmp_path):
    indices = (ground(1) % 4).astype(np.uint8)
    path = write(tmp_path / "clear" / "a.tif", indices, nodata=3, photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {index: (20 * index, 10, 30, 255) for index in range(4)})
    done, mask = one(tmp_path, path, "--cover", 0.3, 0.4)
    after, meanings = read(done)
    assert meanings == (*RGB, ColorInterp.alpha)
    clear = (mask == 0) & (indices[0] == 2) & (after[0] == 40)
    assert clear.any() and (after[1:3, clear] == [[10], [30]]).all()
    assert np.array_equal(read_rgb(done)[1], indices[0] != 3)


def test_a_mask_and_a_nodata_value_are_both_kept(tmp_path):
    bands, valid = ground(), np.ones((70, 80), bool)
    bands[:, 40:50] = 0
    valid[:20, :30] = False
    path = write(tmp_path / "clear" / "a.tif", bands, mask=valid, nodata=0)
    done, _ = one(tmp_path, path, "--cover", 1, 1)
    expected = valid.copy()
    expected[40:50] = False
    assert np.array_equal(read_rgb(done)[1], expected) and np.array_equal(read_rgb(path)[1], expected)


SENTINEL = {"scales": (1e-4,) * 5, "offsets": (-0.1,) * 5, "descriptions": ("B1", "B2", "B3", "B4", "B8 near infrared")}


@pytest.mark.parametrize("dtype, low, high, extra", [
    (np.uint16, 0, 2550, {}),
    (np.uint16, 0.0, 0.255, SENTINEL),
    (np.int16, -100, 2450, {}),
    (np.float32, 0.0, 1.0, {}),
])  # fmt: skip
def test_files_of_other_types_stay_in_their_type(tmp_path, capsys, dtype, low, high, extra):
    """Only pixels under clouds change; read again with the same range it is the cloudy image."""
    scale, offset = (extra["scales"][0], extra["offsets"][0]) if extra else (1, 0)
    bands = (((low + ground(5) / 255 * (high - low)) - offset) / scale).astype(dtype)
    bands[:, :20, :30] = 0
    path = write(tmp_path / "clear" / "a.tif", bands, nodata=0, **GRID)
    with rasterio.open(path, "r+") as file:
        for key, value in extra.items():
            setattr(file, key, value)
    run(path.parent, tmp_path / "none", status=1)
    assert f"a.tif holds {np.dtype(dtype)} values; set INPUT.RGB.RANGE" in capsys.readouterr().err
    done, mask = one(tmp_path, path, "--rgb-range", low, high, "--rgb-bands", 4, 3, 2, "--cover", 0.4, 0.6, "--seed", 1)
    after, _ = read(done)
    assert after.dtype == dtype and read_raster_info(done).transform == GRID["transform"]
    assert np.array_equal(after[[0, 4]], bands[[0, 4]]) and np.array_equal(after[:, :20, :30], bands[:, :20, :30])
    with rasterio.open(done) as file, rasterio.open(path) as original:
        assert file.scales == original.scales and file.offsets == original.offsets
        assert file.descriptions == original.descriptions and set(file.nodatavals) == {0}
    settings = {"bands": (4, 3, 2), "value_range": (low, high)}
    (image, valid), (expected, expected_valid) = read_rgb(done, **settings), read_rgb(path, **settings)
    assert np.array_equal(valid, expected_valid) and not valid.all()
    same = (image == expected).all(axis=2)
    assert np.array_equal(after[1:4, same], bands[1:4, same])
    below = (mask == 0) & valid
    assert (same & below).any() and (image[below] <= expected[below]).all()  # there is shadow at most
    assert image[mask > 170].mean() > expected[mask > 170].mean() + 30


def test_a_shadow_as_dark_as_no_data_stays_dark_data(tmp_path, monkeypatch):
    """In a file of fractions the next whole number would be white."""
    bands = (ground() / 255).astype(np.float32)
    bands[:, :20, :30] = 0
    path = write(tmp_path / "clear" / "a.tif", bands, nodata=0)

    def darken(image, valid, seed):
        return CloudyImage(np.zeros_like(image), *[np.zeros(valid.shape, np.float32)] * 2)

    monkeypatch.setattr(cloudy, "build_clouds", lambda *arguments: darken)
    done, _ = one(tmp_path, path, "--rgb-range", 0, 1)
    image, valid = read_rgb(done, value_range=(0, 1))
    assert np.array_equal(valid, read_rgb(path, value_range=(0, 1))[1]) and image.max() <= 1


def test_a_range_for_other_files_leaves_those_of_8_bits(tmp_path):
    """A folder may hold both."""
    for name, bands in (("a", ground()), ("b", ground().astype(np.uint16) * 10)):
        write(tmp_path / "clear" / f"{name}.tif", bands)
    run(tmp_path / "clear", tmp_path / "out", "--rgb-range", 0, 2550, "--cover", 0.3, 0.4, "--seed", 2)
    run(tmp_path / "clear", tmp_path / "plain", "--cover", 0.3, 0.4, "--seed", 2, status=1)
    first, second = (read(tmp_path / "out" / "rgb_clouds" / f"{name}.tif")[0] for name in "ab")
    assert first.dtype == np.uint8 and second.dtype == np.uint16
    assert np.array_equal(first, read(tmp_path / "plain" / "rgb_clouds" / "a.tif")[0])
    mask = read(tmp_path / "out" / "cloud_masks" / "a.tif")[0][0]
    untouched = (first == ground()).all(axis=0)
    assert untouched.mean() > 0.2 and (first[:, mask > 170] > 120).all()


def test_a_file_that_is_stored_the_other_way_up_gets_the_same_clouds(tmp_path):
    turned = {"crs": GRID["crs"], "transform": GRID["transform"] @ rasterio.Affine(1, 0, 0, 0, -1, 70)}
    write(tmp_path / "north" / "a.tif", ground(), **GRID)
    write(tmp_path / "south" / "a.tif", ground()[:, ::-1], **turned)
    results = []
    for name in ("north", "south"):
        run(tmp_path / name, tmp_path / f"{name}_out")
        results.append(read_rgb(tmp_path / f"{name}_out" / "rgb_clouds" / "a.tif")[0])
        check_same_grid(
            read_raster_info(tmp_path / f"{name}_out" / "rgb_clouds" / "a.tif"),
            read_raster_info(tmp_path / name / "a.tif"),
        )
    assert np.array_equal(*results)


# What is wrong is said in one sentence


def test_broken_files_are_named_and_the_others_done(clear, tmp_path, capsys):
    (clear / "broken.tif").write_bytes(b"II*\0")
    cut = (clear / "city" / "b.png").read_bytes()
    (clear / "cut.png").write_bytes(cut[: len(cut) // 2])
    run(clear, tmp_path / "out", status=1)
    captured = capsys.readouterr()
    assert "broken.tif cannot be read" in captured.err and "cut.png cannot be read" in captured.err
    assert "2 of 5 images cannot be read" in captured.err and "3 images in rgb_clouds" in captured.out
    assert "rgb_clouds/cut.png" not in contents(tmp_path / "out")
    write(clear / "cut.png", ground())
    (clear / "broken.tif").unlink()
    run(clear, tmp_path / "out")
    assert "rgb_clouds/cut.png" in contents(tmp_path / "out")
    assert not json.loads((tmp_path / "out" / "manifest_clouds.json").read_text())["dropped"]


def test_a_dry_run_writes_nothing(clear, tmp_path, capsys):
    (clear / "broken.tif").write_bytes(b"II*\0")
    run(clear, tmp_path / "out", "--dry-run", status=1)
    assert not (tmp_path / "out").exists()
    captured = capsys.readouterr()
    assert "3 images would get clouds" in captured.out and "broken.tif cannot be read" in captured.err


def test_other_settings_need_another_folder(clear, tmp_path, capsys):
    out = tmp_path / "out"
    run(clear, out)
    before = contents(out)
    run(clear, out, "--seed", 1, status=2)
    assert "other settings (seed 0 instead of 1)" in capsys.readouterr().err and contents(out) == before


def test_files_of_others_are_left_alone(clear, tmp_path, capsys):
    theirs = write(tmp_path / "out" / "rgb_clouds" / "a.tif", ground())
    before = theirs.read_bytes()
    run(clear, tmp_path / "out", status=2)
    assert "not the journal" in capsys.readouterr().err and theirs.read_bytes() == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--cover", 0.6, 0.4), "cloud cover is"),
        (("--seed", -1), "The seed is -1"),
        (("--workers", 0), "--workers is 0"),
        (("--rgb-range", 5, 1), "low below high"),
        (("--kind", "cirrus"), "invalid choice: 'cirrus'"),
    ],
)
def test_wrong_arguments(clear, tmp_path, capsys, arguments, message):
    run(clear, tmp_path / "out", *arguments, status=2)
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_wrong_folders(clear, tmp_path, capsys):
    write(clear / "a.png", ground())
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for words, message in (
        ((tmp_path / "absent", tmp_path / "out"), "absent is not a folder"),
        ((tmp_path / "empty", tmp_path / "out"), "holds no PNG, JPEG or GeoTIFF"),
        ((clear, clear / "out"), "choose another output folder"),
        ((clear / "city", tmp_path / "file" / "out"), "is a file, not a folder"),
        ((clear, tmp_path / "out"), "have one name"),
    ):
        run(*words, status=2)
        assert message in capsys.readouterr().err


def test_without_the_library_one_sentence_says_so(clear, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "satellite_cloud_generator", None)
    run(clear, tmp_path / "out", "--kind", "thin", status=2)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "pip install 'mm_ovseg[clouds]'" in error and error.count("\n") == 1


def test_without_a_kind_it_draws_a_picture_to_choose_by(cloud_generator, tmp_path, capsys):
    rows, columns = np.mgrid[:40, :60]
    (tmp_path / "clear").mkdir()
    for name in ("a", "b", "c"):
        image = np.stack([rows * 4, columns * 3, rows + columns], axis=2).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "clear" / f"{name}.png")
    tool = load_tool("add_clouds")
    for name in ("first.png", "second.png"):
        tool.main([str(tmp_path / "clear"), str(tmp_path / name)])
    assert "2 images under thin, thick, varied, fractal clouds" in capsys.readouterr().out
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    sheet = np.asarray(Image.open(tmp_path / "first.png").convert("RGB")).astype(int)
    panels = np.array_split(sheet[40 : sheet.shape[0] // 2], 5, axis=1)
    shade = [panel[..., 2].mean() for panel in panels]
    assert all(abs(cloudy - shade[0]) > 2 for cloudy in shade[1:])  # each kind changes the image
    with pytest.raises(SystemExit):
        tool.main([str(tmp_path / "clear"), str(tmp_path / "folder")])
    assert "Give --kind to write to" in capsys.readouterr().err
