"""`mm-ovseg dataset clouds` as a user runs it."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from mm_ovseg.data import cloudy_images
from tests.cli.cloudy_files import GRID, RGB, contents, ground, read, run, write
from tests.conftest import run_cli, run_cli_process


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
    assert manifest["settings"]["seed"] == 3 and manifest["skipped"] == []
    assert [entry["name"] for entry in manifest["files"]] == ["a", "city/b", "city/c"]
    first = manifest["files"][0]
    assert first["image"]["file"] == "rgb_clouds/a.tif" and len(first["image"]["sha256"]) == 64
    opacity = read(out / "cloud_masks" / "a.tif")[0] / 255
    assert first["mean_opacity"] == pytest.approx(opacity.mean(), abs=2e-3)
    assert first["covered"] == pytest.approx((opacity >= 0.1).mean(), abs=0.02)
    assert len({entry["seed"] for entry in manifest["files"]}) == 3


def test_the_seed_and_the_name_decide_not_order_workers_or_company(clear, tmp_path):
    run(clear, tmp_path / "one", "--seed", 3)
    words = [clear, tmp_path / "two", "--kind", "fractal", "--seed", "3", "--workers", "2"]
    assert run_cli_process("dataset clouds", *words, env={"OMP_NUM_THREADS": "2"}).returncode == 0
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
    build = cloudy_images.build_clouds
    monkeypatch.setattr(cloudy_images, "build_clouds", lambda *arguments: drawn.append(arguments) or build(*arguments))
    run(clear, out)
    assert contents(out) == whole and not half_written.exists()
    assert len(drawn) == 1 + 2  # once to check the settings
    assert "3 images (1 of them already done)" in capsys.readouterr().out


def test_a_changed_image_is_done_again(clear, tmp_path):
    out = tmp_path / "out"
    run(clear, out)
    before = contents(out)
    write(clear / "a.tif", ground(seed=9), meanings=RGB, photometric="rgb", **GRID)
    run(clear, out)
    after = contents(out)
    differing = {name for name in after if before[name] != after[name]}
    assert differing == {"rgb_clouds/a.tif", "manifest_clouds.json"}  # its name, and so its clouds, are the same


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
    assert not json.loads((tmp_path / "out" / "manifest_clouds.json").read_text())["skipped"]


def test_a_dry_run_writes_nothing(clear, tmp_path, capsys):
    (clear / "broken.tif").write_bytes(b"II*\0")
    run(clear, tmp_path / "out", "--dry-run", status=1)
    assert not (tmp_path / "out").exists()
    captured = capsys.readouterr()
    assert "3 images would get 'fractal' clouds" in captured.out and "broken.tif cannot be read" in captured.err


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
    assert "not their journal" in capsys.readouterr().err and theirs.read_bytes() == before


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
        ((tmp_path / "empty", tmp_path / "out"), "has no PNG, JPEG or GeoTIFF"),
        ((clear, clear / "out"), "choose another output folder"),
        ((clear / "city", tmp_path / "file" / "out"), "is a file, not a folder"),
        ((clear, tmp_path / "out"), "have the same name"),
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
    for name in ("first.png", "second.png"):
        run_cli("dataset clouds", tmp_path / "clear", tmp_path / name)
    assert "2 images under thin, thick, varied, fractal clouds" in capsys.readouterr().out
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    sheet = np.asarray(Image.open(tmp_path / "first.png").convert("RGB")).astype(int)
    panels = np.array_split(sheet[40 : sheet.shape[0] // 2], 5, axis=1)
    shade = [panel[..., 2].mean() for panel in panels]
    assert all(abs(cloudy - shade[0]) > 2 for cloudy in shade[1:])  # each kind changes the image
    with pytest.raises(SystemExit):
        run_cli("dataset clouds", tmp_path / "clear", tmp_path / "folder")
    assert "Give --kind to write to" in capsys.readouterr().err
