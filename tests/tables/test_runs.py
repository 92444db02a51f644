"""What a run is, by its config: its method, size and setting."""

import json

import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.tables import find_runs
from tests.conftest import ROOT
from tests.tables.written_runs import (
    STAGE_1,
    write_config,
    write_evaluation,
    write_measurement,
    write_run,
    write_weights,
)

B, L = "ViT-B/16", "ViT-L/14"
SK = "DDHR-SK"
LARGE = ["MODEL.CLIP.NAME", "ViT-L-14-336-quickgelu"]
SIBLINGS = {
    "catseg_vitb16_384": "CAT-Seg",
    "ebseg_vitb16_640": "EBSeg",
    "gsnet_vitb16_384": "GSNet",
    "segearth_ov_vitb16": "SegEarth-OV",
    "fgaseg_vitb16_384": "FGAseg",
}
CONFIGS = sorted((ROOT / "configs" / "siblings").glob("*.yaml"))


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Weights in configs are relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only_line(tmp_path):
    runs = find_runs(tmp_path)
    assert not runs.scores and not runs.measured
    [line] = runs.left_out
    return line


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_another_method_is_known_by_its_architecture(tmp_path, config):
    write_run(tmp_path / "misleading" / "mm_ovseg", SK, base=config)
    assert find_runs(tmp_path).scores.keys() == {(SIBLINGS[config.stem], B, SK)}


@pytest.mark.parametrize("base,overrides,expected", [
    ("mm_ovseg_vitb16_384.yaml", STAGE_1, ("MM-OVSeg", B, SK)),
    ("mm_ovseg_vitl14_336.yaml", STAGE_1, ("MM-OVSeg", L, SK)),
    ("siblings/catseg_vitb16_384.yaml", LARGE, ("CAT-Seg", L, SK)),
    ("siblings/catseg_vitb16_384.yaml", ["MODEL.CLIP.NAME", "ViT-B-16"], ("CAT-Seg", B, SK)),
    ("ablations/optical_only.yaml", [], ("GSNet", B, SK)),
    ("ablations/encoder_clip.yaml", [], ("CLIP only", B, SK)),
    ("ablations/encoder_dino.yaml", [], ("MM-OVSeg", B, SK)),
    ("ablations/encoder_both.yaml", [], ("both", B, SK)),
])  # fmt: skip
def test_sizes_and_encoders_make_the_row(tmp_path, base, overrides, expected):
    write_run(tmp_path, SK, *overrides, base=base)
    runs = find_runs(tmp_path)
    assert list(runs.scores) == [expected] and not runs.left_out


def test_a_run_may_have_several_evaluations_and_the_training_set_counts(tmp_path):
    both = ["DATASETS.TEST", ("ddhr_sk_val", "ddhr_ch_val")]
    write_config(tmp_path / "a", "settings/ddhr_sk.yaml", *STAGE_1, *both)
    for dataset in both[1]:
        write_evaluation(tmp_path / "a", dataset)
    write_config(tmp_path / "b", "settings/ddhr_sk.yaml", *STAGE_1, "DATASETS.TRAIN", ("pie_cloud_train",))
    write_evaluation(tmp_path / "b", "ddhr_sk_val")
    runs = find_runs(tmp_path)
    assert runs.scores.keys() == {("MM-OVSeg", B, SK), ("MM-OVSeg", B, "DDHR-SK → CH")}
    [line] = runs.left_out
    assert "b/inference/ddhr_sk_val/sem_seg_evaluation.json is left out" in line and "pie_cloud_train" in line


@pytest.mark.parametrize("place", ["MODEL.WEIGHTS", "beside"])
@pytest.mark.parametrize("changed,method", [(0.0, "none"), (0.2, "none"), (0.8, "MM-OVSeg"), (1.0, "MM-OVSeg")])
def test_the_weights_tell_whether_the_sar_encoder_is_of_stage_1(tmp_path, place, changed, method):
    """Configs of an evaluation do not: the SAR encoder comes with the whole model."""
    path = tmp_path / ("released.pth" if place == "MODEL.WEIGHTS" else "run/model_0000001.pth")
    write_weights(path, "dino", changed)
    write_run(tmp_path / "run", SK, *(["MODEL.WEIGHTS", str(path)] if place == "MODEL.WEIGHTS" else []))
    assert find_runs(tmp_path).scores.keys() == {(method, B, SK)}


def test_without_weights_it_is_unknown(tmp_path):
    write_run(tmp_path, SK)
    assert "is unknown: keep a checkpoint of the run, model_*.pth, beside its config.yaml." in only_line(tmp_path)
    write_run(tmp_path, SK, "MODEL.WEIGHTS", "gone.pth")
    assert "is unknown without its weights (The weights file gone.pth does not exist" in only_line(tmp_path)
    write_weights(tmp_path / "clip.pth", "clip", 1)
    write_run(tmp_path, SK, "MODEL.WEIGHTS", "clip.pth")
    assert f"is unknown: {tmp_path}/clip.pth has none." in only_line(tmp_path)


def test_copies_belong_to_the_encoder_study_in_its_setting_alone(tmp_path):
    write_weights(tmp_path / "model_final.pth", "dino", 0)
    write_run(tmp_path, "PIE-cloud")
    assert "the encoder study (none) is about ViT-B/16 in setting DDHR-SK." in only_line(tmp_path)
    write_run(tmp_path, SK, base="mm_ovseg_vitl14_336.yaml")
    (tmp_path / "inference" / "pie_cloud_val" / "sem_seg_evaluation.json").unlink()
    assert "the encoder study (none)" in only_line(tmp_path)
    write_weights(tmp_path / "model_final.pth", "clip", 0.1)
    write_run(tmp_path, SK, "MODEL.CLIP_SAR.WEIGHTS", "", base="ablations/encoder_clip.yaml")
    assert "a SAR encoder is the copy" in only_line(tmp_path)


def test_other_losses_of_stage_1_are_no_row(tmp_path):
    write_run(tmp_path / "run", SK, base="ablations/loss_l1.yaml")
    assert "output/ablations/cmu_loss_l1/model_final.pth, belongs to the loss study." in only_line(tmp_path)
    write_config(tmp_path / "cmu", "cmu_dino_vitb8.yaml", "CMU.LOSS", "mse")
    write_run(tmp_path / "run", SK, *STAGE_1)
    assert "cmu/model_final.pth, belongs to the loss study." in only_line(tmp_path)
    write_config(tmp_path / "cmu", "cmu_dino_vitb8.yaml")
    assert find_runs(tmp_path).scores.keys() == {("MM-OVSeg", B, SK)}


@pytest.mark.parametrize("overrides,reason", [
    (["MODEL.CLIP.NAME", "ViT-quickstart-16"], "MMOVSeg with ViT-quickstart-16, vit_base_patch8_224.dino, vit_base"),
    (["MODEL.DENSE_ENCODER.NAME", "vit_base_patch16_224.dino"], "is none of the paper's models."),
    (LARGE, "is none of the paper's models."),
    (["MODEL.DENSE_ENCODER_SAR.ENABLED", "False", "MODEL.DENSE_ENCODER.ENABLED", "False",
      "MODEL.CLIP_SAR.ENABLED", "True"], "is none of the paper's models."),
    (["DATASETS.TEST", ("pie_cloud_val",)], "is of another run, which was not evaluated on ddhr_sk_val."),
])  # fmt: skip
def test_what_is_none_of_the_papers_is_listed(tmp_path, overrides, reason):
    write_run(tmp_path, SK, *STAGE_1, *overrides)
    assert reason in only_line(tmp_path)


def test_other_unseen_classes_are_another_setting(tmp_path):
    write_run(tmp_path, SK, *STAGE_1)
    write_evaluation(tmp_path, "ddhr_sk_val", unseen_classes=["water"])
    assert "with such seen and unseen classes, is in none of the six settings." in only_line(tmp_path)


def test_an_evaluation_without_a_usable_config_is_listed(tmp_path):
    write_evaluation(tmp_path / "run", "ddhr_sk_val")
    assert "it is not inference/*/sem_seg_evaluation.json beside a config.yaml." in only_line(tmp_path)
    (tmp_path / "run" / "config.yaml").write_text("DATASETS: {TEST: null}")
    assert "is of another run" in only_line(tmp_path)
    (tmp_path / "run" / "config.yaml").write_text("MY: key")
    assert "The config key MY, given in" in only_line(tmp_path)
    (tmp_path / "run" / "inference" / "ddhr_sk_val" / "sem_seg_evaluation.json").rename(
        tmp_path / "sem_seg_evaluation.json"
    )
    assert "it is not inference/*" in only_line(tmp_path)


def test_two_runs_of_one_cell_are_an_error(tmp_path):
    for seed in "ab":
        write_run(tmp_path / seed, SK, *STAGE_1)
    with pytest.raises(DataError, match=r"/a/inf.* and .*/b/inf.* are both MM-OVSeg, ViT-B/16, DDHR-SK; move one"):
        find_runs(tmp_path)


def test_measurements_are_rows_of_the_efficiency_table(tmp_path):
    for row in ("mm_ovseg", "gsnet", "cmu"):
        write_measurement(tmp_path / row / "any.json", row)
    write_measurement(tmp_path / "quickstart.json", "quickstart")
    (tmp_path / "metrics.json").write_text('{"loss": 1}\n{"loss": 2}\n')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").symlink_to(tmp_path / "nothing")
    runs = find_runs(tmp_path)
    assert runs.measured.keys() == {"full MM-OVSeg", "GSNet", "CMU module"}
    assert runs.measured["GSNet"].device == "a GPU for gsnet"
    assert runs.measured["GSNet"].values == pytest.approx((400, 50.1, None, 0.015, 334.294417))
    [line] = runs.left_out
    assert line == f"{tmp_path}/quickstart.json is left out: quickstart is not a row of the efficiency table."
    write_measurement(tmp_path / "again.json", "gsnet")
    with pytest.raises(DataError, match=r"again.json and .*/gsnet/any.json are both GSNet"):
        find_runs(tmp_path)


@pytest.mark.parametrize("changes", [
    {"encoders": None}, {"encoders": []}, {"machine": 3}, {"parameters": {}}, {"training": 1},
    {"inference": {"seconds_per_pair": "fast"}}, {"parameters": {"total": {"all": "many"}}},
])  # fmt: skip
def test_a_measurement_of_another_form_is_one_sentence(tmp_path, changes):
    write_measurement(tmp_path / "a.json", "gsnet", **changes)
    with pytest.raises(DataError, match=r"a\.json is not as mm-ovseg efficiency writes it; measure again, or remove"):
        find_runs(tmp_path)


def test_a_malformed_evaluation_is_an_error(tmp_path):
    write_run(tmp_path, SK, *STAGE_1)
    path = tmp_path / "inference" / "ddhr_sk_val" / "sem_seg_evaluation.json"
    path.write_text(json.dumps({"dataset": "ddhr_sk_val"}))
    with pytest.raises(DataError, match="is not an evaluation of semantic segmentation"):
        find_runs(tmp_path)
