"""The commands of docs/YOUR_OWN_DATA.md, one after the other as they stand there, on folders as people have them."""

import json
import re
import shlex
import shutil

import matplotlib.image
import numpy as np
import pytest

from tests.conftest import ROOT, run_cli
from tests.data.check.folders import write_palette_folder, write_sentinel_folder

REAL_DATA = ROOT.parent / "shared" / "realdata"
FOLDER = "/data/flood"  # as the page calls it
BRIEF = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2"]


def commands_of_the_page():
    text = (ROOT / "docs" / "YOUR_OWN_DATA.md").read_text(encoding="utf-8")
    return [
        shlex.split(line)
        for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
        for line in block.splitlines()
    ]


def copied(name):
    def copy(folder):
        if not (REAL_DATA / name).is_dir():
            pytest.skip(f"{REAL_DATA / name} is not there")
        shutil.copytree(REAL_DATA / name, folder)

    return copy


@pytest.fixture
def run(tmp_path, monkeypatch, forget_datasets):
    """A function ``(words of a command) -> exit status``, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(words):
        forget_datasets()  # as a new process does
        try:
            run_cli(*words[1:], *(BRIEF if words[1] == "train" else ()))
        except SystemExit as stopped:
            return stopped.code
        return 0

    return call


@pytest.mark.parametrize("make, sar_scale, classes, held_out", [
    (write_palette_folder, "8bit", "building", 1),
    (write_sentinel_folder, "db", "class 1", 1),
    (copied("oemsar_figure"), "8bit", "building", 1),
    (copied("terramind"), "db", "class 1", 1),
], ids=["palette", "sentinel", "oemsar_figure", "terramind"])  # fmt: skip
def test_the_commands_of_the_page(run, tmp_path, make, sar_scale, classes, held_out):
    folder = tmp_path / "data" / "flood"
    make(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    commands = [[word.replace(FOLDER, str(folder)) for word in words] for words in commands_of_the_page()]
    names = [["dataset", "new"], ["dataset", "check"], ["dataset", "preview"], ["train", "--config-file"]]
    assert [words[:3] for words in commands] == [["mm-ovseg", *words] for words in names]
    assert [run(words) for words in commands] == [0, 0, 0, 0]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert classes in json.loads((tmp_path / "datasets" / "flood_classes.json").read_text())["classes"]
    assert len((tmp_path / "datasets" / "flood_val.txt").read_text().split()) == held_out
    for sheet in (tmp_path / "datasets" / "flood_preview.png", tmp_path / "flood_val.png"):
        assert len(np.unique(matplotlib.image.imread(sheet).reshape(-1, 4), axis=0)) > 500
    output = tmp_path / "output" / "flood"
    assert f"SCALE: {sar_scale}" in (output / "config.yaml").read_text()
    assert (output / "model_final.pth").is_file()
    assert (output / "inference" / "flood_val" / "sem_seg_evaluation.json").is_file()
