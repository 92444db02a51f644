"""SegEarth-OV in tiny: sizes, batches, vocabularies, the threshold, and weights that are there or not."""

import copy
from collections import Counter

import open_clip
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from mm_ovseg.baselines.segearth.segmenter import class_scores
from mm_ovseg.baselines.segearth.upsampler import upsample_by_kernels
from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.checkpoint.weights_file import write_weights_file
from mm_ovseg.engine import Trainer, config_inputs
from mm_ovseg.errors import CheckpointError, ConfigError, DataError, VocabularyError
from mm_ovseg.inference import Predictor
from mm_ovseg.modeling import same_names
from mm_ovseg.modeling.modality import RGB_ALONE
from tests.conftest import random_pair, run_cli
from tests.rehearsal.device import tiny_cfg

CONFIG = "configs/siblings/segearth_ov_vitb16.yaml"
NAMES = ["water, river", "road", "forest"]
SIZES = [(48, 64), (32, 32), (30, 41), (5, 7), (32, 90)]  # windows have 32 pixels a side, patches 4
PUBLISHED = {
    "step.log_temperature": "up.range_temp",
    "step.sigma": "up.sigma_spatial",
    "step.embedding.0": "up.range_proj.0",
    "step.embedding.2": "up.range_proj.3",
    "step.correction.0": "up.fixup_proj.0",
    "step.correction.2": "up.fixup_proj.3",
    "projection": "fixup_proj.1",
}


def build(*overrides):
    """A tiny model with random weights, but for the upsampler, which has none."""
    torch.manual_seed(0)
    return build_model(tiny_cfg(CONFIG, "MODEL.TEXT.TEMPLATES", ["a photo of a {}.", "the {}."], *overrides)).eval()


def upsampler_weights(seed=1):
    """Weights of the tiny model's upsampler, by our names within it."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: value.shape for name, value in build().upsampler.state_dict().items()}
    return {name: torch.randn(shape, generator=generator) / shape.numel() ** 0.5 for name, shape in shapes.items()}


def published(weights):
    """The same as the Lightning checkpoint has them."""
    state = {}
    for name, value in weights.items():
        ours = next(ours for ours in PUBLISHED if name == ours or name.startswith(f"{ours}."))
        value = value[..., None, None] if name == "projection.weight" else value
        state[f"upsampler.{PUBLISHED[ours]}{name.removeprefix(ours)}"] = value
    return {"state_dict": state, "optimizer_states": [{"state": {0: {"step": torch.ones(())}}}], "epoch": 0}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "xclip_jbu_one_million_aid.ckpt"
    torch.save(published(upsampler_weights()), path)
    return path


@pytest.fixture
def complete(checkpoint):
    """A model with weights everywhere."""
    return build("MODEL.SEGEARTH.UPSAMPLER_WEIGHTS", str(checkpoint))


@pytest.fixture
def messages(monkeypatch, caplog):
    """What the log says from here on, although it says each thing only once."""
    monkeypatch.setattr("detectron2.utils.logger._LOG_COUNTER", Counter())
    return lambda: [record.getMessage() for record in caplog.records]


def scores_of(model, *items):
    return [output["sem_seg"] for output in model(list(items))]


def items_of_all_sizes():
    items = [random_pair(*size, seed) for seed, size in enumerate(SIZES)]
    items[1] |= {"height": 50, "width": 20}
    return items


@pytest.mark.parametrize("size", [(3, 3), (4, 9), (7, 6), (14, 14)])
def test_the_upsampler_is_a_sum_over_the_resized_and_reflected_neighbourhood(size):
    height, width = size
    generator = torch.Generator().manual_seed(0)
    features, kernels = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, height, width, 3), (2, 121, 2 * height, 2 * width))
    )
    large = F.interpolate(features.permute(0, 3, 1, 2), (2 * height, 2 * width), mode="bicubic", align_corners=False)
    around = F.unfold(F.pad(large, [5] * 4, mode="reflect"), 11).unflatten(1, (3, 121))
    expected = torch.einsum("bcpn,bpn->bnc", around, kernels.flatten(2)).unflatten(1, (2 * height, 2 * width))
    torch.testing.assert_close(upsample_by_kernels(features, kernels), expected)


def test_a_batch_of_all_sizes_is_what_its_images_are_alone(complete):
    complete.set_vocabulary(NAMES)
    items = items_of_all_sizes()
    alone = [scores_of(complete, item)[0] for item in items]
    for complete.windows_at_once in (1, 4):
        for item, ours, theirs in zip(items, scores_of(complete, *items), alone, strict=True):
            assert ours.shape == (3, item.get("height", item["image"].shape[1]), item.get("width", ours.shape[2]))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
            assert ours.dtype == torch.float32 and ours.min() >= 0 and ours.max() <= 1


def test_an_image_as_a_whole_may_have_any_size(complete):
    complete.set_vocabulary(NAMES)
    item = random_pair(30, 41)
    windows = scores_of(complete, item)[0]
    complete.window = 0
    whole = scores_of(complete, item, random_pair(32, 32))
    assert whole[0].shape == windows.shape and not torch.allclose(whole[0], windows)
    complete.window = 64  # larger than the images: they are whole, too
    torch.testing.assert_close(scores_of(complete, item)[0], whole[0])


def test_what_is_no_whole_patch_is_padded_with_zeros_half_before_and_half_after(complete):
    complete.window, (image,) = 0, complete.images([random_pair(30, 41)])
    queries, zeros = F.normalize(torch.randn(4, 64), dim=1), complete.pixel_mean.expand(3, 32, 44).clone()
    zeros[:, 1:31, 1:42] = image
    with torch.no_grad():
        ours, padded = (
            complete.compare_images([complete.encode([{"image": some}])[0].features[RGB_ALONE]], queries)[0]
            for some in (image, zeros)
        )
    torch.testing.assert_close(ours, padded[:, 1:31, 1:42])


@pytest.mark.parametrize("window", [32, 0])
@torch.no_grad()
def test_rows_and_columns_are_treated_alike(window):
    """With weights that do not tell them apart, the transposed image has transposed scores; golden ones are squares."""
    model = build("MODEL.CLIP.IMAGE_SIZE", window)
    model.set_vocabulary(NAMES)
    visual = model.visual
    visual.conv1.weight.add_(visual.conv1.weight.mT.clone())
    grid = visual.positional_embedding[1:].unflatten(0, (6, 6))
    visual.positional_embedding[1:] = 50 * (grid + grid.transpose(0, 1)).flatten(0, 1)
    for size in ((30, 62), (20, 48)):
        image = random_pair(*size)["image"]
        scores, turned = (scores_of(model, {"image": some})[0] for some in (image, image.mT))
        assert scores.shape == (3, *size) and scores.std(dim=(1, 2)).min() > 0.01
        torch.testing.assert_close(turned.mT, scores, rtol=1e-4, atol=1e-5)


def test_the_last_windows_are_inside_the_image(complete):
    batches = list(complete._batches([(48, 90), (32, 20)]))
    places = [
        [(image, number, rows.start, columns.start) for image, number, rows, columns in batch] for batch in batches
    ]
    columns = (0, 24, 48, 58)
    first = [(row, column) for row in (0, 16) for column in columns]
    assert places == [*[[(0, number, *place)] for number, place in enumerate(first)], [(1, 0, 0, 0)]]


def test_two_vocabularies_in_one_process(complete):
    item = random_pair()
    complete.set_vocabulary(NAMES)
    before = scores_of(complete, item)[0]
    complete.set_vocabulary(["water", "river", "road", "forest"])
    apart = scores_of(complete, item)[0]
    torch.testing.assert_close(apart.sum(dim=0), torch.ones(48, 64))
    # A class has the highest of the scores of its synonyms, each of which is a query of its own.
    torch.testing.assert_close(before, torch.cat([apart[:2].amax(dim=0, keepdim=True), apart[2:]]))
    complete.set_vocabulary(NAMES)
    assert torch.equal(scores_of(complete, item)[0], before)


def test_a_name_in_two_classes_is_refused(complete):
    complete.set_vocabulary(["water, river", "river"])
    with pytest.raises(VocabularyError, match="'river' = 'river'"):
        complete([random_pair()])


def test_a_synonym_that_a_class_repeats_counts_once(complete):
    item = random_pair()
    complete.set_vocabulary(NAMES)
    once = scores_of(complete, item)[0]
    complete.set_vocabulary(["water, river, Water", *NAMES[1:]])
    torch.testing.assert_close(scores_of(complete, item)[0], once)


def test_the_published_templates():
    templates = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert len(templates) == 80 and templates == tiny_cfg(CONFIG).MODEL.TEXT.TEMPLATES


def test_first_synonyms_alone_by_config():
    assert build("MODEL.TEXT.SYNONYMS", "first").embed_queries(NAMES)[1] == [1, 1, 1]


def test_half_precision_is_close(complete):
    complete.set_vocabulary(NAMES)
    item = random_pair()
    exact = scores_of(complete, item)[0]
    complete.inference_dtype = torch.bfloat16
    half = scores_of(complete, item)[0]
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().mean() < 0.02


# ---------------------------------------------------------------------------------------- threshold and background


def test_pixels_below_the_threshold_are_background():
    logits = torch.tensor([[2.0, 0.1, 0.0], [0.0, 0.0, 0.1], [0.0, 0.2, 0.0]])[:, None]  # (3 queries, 1, 3)
    plain = class_scores(logits, [2, 1])
    torch.testing.assert_close(plain[0], logits.softmax(dim=0)[:2].amax(dim=0))
    assert plain.argmax(dim=0).tolist() == [[0, 1, 0]]
    scores = class_scores(logits, [2, 1], threshold=0.5, background=1)
    assert scores.argmax(dim=0).tolist() == [[0, 1, 1]]
    assert torch.equal(scores[:, :, 0], plain[:, :, 0]) and torch.equal(scores[1], plain[1])
    assert scores[0, 0].tolist() == [plain[0, 0, 0].item(), 0, 0]


def test_the_background_is_found_among_the_synonyms(complete, messages):
    complete.threshold, complete.background = 1.0, "Road"
    complete.set_vocabulary(["water", "street, road", "forest"])
    assert (scores_of(complete, random_pair())[0].argmax(dim=0) == 1).all()
    assert not messages()


def test_without_the_background_the_threshold_is_not_applied_and_the_log_says_so_once(complete, messages):
    complete.set_vocabulary(NAMES)
    item = random_pair()
    plain = scores_of(complete, item)[0]
    complete.threshold, complete.background = 0.9, "background"
    for _ in range(2):
        assert torch.equal(scores_of(complete, item)[0], plain)
    (message,) = messages()
    assert "THRESHOLD 0.9 is not applied: MODEL.SEGEARTH.BACKGROUND, 'background', is not among" in message


def test_one_name_alone_is_compared_with_others_or_refused(monkeypatch):
    monkeypatch.setattr(same_names, "SAME_MEANING", 2.0)  # random embeddings of other names may nearly agree
    predictor = Predictor(tiny_cfg(CONFIG, "MODEL.DEVICE", "cpu"), ["water, river"])
    assert predictor.decision.names == ("water, river", "road", "city", "forest") and predictor.decision.has_none
    with pytest.raises(VocabularyError, match="SegEarthOV only compares names .* 'water, river' everywhere"):
        predictor.set_vocabulary(["water, river"], background=())
    assert len(predictor.decision.names) == 4


# --------------------------------------------------------------------------------------- the weights of the upsampler


def test_without_weights_features_are_resized_bilinearly_and_the_log_says_so_once(messages):
    model = build()
    model.set_vocabulary(NAMES)
    outputs = [scores_of(model, random_pair())[0] for _ in range(2)]
    assert torch.equal(*outputs)
    (message,) = messages()
    assert "UPSAMPLER_WEIGHTS), so features are resized bilinearly" in message
    image = torch.randn(1, 3, 32, 32)
    features = torch.randn(1, 8, 8, 64)
    expected = F.interpolate(features.permute(0, 3, 1, 2), (32, 32), mode="bilinear").permute(0, 2, 3, 1)
    assert torch.equal(model.upsample(features, image), expected)


def test_weights_are_noticed_however_they_come(complete, tmp_path):
    item = random_pair()
    complete.set_vocabulary(NAMES)
    expected = scores_of(complete, item)[0]
    copied, loaded, bare = copy.deepcopy(complete), build(), build()
    copied.load_state_dict(complete.state_dict())
    StrictCheckpointer(complete, str(tmp_path)).save("model")
    StrictCheckpointer(loaded).load(str(tmp_path / "model.pth"))
    for model in (copied, loaded, copy.deepcopy(loaded)):
        model.set_vocabulary(NAMES)
        assert torch.equal(scores_of(model, item)[0], expected)
    loaded.load_state_dict(bare.state_dict())  # of a model without weights: zeros
    assert not loaded.upsampler.has_weights and not copy.deepcopy(bare).upsampler.has_weights


def test_the_published_checkpoint_converts(checkpoint, tmp_path, capsys, complete):
    output = tmp_path / "simfeatup.safetensors"
    run_cli("convert", checkpoint, output)
    printed = capsys.readouterr().out
    assert "12 tensors into 12" in printed and "use it as MODEL.SEGEARTH.UPSAMPLER_WEIGHTS" in printed
    converted = build("MODEL.SEGEARTH.UPSAMPLER_WEIGHTS", str(output))
    for model in (complete, converted):
        for name, value in upsampler_weights().items():
            assert torch.equal(model.upsampler.state_dict()[name], value), name
    with pytest.raises(SystemExit):
        run_cli("convert", output, tmp_path / "again.safetensors")
    assert "already has the names that mm_ovseg reads" in capsys.readouterr().err


class Stranger:
    """Not a tensor."""


@pytest.mark.parametrize("change,message", [
    (lambda content: content.update(hyper_parameters=Stranger()), "objects other than tensors .*Stranger"),
    (lambda content: content["state_dict"].update(notes="text"), "not tensors: notes"),
    (lambda content: content["state_dict"].pop("upsampler.up.range_temp"), "1 missing .*range_temp"),
    (lambda content: content["state_dict"].update({"upsampler.fixup_proj.1.bias": torch.ones(3)}), "another shape"),
    (lambda content: content.update(state_dict={"weight": torch.ones(1)}), "12 missing"),
])  # fmt: skip
def test_other_files_are_refused_in_one_sentence(tmp_path, change, message):
    content = published(upsampler_weights())
    change(content)
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        build("MODEL.SEGEARTH.UPSAMPLER_WEIGHTS", str(path))
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused():
    with pytest.raises(CheckpointError, match="nowhere.ckpt does not exist"):
        build("MODEL.SEGEARTH.UPSAMPLER_WEIGHTS", "nowhere.ckpt")


def test_the_upsampler_alone_is_not_a_model(checkpoint):
    with pytest.raises(CheckpointError, match=r"[0-9]+ missing.*give them as MODEL\.SEGEARTH\.UPSAMPLER_WEIGHTS"):
        StrictCheckpointer(build()).load(str(checkpoint))


# --------------------------------------------------------------------------------------------- the rest of the library


def test_its_files_are_not_overwritten(checkpoint):
    cfg = tiny_cfg(CONFIG, "MODEL.SEGEARTH.UPSAMPLER_WEIGHTS", str(checkpoint))
    assert str(checkpoint) in config_inputs(cfg)["one of the weights files"]


def test_nothing_trains():
    model = build()
    assert not [parameter for parameter in model.parameters() if parameter.requires_grad]
    with pytest.raises(ConfigError, match="SegEarthOV needs no training; evaluate it with --eval-only"):
        Trainer(tiny_cfg(CONFIG))
    with pytest.raises(ConfigError, match="needs no training"):
        model.train()([random_pair(num_classes=3)])


@pytest.mark.parametrize("given", ["MODEL.WEIGHTS", "MODEL.CLIP.PRETRAINED", None])
def test_a_predictor_needs_clips_weights(tmp_path, caplog, complete, given):
    path = tmp_path / "weights.safetensors"
    clip = given == "MODEL.CLIP.PRETRAINED"
    write_weights_file(path, (open_clip.create_model("ViT-laptop-4") if clip else complete).state_dict(), {})
    words = ["MODEL.TEXT.TEMPLATES", ["{}"], "INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 48]
    cfg = tiny_cfg(CONFIG, *words, *([given, str(path)] if given else []))
    predictor = Predictor(cfg, NAMES)
    warned = "MODEL.CLIP.PRETRAINED is empty: weights are random, and so are the maps." in caplog.messages
    assert warned == (given is None)
    image = random_pair(40, 30)["image"].byte().permute(1, 2, 0).numpy()
    prediction = predictor(image, None)
    assert prediction.class_map.shape == (40, 30) and prediction.class_map.max() < 3


@pytest.mark.parametrize("overrides,message", [
    (["MODEL.SEGEARTH.STRIDE", 33], "STRIDE is 33 for windows of MODEL.CLIP.IMAGE_SIZE 32"),
    (["MODEL.SEGEARTH.STRIDE", 0], "STRIDE is 0"),
    (["MODEL.CLIP.IMAGE_SIZE", -1], "IMAGE_SIZE -1"),
    (["MODEL.SEGEARTH.WINDOWS_AT_ONCE", 0], "WINDOWS_AT_ONCE is 0"),
    (["MODEL.SEGEARTH.THRESHOLD", 1.5], "THRESHOLD is 1.5"),
    (["MODEL.CLIP.ARGUMENTS", {"vision_cfg": {"image_size": 24, "layers": 1, "width": 64, "patch_size": 6}}],
     "patches have 6 pixels a side"),
])  # fmt: skip
def test_wrong_settings_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build(*overrides)


def test_wrong_input_is_refused():
    model = build()
    with pytest.raises(VocabularyError, match="no class names"):
        model([random_pair()])
    model.set_vocabulary(NAMES)
    with pytest.raises(DataError, match="has no 'image'; this model needs RGB for every pair"):
        model([{"file_name": "a.png"}])
    with pytest.raises(DataError, match=r"shape \(1, 48, 64\)"):
        model([{"image": torch.zeros(1, 48, 64)}])
    assert model([]) == []
