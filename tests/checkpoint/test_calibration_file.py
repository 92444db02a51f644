"""The file that makes the scores of some weights probabilities."""

import json

import pytest

from mm_ovseg.checkpoint.calibration_file import calibration_beside, read_calibration, write_calibration
from mm_ovseg.checkpoint.weights_file import SHIPPED_WEIGHTS
from mm_ovseg.decision import Calibration
from mm_ovseg.errors import CheckpointError

CALIBRATION = Calibration(0.5, -0.25, 0.125, {"city": 0.5, "water": 0.75}, margin=1.5)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model_final.pth"
    path.write_bytes(b"weights")
    return path


def test_a_calibration_is_read_as_it_was_written(weights, tmp_path):
    path = calibration_beside(weights)
    assert path == tmp_path / "model_final.calibration.json"
    write_calibration(path, CALIBRATION, weights, {"fitted_on": {"datasets": ["a"]}})
    assert read_calibration(path, weights) == CALIBRATION
    content = json.loads(path.read_text())
    assert content["weights"]["path"] == str(weights) and content["fitted_on"] == {"datasets": ["a"]}


def test_where_the_file_is():
    assert calibration_beside("quickstart://") == SHIPPED_WEIGHTS["quickstart://"].with_suffix(".calibration.json")
    assert calibration_beside("hf://organisation/repository/model.pth") is None


def test_of_other_weights_it_is_refused(weights):
    path = calibration_beside(weights)
    write_calibration(path, CALIBRATION, weights, {})
    weights.write_bytes(b"others")
    with pytest.raises(CheckpointError, match="was fitted with other weights than .*model_final.pth; write it again"):
        read_calibration(path, weights)


@pytest.mark.parametrize("change", [
    {"scale": 0}, {"margin": -1}, {"scale": float("nan")}, {"scale": "steep"}, {"bias": None}, {"min_score": 1.5},
    {"min_scores": {"city": -0.1}}, {"min_scores": ["city"]}, {"min_scores": {"city": float("nan")}}, {"weights": None},
])  # fmt: skip
def test_what_is_malformed_is_refused(weights, change):
    path = calibration_beside(weights)
    write_calibration(path, CALIBRATION, weights, {})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match="is not a calibration; write it again with mm-ovseg calibrate"):
        read_calibration(path, weights)


def test_what_is_no_json_or_missing_is_refused(weights, tmp_path):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "torn.json").write_text('{"scale": 1')
    for name in ("list.json", "torn.json"):
        with pytest.raises(CheckpointError, match=f"{name} is not a calibration"):
            read_calibration(tmp_path / name, weights)
    with pytest.raises(CheckpointError, match="missing.json cannot be read"):
        read_calibration(tmp_path / "missing.json", weights)
