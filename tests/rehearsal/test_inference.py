"""What is done with the outputs of a model on a GPU: pairs, scenes, explanations, evaluation."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch._subclasses.fake_tensor import FakeTensor

from mm_ovseg.evaluation.retrieval import expected_hits
from mm_ovseg.evaluation.seen_unseen import SeenUnseenSemSegEvaluator
from mm_ovseg.export.graph import SegmentationGraph
from mm_ovseg.inference import background, scene_run
from mm_ovseg.inference import predictor as predictor_module
from mm_ovseg.inference.explanation import explain
from mm_ovseg.inference.predictor import Predictor
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor
from tests.rehearsal.device import CUDA, MODE, fake_device, for_real, tiny_cfg, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

NAMES = ("city", "river, lake", "forest")
GENERATOR = np.random.default_rng(0)
PAIRS = [
    tuple(GENERATOR.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2)) for size in ((48, 64), (40, 40))
]


@pytest.fixture(autouse=True)
def arrays_of_zeros(monkeypatch):
    """``numpy()`` of a tensor without data is zeros; as for others, the tensor must be on the CPU."""
    numpy = torch.Tensor.numpy

    def of_fakes(tensor):
        if not isinstance(tensor, FakeTensor):
            return numpy(tensor)
        assert tensor.device.type == "cpu"
        return np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch."))

    monkeypatch.setattr(torch.Tensor, "numpy", of_fakes)


@pytest.fixture(autouse=True)
def items_with_data(monkeypatch):
    """They are on the CPU, and their masks are looked at there."""
    for module in (predictor_module, scene_run):
        monkeypatch.setattr(module, "model_item", for_real(module.model_item))


def on_cuda(kind, *overrides):
    """A Predictor or ScenePredictor whose model has been moved, in float16."""
    cfg = tiny_cfg("configs/mm_ovseg_vitb16_384.yaml", "MODEL.INFERENCE_DTYPE", "float16", *overrides)
    predictor = kind(cfg, NAMES)
    with MODE:
        predictor.model.to(CUDA)
    return predictor


def test_pairs():
    predictor = on_cuda(Predictor)
    with fake_device() as watch:
        one = predictor(*PAIRS[0], with_scores=True)
        assert watch.reads == 3  # the map, its confidence and the scores
        two = predictor.batch([PAIRS[0], (PAIRS[1][0], None)])
    assert one.scores.shape == (3, 48, 64)
    assert [prediction.class_map.shape for prediction in two] == [(48, 64), (40, 40)]


@pytest.mark.parametrize("overrides", [[], ["MODEL.CLIP_SAR.ENABLED", True]])
def test_explanations(overrides):
    predictor = on_cuda(Predictor, *overrides)
    with fake_device():
        explanations = explain(predictor, *PAIRS[0])
    assert len(explanations) == 3
    for explanation in explanations.values():
        assert explanation.fused_cost.ndim == 4 and explanation.attentions
        assert all(recorded.query.device.type == "cpu" for recorded in explanation.attentions)


class RunAtOnce(ThreadPoolExecutor):
    """Runs what it is given in the thread of the caller: two threads may not share a mode of fake tensors."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def test_a_scene(write_raster, tmp_path, monkeypatch):
    monkeypatch.setattr(background, "ThreadPoolExecutor", RunAtOnce)
    rgb, sar = (GENERATOR.integers(1, 256, shape, dtype=np.uint8) for shape in ((70, 90, 3), (70, 90)))
    sar[:, 50:70] = 0
    files = [write_raster(tmp_path / f"{name}.tif", image, nodata=0) for name, image in (("rgb", rgb), ("sar", sar))]
    options = SceneOptions(window=48, overlap=0.25, batch_size=3, confidence=True)
    predictor = on_cuda(ScenePredictor)
    with fake_device() as watch:
        report = predictor.segment(*files, tmp_path / "map.tif", options)
    assert watch.reads == 6  # once for each window
    assert report["coverage"]["rgb_only"]["pixels"] == 70 * 20


@pytest.mark.parametrize("with_sar", [True, False])
def test_the_graph_that_is_exported(with_sar):
    model = tiny_model(tiny_cfg("configs/mm_ovseg_vitb16_384.yaml")).eval()
    graph = SegmentationGraph(model, with_sar=with_sar)
    inputs = graph.random_inputs(batch=2, height=40, width=72, classes=5, seed=0)
    with fake_device() as watch:
        scores, logits = graph(*(tensor if tensor is None else tensor.to(CUDA) for tensor in inputs.values()))
    assert watch.reads == 0 and scores.device == logits.device == torch.device(CUDA)
    assert scores.shape == (2, 5, 40, 72)


def test_the_evaluators(monkeypatch, forget_datasets):
    DatasetCatalog.register("rehearsal", lambda: [{}])
    MetadataCatalog.get("rehearsal").set(stuff_classes=list(NAMES), ignore_label=255)
    evaluator = SeenUnseenSemSegEvaluator("rehearsal", distributed=False)
    monkeypatch.setattr(evaluator, "_read_label", lambda _, shape: np.zeros(shape, np.uint8))
    similarity = torch.rand(7, 7)
    with fake_device():
        evaluator.process([{}], [{"sem_seg": torch.rand(3, 48, 64).to(CUDA)}])
        hits = expected_hits(similarity.to(CUDA), torch.arange(7, device=CUDA), 5)
    assert evaluator.evaluate()["sem_seg"]["pACC"] == 100
    assert hits.device.type == "cpu" and hits.dtype == torch.float64  # which not all devices have
