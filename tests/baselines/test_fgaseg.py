"""FGAseg in small: what does not need the golden values."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from torch import nn

from mm_ovseg.baselines.fgaseg.meta_arch import _nearest
from mm_ovseg.baselines.fgaseg.pruning import surviving_classes
from mm_ovseg.baselines.fgaseg.sliding_window import join_windows, split_into_windows
from mm_ovseg.baselines.fgaseg.text_convolution import TextConvolution
from mm_ovseg.checkpoint.rename_tables import MODEL_TABLES
from mm_ovseg.engine.optimizer import build_optimizer
from mm_ovseg.errors import ConfigError, DataError, ExportError, VocabularyError
from mm_ovseg.export import SegmentationGraph, write_export
from mm_ovseg.inference.explanation import explain
from mm_ovseg.inference.predictor import Predictor
from mm_ovseg.modeling.meta_arch.segmenter import OpenVocabularySegmenter
from tests.conftest import random_pair
from tests.rehearsal.device import tiny_cfg

CONFIG = "configs/siblings/fgaseg_vitb16_384.yaml"
NAMES = ["city", "road", "forest", "water", "farmland"]
SIZES = ((48, 64), (32, 32), (30, 50))
PRUNED = ("MODEL.FGASEG.KEPT_CLASSES", 1)


class Other(OpenVocabularySegmenter):
    """Neither a function of image and text, nor MMOVSeg."""


def make(*overrides):
    torch.manual_seed(0)
    model = build_model(tiny_cfg(CONFIG, *overrides))
    for parameter in model.sem_seg_head.auxiliary.parameters():
        nn.init.normal_(parameter)  # so that other classes lead at other places
    model.train_vocabulary = tuple(NAMES[:3])
    model.set_vocabulary(NAMES)
    return model.eval()


def batch(labels=None):
    pairs = [random_pair(*size, seed, num_classes=labels) for seed, size in enumerate(SIZES)]
    return [{key: value for key, value in pair.items() if key != "sar_image"} for pair in pairs]


def scores_of(model, items):
    return [output["sem_seg"] for output in model(items)]


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("overrides", [
    (),
    PRUNED,
    ("MODEL.FGASEG.SLIDING_WINDOW", True),
    ("MODEL.AGGREGATOR.MAX_CLASSES", 3),
    ("MODEL.AGGREGATOR.MAX_CLASSES", 4, *PRUNED),
])  # fmt: skip
def test_an_image_does_not_depend_on_its_batch_nor_on_earlier_vocabularies(overrides):
    model, items = make(*overrides), batch()
    together = scores_of(model, items)
    assert [tuple(scores.shape) for scores in together] == [(5, *size) for size in SIZES]
    assert all(scores.min() >= 0 and scores.max() <= 1 for scores in together)
    assert_equal(together, [scores_of(model, [item])[0] for item in items])
    model.set_vocabulary(["sea", "ice"])
    other = scores_of(model, items)
    assert all(len(scores) == 2 for scores in other)
    model.set_vocabulary(NAMES)
    assert_equal(scores_of(model, items), together)
    model.set_vocabulary(["sea", "ice"])
    assert_equal(scores_of(model, items), other)


def test_half_precision_is_near():
    exact, half = (scores_of(make("MODEL.INFERENCE_DTYPE", name), batch()) for name in ("float32", "bfloat16"))
    for one, other in zip(exact, half, strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0.03)


def test_the_output_has_the_size_that_is_asked_for():
    item = {**batch()[0], "height": 96, "width": 20}
    for overrides in ((), ("MODEL.FGASEG.SLIDING_WINDOW", True)):
        assert scores_of(make(*overrides), [item])[0].shape == (5, 96, 20)


def test_survivors_are_among_the_best_somewhere():
    logits = torch.zeros(1, 5, 4, 4)
    logits[0, 3] = 2
    logits[0, 1] = 1
    logits[0, 4, 2, 3] = 1.5
    assert surviving_classes(logits, 1).tolist() == [3]
    assert surviving_classes(logits, 2).tolist() == [1, 3, 4]


def test_what_leaves_at_any_of_three_places_gets_0_and_the_rest_is_that_of_a_vocabulary_without_it(monkeypatch):
    model, [item, *_] = make(*PRUNED), batch()
    whole = scores_of(make(), [item])[0]
    drops = iter([[0, 2, 3, 4], [0, 1, 3], [1, 2]])  # road, then water, then city
    lengths = []

    def survive(logits, count):
        lengths.append(logits.shape[1])
        return torch.tensor(next(drops))

    monkeypatch.setattr("mm_ovseg.baselines.fgaseg.pruning.surviving_classes", survive)
    [scores] = scores_of(model, [item])
    assert lengths == [5, 4, 3]
    assert (scores[[0, 1, 3]] < 1e-30).all() and (scores[[2, 4]] > 1e-3).all()
    assert not torch.allclose(scores[[2, 4]], whole[[2, 4]], atol=1e-7)  # class attention misses road
    model.set_vocabulary(["city", "forest", "water", "farmland"])
    drops = iter([[0, 1, 2, 3]] * 3)
    [without] = scores_of(model, [item])
    torch.testing.assert_close(scores[[2, 4]], without[[1, 3]], rtol=1e-4, atol=1e-5)


def test_nothing_is_pruned_in_training_in_small_vocabularies_or_without_auxiliary_heads(monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr("mm_ovseg.baselines.fgaseg.pruning.surviving_classes", fail)
    scores_of(make("MODEL.FGASEG.KEPT_CLASSES", 5), batch())
    scores_of(make("MODEL.FGASEG.KEPT_CLASSES", 0), batch())
    without = make("MODEL.FGASEG.AUXILIARY_HEADS", False, *PRUNED)
    scores_of(without, batch())
    assert list(without.train()(batch(3))) == ["loss_sem_seg", "loss_align"]
    make(*PRUNED).train()(batch(3))
    with pytest.raises(AssertionError):
        scores_of(make("MODEL.FGASEG.KEPT_CLASSES", 4), batch())


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("weighs_places", [False, True])
def test_a_convolution_of_the_text_is_a_convolution(size, weighs_places):
    torch.manual_seed(0)
    module = TextConvolution(text_channels=6, channels=4, kernel_size=size, weighs_places=weighs_places).double()
    features, text = torch.randn(2, 4, 5, 7).double(), torch.randn(2, 3, 6).double()
    numbers = module.linear(text)
    kernels, bias = numbers[..., :-1].unflatten(-1, (4, size, size)), numbers[..., -1]
    if weighs_places:
        kernels = kernels.flatten(3).softmax(-1).view_as(kernels)
    for image in range(2):
        expected = F.conv2d(features[image], kernels[image], bias[image], padding=size // 2)
        torch.testing.assert_close(module(features, text)[image], expected)


def test_what_golden_values_are_blind_to():
    """Class attention, among hundreds of padding tokens, hardly feels the length of the text; the labels are blocks."""
    model, seen = make(), []
    model.sem_seg_head.aggregator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    refined = []
    model.sem_seg_head.text_refinement.register_forward_hook(lambda *arguments: refined.append(arguments[2]))
    scores_of(model, batch())
    torch.testing.assert_close(seen[0], F.normalize(refined[0], dim=-1))
    target = torch.arange(16 * 20).view(16, 20)
    assert torch.equal(_nearest(target, (4, 5)), target[::4, ::4])


def test_windows_cover_the_image_and_join_to_it():
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 90), torch.linspace(0, 1, 120), indexing="ij")
    image = torch.stack([rows, columns, rows * columns])
    windows = split_into_windows(image)
    assert windows.shape == (5, 3, 384, 384)
    enlarged = F.interpolate(image[None], (640, 640), mode="bilinear", align_corners=False)[0]
    assert torch.equal(windows[1], enlarged[:, :384, 256:]) and torch.equal(windows[2], enlarged[:, 256:, :384])
    torch.testing.assert_close(join_windows(windows), enlarged, rtol=0, atol=2e-3)
    only_whole = windows.clone()
    only_whole[:4] = 0
    torch.testing.assert_close(join_windows(only_whole), enlarged / 2, rtol=0, atol=2e-3)


def test_losses_are_weighted_and_every_weight_that_learns_gets_a_gradient():
    plain, weighted = (
        make("MODEL.FGASEG.AUXILIARY_WEIGHTS", weights, "MODEL.FGASEG.ALIGN_WEIGHT", align).train()
        for weights, align in (([1.0, 1.0, 1.0], 1.0), ([0.5, 3.0, 0.0], 0.1))
    )
    losses, others = plain(batch(3)), weighted(batch(3))
    assert list(losses) == ["loss_sem_seg", *(f"loss_auxiliary_{index}" for index in range(3)), "loss_align"]
    for name, factor in zip(losses, (1, 0.5, 3, 0, 0.1), strict=True):
        torch.testing.assert_close(others[name], factor * losses[name])
    sum(others.values()).backward()
    for name, parameter in weighted.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("negative", [True, False])
def test_a_batch_without_labels_has_finite_losses_and_every_gradient(negative):
    model, items = make("LOSS.IGNORED_AS_NEGATIVE", negative).train(), batch(3)
    for item in items:
        item["sem_seg"][:] = 255
    losses = model(items)
    assert all((loss > 0) if negative else (loss == 0) for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or (parameter.grad.isfinite() if negative else parameter.grad == 0).all(), name


def test_the_loss_of_a_batch_of_one_size_is_that_of_its_images():
    model = make("LOSS.IGNORED_AS_NEGATIVE", False).train()
    items = [random_pair(32, 48, seed, num_classes=3) for seed in range(2)]
    items[0]["sem_seg"][:16] = 255
    together = model.losses(items)
    singles = [model.losses([item]) for item in items]
    counts = [(item["sem_seg"] != 255).sum() for item in items]
    for name in ("loss_sem_seg", "loss_auxiliary_0", "loss_auxiliary_2"):
        mean = sum(count * single[name] for count, single in zip(counts, singles, strict=True)) / sum(counts)
        torch.testing.assert_close(together[name], mean, rtol=1e-4, atol=1e-6)


def test_chunks_and_recomputing_change_nothing():
    results = []
    for overrides in ((), ("MODEL.AGGREGATOR.CLASS_CHUNK", 2, "MODEL.ACTIVATION_CHECKPOINTING", True)):
        model = make(*overrides)
        scores = scores_of(model, batch())
        loss = sum(model.train()(batch(3)).values())
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((scores, loss, gradients))
    (scores, loss, gradients), (chunked, chunked_loss, chunked_gradients) = results
    assert_equal(scores, chunked)
    torch.testing.assert_close(loss, chunked_loss)
    torch.testing.assert_close(gradients, chunked_gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("overrides", [
    ("MODEL.FGASEG.REFINEMENT_LAYERS", 2),
    ("MODEL.FGASEG.REFINEMENT_HEADS", 4),
    ("MODEL.FGASEG.KERNEL_SIZE", 5),
    ("MODEL.FGASEG.FUSION", "add"),
    ("MODEL.FGASEG.NORM", "SyncBN"),
    ("MODEL.TEXT.TEMPLATES", ["a photo of {}", "{} from above"]),
])  # fmt: skip
def test_variants_learn_and_differ(overrides):
    model, items = make(*overrides), batch(3)
    assert sum(model.train()(items).values()).isfinite()
    if "NORM" in overrides[0]:  # of the alignment branch, which has no part in evaluation
        assert isinstance(model.sem_seg_head.alignment.fine.norm, nn.SyncBatchNorm)
        return
    assert not torch.allclose(scores_of(model.eval(), items)[0], scores_of(make(), items)[0], atol=1e-6)


def test_the_table_of_names_has_every_tensor_of_the_head_and_of_the_projections():
    model = make("MODEL.AGGREGATOR.LAYERS", 2)  # as released
    ours = {name for name in model.state_dict() if not name.startswith(("clip.encoder.", "text."))}
    targets = [target for rename in MODEL_TABLES["fgaseg"].values() for target in rename.targets]
    assert len(targets) == len(set(targets))
    assert {name for name in targets if not name.startswith(("clip.encoder.", "text."))} == ours


def test_learning_rates_and_decay():
    cfg = tiny_cfg(CONFIG)
    assert (cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == ("ADAMW", 2e-4, 8)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE) == (80000, 0, 0.01)
    node = cfg.MODEL.FGASEG
    assert (node.KEPT_CLASSES, cfg.MODEL.AGGREGATOR.MAX_CLASSES, node.KERNEL_SIZE) == (16, 256, 3)
    model = build_model(cfg)
    groups = {id(p): group for group in build_optimizer(cfg, model).param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = groups.pop(id(parameter))
            of_clip = name.startswith(("clip.encoder.", "text."))
            assert group["lr"] == pytest.approx(2e-4 * (0.01 if of_clip else 1)), name
            undecayed = "norm" in name or "padding_" in name
            assert group["weight_decay"] == (0 if undecayed else 1e-4), name
    assert not groups


@pytest.mark.parametrize("overrides,message", [
    (("MODEL.DENSE_ENCODER.ENABLED", True), "set MODEL.DENSE_ENCODER.ENABLED to False"),
    (("MODEL.CLIP_SAR.ENABLED", True), "set MODEL.CLIP_SAR.ENABLED to False"),
    (("MODEL.SEM_SEG_HEAD.NAME", "MMOVSegHead"), "builds a MMOVSegHead; FGAseg needs FGAsegHead"),
    (("MODEL.FGASEG.AUXILIARY_WEIGHTS", [1.0]), "must have 3 entries"),
    (("MODEL.FGASEG.KERNEL_SIZE", 4), "KERNEL_SIZE is 4; it must be odd"),
    (("MODEL.FGASEG.FUSION", "product"), "FUSION is 'product'; choose one of concatenate, add"),
    (("MODEL.FGASEG.REFINEMENT_HEADS", 7), "REFINEMENT_HEADS is 7; it must divide 64"),
    (("MODEL.FGASEG.REFINEMENT_LAYERS", 0), "REFINEMENT_LAYERS is 0; give 1 or more"),
    (("MODEL.FGASEG.KEPT_CLASSES", -1), "KEPT_CLASSES is -1; give a number of classes, or 0"),
    (("MODEL.FGASEG.NORM", "batch"), "NORM is 'batch'"),
])  # fmt: skip
def test_a_config_that_cannot_be_is_refused_in_a_sentence(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build_model(tiny_cfg(CONFIG, *overrides))


def test_wrong_images_labels_and_names_are_refused():
    model = make()
    with pytest.raises(DataError, match="has no labels"):
        model.train()(batch())
    with pytest.raises(DataError, match=r"shape \(1, 32, 32\)"):
        model.eval()([{"image": torch.zeros(1, 32, 32)}])
    with pytest.raises(VocabularyError):
        model.set_vocabulary([])


def test_export_to_onnx_is_for_vocabularies_that_are_not_pruned(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = make()
    assert (model.graph_sizes.classes, make("MODEL.FGASEG.KEPT_CLASSES", 0).graph_sizes.classes) == (16, 256)
    first, second = write_export(SegmentationGraph(model), tmp_path / "model.onnx", {})  # compares with PyTorch
    assert (first.classes, second.classes) == (2, 16)


def test_a_model_that_is_no_function_of_image_and_text_cannot_be_exported():
    model = Other(text=make().text, train_vocabulary=(), vocabulary=(), inference_dtype="float32")
    with pytest.raises(ExportError, match="Other cannot be exported"):
        SegmentationGraph(model)


def test_other_models_are_not_explained():
    predictor = Predictor(tiny_cfg(CONFIG, "MODEL.DEVICE", "cpu"), NAMES)
    image = torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()
    with pytest.raises(ConfigError, match="FGAsegHead; only an MMOVSegHead can be explained"):
        explain(predictor, image, None)
    predictor.model = Other(text=predictor.model.text, train_vocabulary=(), vocabulary=(), inference_dtype="float32")
    with pytest.raises(ConfigError, match="Other; only MMOVSeg can be explained"):
        explain(predictor, image, None)
