import json
import mmap

import pytest
import torch
import torch.nn.functional as F
from detectron2.data import DatasetCatalog
from torch import nn

from mm_ovseg.benchmarking import machine, measure, scene, workloads
from mm_ovseg.benchmarking.report import add_ratios
from mm_ovseg.benchmarking.stages import StageTrace, count_flops
from mm_ovseg.engine import load_config
from tests.conftest import ROOT, load_tool

QUICKSTART = ROOT / "configs" / "quickstart" / "mm_ovseg.yaml"
FULL_SIZE = ROOT / "configs" / "mm_ovseg_vitb16_384.yaml"
STAGES = ["clip", "dino_rgb", "dino_sar", "fusion", "aggregator", "decoder", "other"]
POSITIVE = ["seconds_per_pair", "gemm_gflops", "peak_rss_mb", "peak_rss_above_imports_mb"] + [
    "parameters_millions",
    "trainable_millions",
]


@pytest.fixture
def benchmark(monkeypatch, tmp_path, capsys):
    """A function ``*arguments -> (report, what was printed)`` for one run of the quickstart's model on the CPU."""
    monkeypatch.setattr(machine, "MATRIX_REPEATS", 2)
    monkeypatch.setattr(workloads, "LOADER_SCENES", 1)
    monkeypatch.setattr(workloads, "LEAST_SCENE_SIZE", 64)
    tool = load_tool("benchmark")

    def run(*arguments):
        json_file = tmp_path / "results" / "benchmark.json"
        shared = ["--config-file", QUICKSTART, "--device", "cpu", "--runs", "1", "--json", json_file]
        tool.main([str(argument) for argument in (*shared, *arguments)])
        return json.loads(json_file.read_text()), capsys.readouterr().out

    return run


@pytest.mark.parametrize("mode", ["infer", "stages"])
def test_inference_and_its_stages(benchmark, mode):
    report, printed = benchmark("--mode", mode, "--batch-size", "2")
    assert all(report[name] > 0 for name in [*POSITIVE, "text_seconds", "executed_tflop_per_pair"])
    assert (report["mode"], report["batch_size"], report["classes"], report["image_size"]) == (mode, 2, 5, 192)
    assert report["seconds_per_pair_all"] == [report["seconds_per_pair"]]
    assert report["gemm_gflops"] == max(report["gemm_gflops_before"], report["gemm_gflops_after"])
    assert report["gemm_gflops_dtype"] is report["peak_cuda_memory_mb"] is None
    # The published arithmetic is that of another model.
    assert report["tflop_per_pair"] is report["arithmetic_efficiency"] is None and "is not known" in printed
    executed = report["executed_tflop_per_pair"] * 1000 / report["seconds_per_pair"] / report["gemm_gflops"]
    assert report["executed_efficiency"] == executed

    stages = report["stages"]
    assert list(stages) == STAGES
    assert 0.9 < sum(stage["share"] for stage in stages.values()) <= 1
    assert sum(stage["seconds"] for stage in stages.values()) <= report["seconds_per_pair"]
    assert sum(stage["executed_gflop"] for stage in stages.values()) == pytest.approx(
        report["executed_tflop_per_pair"] * 1000
    )
    assert stages["dino_rgb"]["executed_gflop"] == stages["dino_sar"]["executed_gflop"] > 0
    assert all(stage["gflops"] == stage["executed_gflop"] / stage["seconds"] for stage in stages.values())
    assert ("of matrix" in printed) == (mode == "stages")


def test_more_classes_execute_more_in_the_head_alone(benchmark):
    few, many = (benchmark("--classes", count)[0]["stages"] for count in (2, 6))
    for stage in ("fusion", "aggregator", "decoder"):
        assert few[stage]["executed_gflop"] < many[stage]["executed_gflop"] <= 3 * few[stage]["executed_gflop"]
    for stage in ("clip", "dino_rgb", "dino_sar", "other"):
        assert few[stage]["executed_gflop"] == many[stage]["executed_gflop"]


def test_an_optical_model_has_no_sar_stage(benchmark):
    report, _ = benchmark("--opts", "MODEL.DINO_SAR.ENABLED", "False")
    assert list(report["stages"]) == [stage for stage in STAGES if stage != "dino_sar"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_with_the_reference(benchmark, dtype):
    report, printed = benchmark("--mode", "train", "--dtype", dtype, "--reference")
    assert all(report[name] > 0 for name in [*POSITIVE, "executed_efficiency", "reference_seconds_per_pair"])
    assert report["speedup_over_reference"] == report["reference_seconds_per_pair"] / report["seconds_per_pair"]
    assert report["reference_max_relative_difference"] < (1e-5 if dtype == "float32" else 0.05)
    assert report["tflop_per_pair"] is None and "stages" not in report and "is not known" not in printed
    assert (report["gemm_gflops_dtype"] is None) == (dtype == "float32")


def test_activations_computed_twice_are_counted_twice(benchmark):
    once, _ = benchmark("--mode", "train")
    twice, _ = benchmark("--mode", "train", "--opts", "MODEL.ACTIVATION_CHECKPOINTING", "True")
    assert once["executed_tflop_per_pair"] < twice["executed_tflop_per_pair"] < 2 * once["executed_tflop_per_pair"]


@pytest.mark.parametrize("dtype, most", [("float32", 1e-5), ("bfloat16", 0.05)])
def test_inference_with_the_reference(benchmark, dtype, most):
    report, printed = benchmark("--dtype", dtype, "--reference", "--batch-size", "2")
    assert 0 < report["reference_max_relative_difference"] < most
    assert report["speedup_over_reference"] == report["reference_seconds_per_pair"] / report["seconds_per_pair"]
    assert "speedup over the reference" in printed
    if dtype == "bfloat16":
        stage = report["stages"]["dino_rgb"]
        assert report["reference_max_relative_difference"] > 1e-4  # or it would have run in float32
        assert stage["gemm_share"] == stage["gflops"] / report["gemm_gflops_dtype"]


def test_the_loader_beside_training(benchmark):
    before = set(DatasetCatalog)
    report, _ = benchmark("--mode", "loader", "--batch-size", "2")
    assert all(report[name] > 0 for name in [*POSITIVE, "training_pairs_per_second"])
    assert report["loader_pairs_per_second"] == 1 / report["seconds_per_pair"]
    assert report["loader_over_training"] == report["loader_pairs_per_second"] / report["training_pairs_per_second"]
    assert set(DatasetCatalog) == before


def test_a_whole_scene_and_what_it_costs_beside_the_model(benchmark, monkeypatch, tmp_path):
    batches, build = [], measure.build_scene_predictor

    def build_counted(*arguments):
        predictor = build(*arguments)
        predictor.model.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))
        return predictor

    monkeypatch.setattr(measure, "build_scene_predictor", build_counted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    arguments = ["--scene-size", "200", "--classes", "3", "--batch-size", "2", "--opts", "INPUT.CROP.SIZE", "(96, 96)"]
    report, printed = benchmark("--mode", "scene", *arguments)
    assert all(report[name] > 0 for name in POSITIVE)
    assert (report["scene_size"], report["window"], report["overlap"], report["windows"]) == (200, 96, 0.33, 9)
    assert "200 x 200 pixels in windows of 96, overlap 33%, 2 pairs at a time, 3 classes" in printed
    # The warm-up, the model alone before the scene and after it, and between them three rows of three windows.
    alone = [2] * scene.RUNS_ALONE
    assert [len(batch) for batch in batches] == [2, *alone, *[2, 1] * 3, *alone]
    assert all(item["image"].shape == item["sar_image"].shape == (3, 96, 96) for batch in batches for item in batch)
    assert not list(tmp_path.glob("mm_ovseg_benchmark_*"))
    # What the model takes and what the rest takes are the whole.
    parts = [report[f"{name}_seconds"] for name in ("model", "before_windows", "between_windows", "after_windows")]
    assert min(parts) > 0 and sum(parts) == pytest.approx(report["scene_seconds"])
    assert report["scene_seconds"] == pytest.approx(9 * report["seconds_per_pair"])
    assert report["overhead_percent"] == pytest.approx(100 * sum(parts[1:]) / parts[0])
    seconds_alone = 9 * report["model_alone_seconds_per_window"]
    over_alone = 100 * (report["scene_seconds"] / seconds_alone - 1)
    assert report["overhead_over_alone_percent"] == pytest.approx(over_alone)
    assert "in the model" in printed and "overhead over the model" in printed


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--runs", "0"], ["--runs", "0"]),
        (["--batch-size", "-1"], ["--batch-size"]),
        (["--config-file", str(ROOT / "configs" / "quickstart" / "cmu.yaml")], ["CrossModalUnification", "MMOVSeg"]),
        (["--mode", "loader", "--reference"], ["--reference", "--mode"]),
        (["--mode", "scene", "--reference"], ["--reference", "scene", "--mode"]),
        (["--mode", "scene", "--scene-size", "0"], ["--scene-size", "0"]),
        (["--reference", "--opts", "MODEL.CLIP_SAR.ENABLED", "True"], ["--reference", "MODEL.CLIP_SAR"]),
        (["--reference", "--opts", "MODEL.AGGREGATOR.MAX_CLASSES", "4"], ["--reference", "MAX_CLASSES"]),
        (["--device", "nonsense"], ["nonsense"]),
        (["--json", str(QUICKSTART / "benchmark.json")], ["cannot be written"]),
        (["--opts", "MODEL.NOTHING", "1"], ["MODEL.NOTHING"]),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(benchmark, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        benchmark(*arguments)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert all(word in message for word in words)


def test_without_the_reference_it_says_so(monkeypatch, tmp_path, capsys):
    tool = load_tool("benchmark")
    monkeypatch.setattr(tool, "REFERENCE", tmp_path / "plain.py")
    with pytest.raises(SystemExit):
        tool.main(["--config-file", str(QUICKSTART), "--device", "cpu", "--reference"])
    assert "plain.py, which is not there" in capsys.readouterr().err


def test_the_released_arithmetic_belongs_to_the_released_model():
    cfg = load_config(FULL_SIZE, ["MODEL.DEVICE", "cpu"])
    assert workloads.released_tflop(cfg, 5) == 1.386
    assert workloads.released_tflop(cfg, 150) is None
    for change in (["MODEL.CLIP.IMAGE_SIZE", "192"], ["MODEL.DINO_SAR.ENABLED", "False"]):
        assert workloads.released_tflop(load_config(FULL_SIZE, ["MODEL.DEVICE", "cpu", *change]), 5) is None


def test_the_efficiency_follows_from_the_other_fields():
    measured = {"seconds_per_pair": 16.0, "tflop_per_pair": 1.386, "gemm_gflops": 201.0, "executed_tflop_per_pair": 1.2}
    report = add_ratios(measured)
    assert report["arithmetic_efficiency"] == 1.386 * 1000 / 16.0 / 201.0
    assert report["executed_efficiency"] == 1.2 * 1000 / 16.0 / 201.0


class OneOfEach(nn.Module):
    """A linear layer, attention and a convolution; the first is a stage."""

    def __init__(self):
        super().__init__()
        self.clip = nn.Linear(8, 16)
        self.conv = nn.Conv2d(4, 6, kernel_size=3)

    def forward(self, x, image):
        x = self.clip(x)  # (2, 10, 16)
        query = x.unflatten(-1, (4, 4)).transpose(1, 2)  # (2, 4, 10, 4)
        return F.scaled_dot_product_attention(query, query, query), self.conv(image)


def test_linear_layers_attention_and_convolutions_are_counted():
    linear, attention, convolution = 2 * 20 * 8 * 16, 4 * (2 * 4 * 10 * 10 * 4), 2 * 6 * 5 * 5 * 4 * 9
    model, inputs = OneOfEach(), (torch.ones(2, 10, 8), torch.ones(1, 4, 7, 7))
    with torch.no_grad():
        total, stages = count_flops(model, lambda: model(*inputs))
    assert total == linear + attention + convolution
    assert stages == {"clip": linear, "other": attention + convolution}

    # Backward: twice each, but the attention's product of queries and keys is computed once more, and neither the
    # first layer's nor the convolution's input has a gradient.
    total, _ = count_flops(model, lambda: [output.sum().backward() for output in model(*inputs)])
    assert total == 2 * linear + 3.5 * attention + 2 * convolution


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no such operator")
def test_the_linear_layers_of_onednn_are_counted():
    weight, bias = torch.ones(16, 8), torch.ones(16)
    model = nn.Identity()
    total, _ = count_flops(
        model,
        lambda: torch.ops.mkldnn._linear_pointwise(torch.ones(2, 10, 8), model(weight), bias, "none", [], ""),
    )
    assert total == 2 * 20 * 8 * 16


class Nested(nn.Module):
    """A stage in a stage, called twice."""

    def __init__(self):
        super().__init__()
        self.sem_seg_head = nn.Module()
        self.sem_seg_head.aggregator = nn.Identity()
        self.sem_seg_head.forward = lambda x: self.sem_seg_head.aggregator(self.sem_seg_head.aggregator(x))

    def forward(self, x):
        return self.sem_seg_head(x)


def test_a_stage_inside_another_is_taken_out_of_it_and_calls_add_up():
    clock = iter([0, 1, 3, 6, 10, 15, 21, 28])  # entering: model, head, (aggregator, out) twice; out of head, model
    model = Nested()
    with StageTrace(model, lambda: next(clock)) as trace:
        model(1)
    assert trace.split(lambda start, end: end - start) == {
        "fusion": (3 - 1) + (10 - 6) + (21 - 15),
        "aggregator": (6 - 3) + (15 - 10),
        "other": 1 + (28 - 21),
    }
    model(1)  # the hooks are gone, or the clock would end


def test_memory_is_that_of_this_process():
    before = machine.resident_mb()
    with mmap.mmap(-1, 50_000_000) as taken:  # new pages; a tensor may get some that an earlier one has left
        taken.write(bytes(50_000_000))
        peak = machine.peak_memory(torch.device("cpu"), before)
    assert peak["peak_rss_mb"] >= before + 45
    assert peak["peak_rss_above_imports_mb"] == peak["peak_rss_mb"] - before


def test_without_proc_the_peak_is_asked_of_the_system(monkeypatch):
    monkeypatch.setattr(machine, "_status_mb", lambda field: None)
    assert machine.resident_mb() == pytest.approx(machine.peak_memory(torch.device("cpu"), 0.0)["peak_rss_mb"], rel=0.1)
