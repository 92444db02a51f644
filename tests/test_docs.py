"""The Python code of the documentation runs as it stands, and the commands that it names exist."""

import re

import pytest
import torch
from detectron2.modeling import build_model

from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.cli.main import COMMANDS
from mm_ovseg.engine import load_config
from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working folder with the configs, and with the files that the earlier steps of the document leave."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "projects").symlink_to(ROOT / "projects")
    write_synthetic_dataset(tmp_path / "datasets" / "synthetic", num_train=0, num_val=1, size=128)
    weights = tmp_path / "output" / "quickstart" / "mm_ovseg" / "model_final.pth"
    weights.parent.mkdir(parents=True)
    torch.manual_seed(0)
    model = build_model(load_config("configs/quickstart/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"]))
    torch.save({"model": model.state_dict()}, weights)
    return tmp_path


def test_python_of_getting_started(project):
    text = (ROOT / "docs" / "GETTING_STARTED.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(compile(block, "GETTING_STARTED.md", "exec"), names)
    assert names["prediction"].class_map.shape == (128, 128) and names["prediction"].scores.shape == (5, 128, 128)
    assert names["predictor"].class_names == names["answer"].classes == ("burnt forest", "bare ground")
    made = {path.name for path in (project / "output" / "scene").iterdir()}
    assert made == {"map.tif", "map.qml", "map.json", "map_coverage.tif", "map_coverage.qml", "map_confidence.tif"}
    assert [area["name"] for area in names["report"]["classes"]] == list(names["scenes"].predictor.class_names)


FOLDERS = (".", "configs", "datasets", "demo", "docs", "projects", "tests")
DOCUMENTS = sorted(
    {path for folder in FOLDERS for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")}
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_and_scripts_of_the_documents_exist(path):
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w./-])mm-ovseg ((?:dataset )?[a-z]+)", text)
    assert not [name for name in named if name not in COMMANDS and name != "dataset"]
    scripts = re.findall(r"\b(?:tools|demo|datasets|projects|tests|mm_ovseg)/[\w/]+\.py\b|\btrain_net\.py\b", text)
    assert not [script for script in scripts if not (ROOT / script).is_file()]
