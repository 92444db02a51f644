import json
import sys

import pytest
import torch

from mm_ovseg.efficiency import machine
from mm_ovseg.efficiency.report import paper_rows
from mm_ovseg.modeling.backbone.image_encoder import ImageEncoder
from tests.conftest import ROOT, run_cli

QUICKSTART = ROOT / "configs" / "quickstart"
SMALL = ["MODEL.CLIP.IMAGE_SIZE", "96", "MODEL.DENSE_ENCODER.IMAGE_SIZE", "96"]


@pytest.fixture
def efficiency(monkeypatch, tmp_path, capsys):
    """A function ``*arguments -> (report, Markdown)`` for one run of a quickstart model on the CPU."""
    monkeypatch.setattr(machine, "MATRIX_RUNS", 2)

    def run(*arguments, config="mm_ovseg.yaml", overrides=()):
        files = {name: tmp_path / "made" / f"efficiency.{name}" for name in ("json", "markdown")}
        shared = ["--config-file", str(QUICKSTART / config), "--device", "cpu", "--runs", "1"]
        shared += [word for name, file in files.items() for word in (f"--{name}", str(file))]
        run_cli("efficiency", *shared, *arguments, "--opts", *SMALL, *overrides)
        markdown = files["markdown"].read_text(encoding="utf-8")
        assert capsys.readouterr().out == markdown
        return json.loads(files["json"].read_text()), markdown

    return run


def test_stage_2_beside_the_paper(efficiency):
    report, markdown = efficiency("--batch-size", "2", "--classes", "4")
    inference, training = report["inference"], report["training"]
    for fields in (inference, training):
        assert fields["seconds_per_pair"] > 0 and fields["peak_rss_mb"] > 0
        assert fields["co2_kilograms_per_pair"] is fields["peak_cuda_memory_mb"] is None
    assert training["flops_per_pair"]["torch"] > inference["flops_per_pair"]["torch"] > 0
    assert inference["released_flops_per_pair"] is None
    assert training["schedule"]["hours"] == pytest.approx(500 * 4 * training["seconds_per_pair"] / 3600)
    # Every number of ours comes with the machine, and the paper's rows with theirs.
    assert report["machine"]["device_name"] in markdown and report["machine"]["gemm_gflops"] > 0
    for module, *numbers in (row.values() for row in paper_rows()):
        [row] = [line for line in markdown.splitlines() if f"| {module}, paper, A100" in line]
        assert [float(cell) for cell in row.split("|")[2:-1]] == numbers
    assert "`--country` selects" in markdown and "4 classes" in markdown


def test_a_model_that_needs_no_training_has_an_inference_alone(efficiency):
    report, _ = efficiency(config=ROOT / "projects/laptop/configs/segearth_ov.yaml")
    assert report["inference"]["seconds_per_pair"] > 0 and "training" not in report


def test_stage_1_has_a_row_too_with_the_precision_that_ran(efficiency, monkeypatch):
    seen = set()
    preprocess = ImageEncoder.preprocess

    def look(encoder, images):
        enabled = torch.is_autocast_enabled("cpu")
        seen.add(("training" if encoder.training else "other", torch.get_autocast_dtype("cpu") if enabled else None))
        return preprocess(encoder, images)

    monkeypatch.setattr(ImageEncoder, "preprocess", look)
    report, markdown = efficiency("--dtype", "bfloat16", config="cmu.yaml")
    assert seen == {("training", torch.bfloat16), ("other", torch.bfloat16)}
    assert report["inference"]["precision"] == report["training"]["precision"] == "bfloat16"
    assert "training in bfloat16, inference in bfloat16" in markdown
    parameters = report["parameters"]
    assert parameters["teacher.model"]["trainable"] == 0 < parameters["student.model"]["trainable"]
    assert parameters["teacher.model"]["all"] == parameters["student.model"]["all"]
    assert "CrossModalUnification" in markdown and "| student.model" in markdown
    counts = report["inference"]["flops_per_pair"]
    assert counts["reconciled"] == pytest.approx(counts["torch"], rel=1e-5)


def test_one_mode_alone_and_a_pair_costs_the_same_in_steps_of_several_batches(efficiency):
    flops, pairs = [], []
    for steps in (1, 2):
        overrides = ["SOLVER.ACCUMULATION_STEPS", str(steps), "SOLVER.MAX_ITER", "100"]
        report, markdown = efficiency("--modes", "train", config="cmu.yaml", overrides=overrides)
        training, schedule = report["training"], report["training"]["schedule"]
        flops.append(training["flops_per_pair"]["torch"])
        pairs.append(schedule["pairs_per_iteration"])
        assert schedule["hours"] == pytest.approx(100 * pairs[-1] * training["seconds_per_pair"] / 3600)
    assert flops[0] == flops[1] and 2 * pairs[0] == pairs[1]
    assert "training in float32 by steps of 2 batches" in markdown
    assert "inference" not in report and "training" in report
    [row] = [line for line in markdown.splitlines() if "**this model" in line]
    assert [cell.strip() for cell in row.split("|")[3:6:2]] == ["–", "–"]


def test_co2_of_a_country(efficiency):
    pytest.importorskip("codecarbon")
    report, markdown = efficiency("--country", "fra", "--modes", "infer")
    emissions = report["inference"]["emissions"]
    assert report["country"] == "FRA" and "electricity of FRA" in markdown
    assert emissions["kilograms"] > 0 and emissions["kilowatt_hours"] > 0
    assert report["inference"]["co2_kilograms_per_pair"] == emissions["kilograms"]
    # 2023: 44 to 58 g a kWh by various sources.
    assert 0.03 < emissions["kilograms"] / emissions["kilowatt_hours"] < 0.1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--runs", "0"], ["--runs", "0"]),
        (["--batch-size", "-1"], ["--batch-size"]),
        (["--config-file", "missing.yaml"], ["missing.yaml"]),
        (["--markdown", str(QUICKSTART / "base.yaml" / "table.md")], ["cannot be written"]),
        (["--opts", "MODEL.META_ARCHITECTURE", "SemanticSegmentor"], ["SemanticSegmentor", "MMOVSeg"]),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        run_cli("efficiency", "--config-file", QUICKSTART / "mm_ovseg.yaml", "--device", "cpu", *arguments)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert all(word in message for word in words)


def test_a_country_needs_codecarbon_and_must_exist(monkeypatch, capsys):
    command = ["--config-file", str(QUICKSTART / "mm_ovseg.yaml"), "--device", "cpu", "--country"]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "codecarbon", None)
        with pytest.raises(SystemExit):
            run_cli("efficiency", *command, "DEU")
    assert "mm_ovseg[efficiency]" in capsys.readouterr().err
    pytest.importorskip("codecarbon")
    with pytest.raises(SystemExit):
        run_cli("efficiency", *command, "Atlantis")
    assert "'ATLANTIS'" in capsys.readouterr().err
