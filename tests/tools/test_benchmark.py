import json

import pytest
import torch
from benchmarks import drawn_data, modes, scenes
from benchmarks.stages import StageTrace
from benchmarks.table import add_ratios
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from torch import nn

from mm_ovseg.efficiency import Workload, load_measured_config, machine
from mm_ovseg.modeling.meta_arch.mm_ovseg import MMOVSeg
from mm_ovseg.modeling.text import TextEmbedder
from tests.conftest import ROOT, load_tool

QUICKSTART = ROOT / "configs" / "quickstart" / "mm_ovseg.yaml"
REFERENCE = ["--reference", "tests.reference.plain"]
STAGES = ["clip", "dino_rgb", "dino_sar", "fusion", "aggregator", "decoder", "other"]
POSITIVE = ["seconds_per_pair", "gemm_gflops", "peak_rss_mb", "peak_rss_above_imports_mb"] + [
    "parameters_millions",
    "trainable_millions",
]


@pytest.fixture
def benchmark(monkeypatch, tmp_path, capsys):
    """A function ``*arguments -> (report, what was printed)`` for one run of the quickstart's model on the CPU."""
    monkeypatch.setattr(machine, "MATRIX_RUNS", 2)
    monkeypatch.setattr(drawn_data, "DATASET_SCENES", 1)
    monkeypatch.setattr(modes, "MIN_LOADED_SIZE", 64)
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
    assert report["tflop_per_pair"] is report["arithmetic_efficiency"] is None and "are unknown" in printed
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
    assert report["square_kilometres_per_hour"] == pytest.approx(1.92**2 / report["seconds_per_pair"] * 3600)
    assert "square kilometres per hour" in printed and "192 pixels of 10 m" in printed
    assert all(flag in printed for flag in report["cpu_flags"])


def test_a_second_question_costs_what_comes_after_the_encoders(benchmark, monkeypatch):
    asked, embed = [], TextEmbedder.embed
    monkeypatch.setattr(TextEmbedder, "embed", lambda self, names: asked.append(tuple(names)) or embed(self, names))
    encoded, encode = [], MMOVSeg.encode
    monkeypatch.setattr(MMOVSeg, "encode", lambda self, batch: encoded.append(len(asked)) or encode(self, batch))
    report, printed = benchmark("--classes", "3", "--runs", "2")
    first, second, text = (report[f"{name}_seconds"] for name in ("first_question", "second_question", "text"))
    assert report["second_question_share"] == second / first
    assert min(first, second, text) > 0 and "second question share" in printed
    # Each run embeds names for the first question, for the second and for the text alone, always others.
    assert len(asked) == len(set(asked)) == 1 + 2 * 3
    assert all(len(names) == 3 for names in asked)
    # The pair is encoded once for all second questions, and then for each first one.
    assert encoded[-3:] == [1, 1, 4]


def test_more_classes_execute_more_in_the_head_alone(benchmark):
    few, many = (benchmark("--classes", count)[0]["stages"] for count in (2, 6))
    for stage in ("fusion", "aggregator", "decoder"):
        assert few[stage]["executed_gflop"] < many[stage]["executed_gflop"] <= 3 * few[stage]["executed_gflop"]
    for stage in ("clip", "dino_rgb", "dino_sar", "other"):
        assert few[stage]["executed_gflop"] == many[stage]["executed_gflop"]


def test_an_optical_model_has_no_sar_stage(benchmark):
    report, _ = benchmark("--opts", "MODEL.DENSE_ENCODER_SAR.ENABLED", "False")
    assert list(report["stages"]) == [stage for stage in STAGES if stage != "dino_sar"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_with_the_reference(benchmark, dtype):
    report, printed = benchmark("--mode", "train", "--dtype", dtype, *REFERENCE)
    assert all(report[name] > 0 for name in [*POSITIVE, "executed_efficiency", "reference_seconds_per_pair"])
    assert report["speedup_over_reference"] == report["reference_seconds_per_pair"] / report["seconds_per_pair"]
    assert report["reference_max_relative_difference"] < (1e-5 if dtype == "float32" else 0.05)
    assert report["tflop_per_pair"] is None and "stages" not in report and "are unknown" not in printed
    assert (report["gemm_gflops_dtype"] is None) == (dtype == "float32")


def test_activations_computed_twice_are_counted_twice(benchmark):
    once, _ = benchmark("--mode", "train")
    twice, _ = benchmark("--mode", "train", "--opts", "MODEL.ACTIVATION_CHECKPOINTING", "True")
    assert once["executed_tflop_per_pair"] < twice["executed_tflop_per_pair"] < 2 * once["executed_tflop_per_pair"]


@pytest.mark.parametrize("dtype, maximum", [("float32", 1e-5), ("bfloat16", 0.05)])
def test_inference_with_the_reference(benchmark, dtype, maximum):
    report, printed = benchmark("--dtype", dtype, *REFERENCE, "--batch-size", "2")
    assert 0 < report["reference_max_relative_difference"] < maximum
    assert report["speedup_over_reference"] == report["reference_seconds_per_pair"] / report["seconds_per_pair"]
    assert "speedup over reference" in printed
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
    batches, build = [], scenes.ScenePredictor

    def build_counted(*arguments):
        predictor = build(*arguments)
        predictor.model.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))
        return predictor

    monkeypatch.setattr(scenes, "ScenePredictor", build_counted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    arguments = [
        "--scene-size",
        "200",
        "--gsd",
        "20",
        "--classes",
        "3",
        "--batch-size",
        "2",
        "--opts",
        "INPUT.CROP.SIZE",
        "(96, 96)",
    ]
    report, printed = benchmark("--mode", "scene", *arguments)
    assert all(report[name] > 0 for name in POSITIVE)
    assert (report["scene_size"], report["window"], report["overlap"], report["windows"]) == (200, 96, 0.25, 9)
    assert "200 x 200 pixels of 20 m in windows of 96, overlap 25%, batch size 2, classes: 3" in printed
    # The warm-up, the model alone before the scene and after it, and between them three rows of three windows.
    alone = [2] * scenes.RUNS_ALONE
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
    assert "overhead over alone percent" in printed
    # 4 km x 4 km, each pixel once.
    assert report["square_kilometres_per_hour"] == pytest.approx(16 / report["scene_seconds"] * 3600)


def test_a_scene_through_a_stub_that_waits_asked_twice(benchmark):
    arguments = ["--scene-size", "150", "--stub", "0.05", "--keep-features", "--opts", "INPUT.CROP.SIZE", "(96, 96)"]
    report, printed = benchmark("--mode", "scene", *arguments)
    assert report["windows"] == report["second_question_windows_from_features"] == 4
    assert report["second_question_share"] == report["second_question_seconds"] / report["scene_seconds"]
    assert min(report["features_mb"], report["map_mb"]) > 0 and "features mb" in printed
    assert report["peak_map_and_work_mb"] >= report["map_mb"]
    assert report["model_seconds"] >= report["windows"] * 0.05
    assert report["model_alone_seconds_per_window"] >= 0.05
    assert report["cpu_seconds_per_pair"] < report["seconds_per_pair"]
    assert report["executed_efficiency"] is report["arithmetic_efficiency"] is None


def test_the_stub_has_the_shapes_of_the_model_and_sees_what_it_is_given():
    cfg = load_measured_config(QUICKSTART, [], dtype="bfloat16", device="cpu", models=["MMOVSeg"])
    batch = Workload(cfg).random_batch(96)
    model = Workload(cfg).build_model().eval()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "StubSegmenter"
    stub = build_model(cfg).eval()
    stub.set_vocabulary(model.vocabulary)

    def shapes(encoded):
        return {name: (tensor.shape, tensor.dtype) for name, tensor in encoded.features["RGB and SAR"].items()}

    encoded = stub.encode(batch)
    assert shapes(encoded[0]) == shapes(model.encode(batch)[0])
    scores, again = stub.answer(encoded)[0], stub.segment(batch)[0]
    assert scores.shape == (5, 96, 96) and torch.equal(scores, again)
    without_sar = stub.segment([batch[0] | {"sar_image": None}])[0]
    half = torch.zeros(96, 96, dtype=torch.bool)
    half[:48] = True
    mixed = stub.segment([batch[0] | {"sar_valid": half}])[0]
    assert not torch.equal(scores, without_sar)
    assert torch.equal(mixed, torch.where(half, scores, without_sar))
    stub.set_vocabulary(["other", "names"])
    assert stub.answer(encoded)[0].shape == (2, 96, 96)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--runs", "0"], ["--runs", "0"]),
        (["--batch-size", "-1"], ["--batch-size"]),
        (["--config-file", str(ROOT / "configs" / "quickstart" / "cmu.yaml")], ["CrossModalUnification", "MMOVSeg"]),
        (["--mode", "loader", *REFERENCE], ["--reference", "--mode"]),
        (["--mode", "scene", *REFERENCE], ["--reference", "scene", "--mode"]),
        (["--mode", "scene", "--scene-size", "0"], ["--scene-size", "0"]),
        (["--stub", "0"], ["--stub", "--mode scene"]),
        (["--keep-features"], ["--keep-features", "--mode scene"]),
        (["--mode", "scene", "--stub", "-1"], ["--stub", "-1"]),
        (["--gsd", "-1"], ["ground sampling distance is -1"]),
        ([*REFERENCE, "--opts", "MODEL.CLIP_SAR.ENABLED", "True"], ["--reference", "MODEL.CLIP_SAR"]),
        ([*REFERENCE, "--opts", "MODEL.AGGREGATOR.MAX_CLASSES", "4"], ["--reference", "MAX_CLASSES"]),
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


def test_a_reference_that_is_not_there(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark("--reference", "no_such_module")
    assert "no_such_module, which cannot be imported" in capsys.readouterr().err


def test_the_efficiency_follows_from_the_other_fields():
    measured = {"seconds_per_pair": 16.0, "tflop_per_pair": 1.386, "gemm_gflops": 201.0, "executed_tflop_per_pair": 1.2}
    report = add_ratios(measured)
    assert report["arithmetic_efficiency"] == 1.386 * 1000 / 16.0 / 201.0
    assert report["executed_efficiency"] == 1.2 * 1000 / 16.0 / 201.0


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
