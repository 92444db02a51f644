import json
import sys

import pytest
import torch
from torch import nn

from mm_ovseg.benchmarking import machine
from mm_ovseg.benchmarking.efficiency import count_parameters
from mm_ovseg.benchmarking.efficiency_report import PAPER_ROWS
from mm_ovseg.benchmarking.flops import compare_flop_counts
from mm_ovseg.benchmarking.stages import count_flops
from tests.conftest import ROOT, random_pair, run_cli

QUICKSTART = ROOT / "configs" / "quickstart"
SMALL = ["MODEL.CLIP.IMAGE_SIZE", "96", "MODEL.DINO.IMAGE_SIZE", "96"]


@pytest.fixture
def efficiency(monkeypatch, tmp_path, capsys):
    """A function ``*arguments -> (report, Markdown)`` for one run of a quickstart model on the CPU."""
    monkeypatch.setattr(machine, "MATRIX_REPEATS", 2)

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
    for module, *numbers, millions in PAPER_ROWS:
        [row] = [line for line in markdown.splitlines() if f"| {module}, paper, A100" in line]
        assert [float(cell.strip(" M")) for cell in row.split("|")[2:-1]] == [*numbers, millions]
    assert "`--country` says" in markdown and "4 classes" in markdown


def test_stage_1_has_a_row_too(efficiency):
    report, markdown = efficiency(config="cmu.yaml")
    parameters = report["parameters"]
    assert parameters["teacher.model"]["trainable"] == 0 < parameters["student.model"]["trainable"]
    assert parameters["teacher.model"]["all"] == parameters["student.model"]["all"]
    assert "CrossModalUnification" in markdown and "| student.model" in markdown
    counts = report["inference"]["flops_per_pair"]
    assert counts["reconciled"] == pytest.approx(counts["torch"], rel=1e-5)


def test_one_mode_alone(efficiency):
    report, markdown = efficiency("--modes", "train")
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


@torch.no_grad()
@pytest.mark.parametrize("with_dino", [True, False])
def test_the_difference_of_the_two_counters_is_explained(make_model, with_dino):
    dino = () if with_dino else ("MODEL.DINO.ENABLED", False, "MODEL.DINO_SAR.ENABLED", False)
    model = make_model(*dino).eval()
    model.set_vocabulary(["water", "road"])
    pairs = [{key: random_pair()[key] for key in ("image", "sar_image")}]
    model(pairs)  # embeds the names
    counts = compare_flop_counts(model, pairs)
    assert counts.torch == count_flops(model, lambda: model(pairs))[0]
    assert counts.reconciled == pytest.approx(counts.torch, rel=1e-5)
    assert min(counts.attention, counts.fvcore_elementwise) > 0
    assert counts.fvcore == counts.fvcore_products + counts.fvcore_elementwise
    if with_dino:  # by hand: three blocks of two encoders, 577 tokens of 96 channels, queries by keys and by values
        assert counts.attention > 2 * 3 * 2 * 577 * 577 * 96
    assert counts.per_pair(2).torch == counts.torch / 2


def test_parameters_are_counted_by_module_and_add_up():
    model = nn.Module()
    model.encoder = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5, bias=False))
    model.scale = nn.Parameter(torch.ones(7))
    model.encoder[0].requires_grad_(False)
    assert count_parameters(model) == {
        "total": {"all": 43, "trainable": 27},
        "scale": {"all": 7, "trainable": 7},
        "encoder.0": {"all": 16, "trainable": 0},
        "encoder.1": {"all": 20, "trainable": 20},
    }


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
