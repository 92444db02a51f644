from pathlib import Path

import pytest

from mm_ovseg.engine import config_inputs
from mm_ovseg.engine.calibration import find_calibration, load_calibration
from mm_ovseg.errors import CheckpointError


def test_the_calibration_of_a_config(make_cfg, tmp_path):
    weights, other = tmp_path / "model.pth", tmp_path / "run" / "model_final.pth"
    cfg = make_cfg("configs/quickstart/mm_ovseg.yaml", "MODEL.WEIGHTS", str(weights))
    assert find_calibration(cfg) is None and load_calibration(cfg) is None
    beside = tmp_path / "model.calibration.json"
    beside.write_text("{}")
    assert find_calibration(cfg) == beside and beside in config_inputs(cfg)["their calibration"]
    assert find_calibration(cfg, str(other)) is None  # the checkpoint that a run resumes has its own
    with pytest.raises(CheckpointError, match="is not a calibration"):
        load_calibration(cfg)
    cfg.MODEL.CALIBRATION = "none"
    assert find_calibration(cfg) is None
    cfg.MODEL.CALIBRATION = "mine.json"
    assert find_calibration(cfg) == Path("mine.json")
    cfg.MODEL.WEIGHTS = ""
    assert find_calibration(cfg) is None
    with pytest.raises(CheckpointError, match="MODEL.CALIBRATION is mine.json, but MODEL.WEIGHTS"):
        load_calibration(cfg)
    cfg.merge_from_list(["MODEL.WEIGHTS", "hf://organisation/repository/model.pth", "MODEL.CALIBRATION", ""])
    assert find_calibration(cfg) is None
