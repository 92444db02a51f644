"""EBSeg in tiny: sizes, batches, vocabularies, bad input, training."""

import json

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model

import train_net
from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.baselines.ebseg import losses, matching, meta_arch, pixel_decoder, transformer_decoder
from mm_ovseg.baselines.ebseg.class_scores import share_a_name
from mm_ovseg.baselines.ebseg.sam import SAMEncoder
from mm_ovseg.baselines.ebseg.transformer_decoder import Stage
from mm_ovseg.baselines.position_embedding import sine_position
from mm_ovseg.engine.optimizer import build_optimizer
from mm_ovseg.errors import CheckpointError, ConfigError, DataError, VocabularyError
from mm_ovseg.inference import SceneOptions, ScenePredictor
from tests.conftest import ROOT, no_warnings, random_pair
from tests.engine.test_optimizer import settings_by_name

CONFIG = "configs/siblings/ebseg_vitb16_640.yaml"
SAM = {"embed_dim": 32, "num_heads": 2, "depth": 3, "global_attn_indexes": [1], "window_size": 3, "img_size": 64}
TINY = {
    "CLIP": {"NAME": "ViT-quickstart-16"},
    "TEXT": {"TEMPLATES": ["a photo of a {}.", "There is a {} in the scene"]},
    "EBSEG": {
        **{"CLIP_BLOCKS": [1, 2, 3], "SURGERY_BLOCK": 2, "WIDTH": 32, "HEADS": 4},
        **{"QUERIES": 12, "PIXEL_LAYERS": 1, "LAYERS": 4},
        "SAM": {"ARGUMENTS": SAM, "BLOCKS": [1, 1, 2, 3]},
    },
}
NAMES = ["city", "water, river", "forest"]
KEYS = "MODEL.EBSEG."


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    for module in (losses, matching):
        monkeypatch.setattr(module, "POINTS", 64)


@pytest.fixture
def tiny_cfg(make_cfg):
    def make(*overrides):
        cfg = make_cfg(CONFIG)
        cfg.MODEL.merge_from_other_cfg(CfgNode(TINY))
        cfg.merge_from_list(list(overrides))
        return cfg

    return make


@pytest.fixture
def tiny_model(tiny_cfg):
    def make(*overrides, sharp=True):
        torch.manual_seed(0)
        model = build_model(tiny_cfg(*overrides))
        model.train_vocabulary = ("city", "water", "road")
        model.set_vocabulary(NAMES)
        if sharp:
            sharpen(model)
        return model.eval()

    return make


@torch.no_grad()
def sharpen(model):
    """Random weights with which the images, queries and names matter."""
    for parameter in model.sem_seg_head.parameters():
        parameter.mul_(2)
    model.sem_seg_head.transformer_decoder.query_feat.weight.mul_(8)


@no_warnings
def test_a_batch_gives_what_its_images_give_alone(tiny_model):
    model = tiny_model()
    batch = [random_pair(*size, seed) for seed, size in enumerate([(64, 64), (50, 70), (64, 64), (96, 33)])]
    batch[2].update(height=40, width=100)
    together = [output["sem_seg"] for output in model(batch)]
    alone = [model([item])[0]["sem_seg"] for item in batch]
    assert [tuple(scores.shape) for scores in together] == [(3, 64, 64), (3, 50, 70), (3, 40, 100), (3, 96, 33)]
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert ours.dtype == torch.float32 and ours.std() > 0
    assert model([]) == []


def test_normalised_images_are_padded_with_zeros_at_the_right_and_the_bottom(tiny_model, monkeypatch):
    model, seen = tiny_model(), {}
    for encoder in (model.clip, model.sam):
        encoder.register_forward_pre_hook(lambda module, inputs: seen.update({module: inputs[0]}))
    items = [random_pair(50, 70, num_classes=3), random_pair(33, 90, 1, num_classes=3)]
    model(items)
    monkeypatch.setattr(meta_arch, "ebseg_losses", lambda *inputs: {"labels": inputs[-1]})
    labels = model.train()(items)["labels"]
    for place, item in enumerate(items):
        height, width = item["image"].shape[1:]
        rest = torch.ones(64, 96, dtype=torch.bool)
        rest[:height, :width] = False
        image = (item["image"] - model.sam_pixel_mean) / model.sam_pixel_std
        torch.testing.assert_close(seen[model.sam][place, :, :height, :width], image)
        assert (seen[model.sam][place, :, rest] == 0).all() and (labels[place, rest] == -1).all()
        assert torch.equal(labels[place, :height, :width], item["sem_seg"])
        padded = F.pad((item["image"] - model.pixel_mean) / model.pixel_std, (0, 96 - width, 0, 64 - height))
        torch.testing.assert_close(seen[model.clip][place], F.avg_pool2d(padded, 2))


@torch.no_grad()
def test_rows_and_columns_are_treated_alike(tiny_model, monkeypatch):
    """With weights that do not tell them apart, the transposed image has transposed scores; golden ones are squares."""

    def of_both_axes(height, width, channels, **options):
        position = sine_position(height, width, channels, **options)
        return position + position.roll(channels, dims=0)

    for module in (pixel_decoder, transformer_decoder):
        monkeypatch.setattr(module, "sine_position", of_both_axes)
    model = tiny_model()
    position = model.clip.visual.positional_embedding
    grid = position[1:].unflatten(0, (12, 12))
    position[1:] = (grid + grid.transpose(0, 1)).flatten(0, 1)
    model.sam.model.pos_embed.add_(model.sam.model.pos_embed.transpose(1, 2).clone())
    for name, parameter in model.named_parameters():
        if name.endswith("rel_pos_h"):
            model.get_parameter(name.replace("rel_pos_h", "rel_pos_w")).copy_(parameter.normal_())
        elif parameter.dim() == 4 and parameter.shape[-1] > 1 and not name.endswith("pos_embed"):
            parameter.add_(parameter.mT.clone())  # a convolution
        elif ".attention.offsets." in name:
            parameter.unflatten(0, (-1, 2))[:, 1] = parameter.unflatten(0, (-1, 2))[:, 0]
    item = random_pair(50, 90)
    scores, turned = (model([{"image": image}])[0]["sem_seg"] for image in (item["image"], item["image"].mT))
    assert scores.shape == (3, 50, 90) and scores.std() > 0.01 * scores.mean()
    torch.testing.assert_close(turned.mT, scores, rtol=1e-4, atol=1e-5)


@no_warnings
def test_two_vocabularies_in_one_process(tiny_model):
    model, item = tiny_model(), random_pair(40, 48)
    first = model([item])[0]["sem_seg"]
    model.set_vocabulary(["grass", "city"])
    assert model([item])[0]["sem_seg"].shape == (2, 40, 48)
    labelled = random_pair(40, 48, num_classes=3)
    torch.manual_seed(1)
    before = model.train()([labelled])["mse_ssc_loss_1"]
    model.eval().set_vocabulary(NAMES)
    assert torch.equal(model([item])[0]["sem_seg"], first)
    torch.manual_seed(1)
    assert model.train()([labelled])["mse_ssc_loss_1"] == before  # the text of the loss is that of training


def test_seen_names_come_from_training_or_by_hand(tiny_model, tiny_cfg):
    model, item = tiny_model(), random_pair(48, 48)
    of_training = model([item])[0]["sem_seg"]
    model.seen_classes = ("river", "city")
    assert torch.equal(model([item])[0]["sem_seg"], of_training)  # the same classes share a name
    model.seen_classes = ("rivers", "City")
    unseen = model([item])[0]["sem_seg"]
    assert not torch.equal(unseen, of_training)
    by_key = tiny_model(f"{KEYS}SEEN_CLASSES", ["rivers", "City"])
    assert torch.equal(by_key([item])[0]["sem_seg"], unseen)
    assert share_a_name(["water, river", "road"], ["lake,river", "roads"]) == [True, False]


def test_class_embeddings_have_one_length_of_at_most_10(tiny_model):
    decoder = tiny_model().sem_seg_head.transformer_decoder
    stage = Stage(*torch.randn(2, 1, 12, 32), torch.randn(1, 12, 4, 4))
    for scale, length in ((3.0, 3.0), (20.0, 10.0)):
        torch.nn.init.constant_(decoder.logit_scale, scale)
        embeddings = decoder.class_embeddings(stage, torch.randn(1, 32, 4, 4))
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.full((1, 12), length))


@no_warnings
def test_the_frozen_parts_are_frozen_and_in_evaluation_mode(tiny_model):
    model = tiny_model().train()
    assert model.training and model.sem_seg_head.training
    assert not any(part.training for part in (model.text, model.clip, model.sam))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    learning = {name for name in learning if not name.startswith("sem_seg_head.")}
    assert learning == {"clip.visual.positional_embedding", "sam.model.pos_embed", "no_object"}
    model([random_pair(num_classes=3)])["loss_ce"].backward()


@no_warnings
@pytest.mark.parametrize("recompute", [False, True])
def test_every_parameter_that_learns_gets_a_gradient(tiny_model, recompute):
    model = tiny_model("MODEL.ACTIVATION_CHECKPOINTING", recompute).train()
    batch = [random_pair(64, 64, seed, num_classes=3) for seed in range(2)]
    batch[1]["sem_seg"][:] = 255  # nothing to match
    losses = model(batch)
    assert len(losses) == 5 * 4 + 1 and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("term,reached", [
    ("loss_ce", ["query_feat.weight", "class_embed.4.weight", "logit_scale"]),
    ("1_loss_ce", ["query_feat.weight", "mask_embed.4.weight", "bias_proj.0.weight", "bias_scaling.weight"]),
    ("loss_mask", ["query_feat.weight", "mask_embed.4.weight"]),
    ("mse_ssc_loss_1", ["query_feat.weight", "class_embed.4.weight"]),
])  # fmt: skip
def test_the_gradient_of_each_term(tiny_model, term, reached):
    model = tiny_model().train()
    model([random_pair(64, 64, num_classes=3)])[term].backward()
    head = dict(model.sem_seg_head.named_parameters())
    for name in ("pixel_decoder.mask_features.weight", *(f"transformer_decoder.{name}" for name in reached)):
        assert head[name].grad.abs().max() > 0, name
    others = ["class_embed.4.weight"] if term in ("1_loss_ce", "loss_mask") else ["bias_proj.0.weight"]
    assert all(head[f"transformer_decoder.{name}"].grad is None for name in others)


def test_images_of_different_sizes_are_padded_for_training(tiny_model):
    model = tiny_model().train()
    losses = model([random_pair(64, 40, num_classes=3), random_pair(33, 64, 1, num_classes=2)])
    assert all(loss.isfinite() for loss in losses.values())


def test_mixed_precision_on_a_cpu(tiny_model):
    model, item = tiny_model(sharp=False), random_pair(64, 64, num_classes=3)
    exact = model([item])[0]["sem_seg"]
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()([item])
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    rough = tiny_model("MODEL.INFERENCE_DTYPE", "bfloat16", sharp=False)([item])[0]["sem_seg"]
    assert rough.dtype == torch.float32 and (rough - exact).abs().mean() < 0.1 * exact.abs().mean()


@pytest.mark.parametrize("overrides,message", [
    (["CLIP_BLOCKS", [1, 2, 4]], r"CLIP_BLOCKS is \[1, 2, 4\]; give blocks from 1 to 3 in ascending order"),
    (["CLIP_BLOCKS", [3, 2, 1]], "in ascending order"),
    (["CLIP_BLOCKS", [1, 2]], "it must have 3 entries"),
    (["SURGERY_BLOCK", 4], "SURGERY_BLOCK is 4; give one from 1 to 3"),
    (["CLIP_SCALE", 0.0], "CLIP_SCALE is 0.0"),
    (["WIDTH", 40], "WIDTH is 40; give a multiple of 32"),
    (["ALPHA", 0.5], "ALPHA, BETA and GAMMA are 0.5, 0.3 and 0.7"),
    (["QUERIES", 0], "QUERIES is 0"),
    (["LAYERS", 0], "LAYERS is 0"),
    (["SAM.BLOCKS", [1, 2, 3]], r"SAM.BLOCKS is \[1, 2, 3\]; give four blocks from 1 to 3"),
    (["SAM.BLOCKS", [1, 2, 3, 4]], "give four blocks from 1 to 3"),
    (["SAM.NAME", "vit_tiny_patch16_224"], "timm cannot build|not SAM's image encoder"),
    (["SAM.NAME", "nonsense"], "timm cannot build MODEL.EBSEG.SAM.NAME 'nonsense'"),
])  # fmt: skip
def test_wrong_settings(tiny_cfg, overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        build_model(tiny_cfg(f"{KEYS}{overrides[0]}", overrides[1]))
    assert "\n" not in str(error.value)


def test_it_is_not_compiled(tiny_cfg):
    with pytest.raises(ConfigError, match="MODEL.COMPILE is on"):
        build_model(tiny_cfg("MODEL.COMPILE", True))


def test_wrong_input(tiny_model):
    model = tiny_model()
    with pytest.raises(DataError, match="has no 'image'"):
        model([{"file_name": "a.png"}])
    model.train()
    with pytest.raises(DataError, match=r"The labels of pair_0.png have the shape \(3, 3\)"):
        model([{**random_pair(num_classes=3), "sem_seg": torch.zeros(3, 3, dtype=torch.int64)}])
    model.train_vocabulary = ()
    with pytest.raises(VocabularyError, match="no class names"):
        model([random_pair(num_classes=3)])


def test_similarities_are_scaled_as_in_clips_training(tiny_cfg, tmp_path):
    clip = open_clip.create_model(TINY["CLIP"]["NAME"])
    torch.nn.init.constant_(clip.logit_scale, 2.5)
    torch.save(clip.state_dict(), tmp_path / "clip.pth")
    model = build_model(tiny_cfg("MODEL.CLIP.PRETRAINED", str(tmp_path / "clip.pth")))
    assert model.logit_scale == 2.5 and not model.logit_scale.requires_grad


def test_weights_of_sam_as_published(tmp_path):
    whole = timm.create_model("samvit_base_patch16", num_classes=0, **SAM).state_dict()  # with the neck
    published = {f"image_encoder.{name.replace('mlp.fc', 'mlp.lin')}": tensor + 1 for name, tensor in whole.items()}
    assert {"image_encoder.blocks.0.mlp.lin1.weight", "image_encoder.neck.0.weight"} <= published.keys()
    torch.save({**published, "mask_decoder.iou_token.weight": torch.zeros(1)}, tmp_path / "sam_vit_b_01ec64.pth")
    settings = {"name": "samvit_base_patch16", "arguments": SAM, "blocks": [1, 1, 2, 2]}
    ours = SAMEncoder(weights=str(tmp_path / "sam_vit_b_01ec64.pth"), **settings).model.state_dict()
    assert all(torch.equal(tensor, whole[name] + 1) for name, tensor in ours.items())
    assert "pos_embed" in ours and not any(name.startswith(("neck.", "blocks.2.")) for name in ours)
    torch.save({"norm.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="other.pth holds weights of another architecture"):
        SAMEncoder(weights=str(tmp_path / "other.pth"), **settings)
    with pytest.raises(CheckpointError, match="nothing.pth"):
        SAMEncoder(weights=str(tmp_path / "nothing.pth"), **settings)


def test_weight_decay_is_that_of_the_release(tiny_model, tiny_cfg):
    model = tiny_model()
    groups = build_optimizer(tiny_cfg(), model).param_groups
    assert {group["lr"] for group in groups} == {1e-4} and {group["weight_decay"] for group in groups} == {0, 0.05}
    decays = {name: decay for name, (_, decay) in settings_by_name(model, groups).items()}
    head = "sem_seg_head."
    for name in (
        *("clip.visual.positional_embedding", "sam.model.pos_embed", f"{head}pixel_decoder.smooth.norm.weight"),
        *(f"{head}transformer_decoder.{x}.weight" for x in ("query_feat", "query_embed", "level_embed", "norm")),
        *(f"{head}pixel_decoder.projections.0.1.bias", f"{head}transformer_decoder.pool_proj.0.weight"),
    ):
        assert decays[name] == 0, name
    for name in (
        *("no_object", f"{head}fusion.layers.0.0.weight", f"{head}pixel_decoder.level_embed"),
        *(f"{head}transformer_decoder.logit_scale", f"{head}transformer_decoder.layers.0.attention.in_proj_bias"),
    ):
        assert decays[name] == 0.05, name


def test_train_net_trains_and_evaluates(tmp_path, monkeypatch, forget_datasets):
    write_synthetic_dataset(tmp_path / "synthetic", num_train=2, num_val=1, size=64)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    declared = ROOT / "projects" / "laptop" / "datasets.yaml"
    config = {
        "_BASE_": str(ROOT / CONFIG),
        "MODEL": {**TINY, "DEVICE": "cpu"},
        "DATASETS": {"FILES": [str(declared)], "TRAIN": ["synthetic_train"], "TEST": ["synthetic_val"]},
        "INPUT": {"CROP": {"SIZE": [64, 64]}, "MIN_SIZE_TRAIN": [48, 96], "MIN_SIZE_TEST": 80},
        "SOLVER": {"IMS_PER_BATCH": 2, "MAX_ITER": 3, "AMP": {"ENABLED": False}},
        "DATALOADER": {"NUM_WORKERS": 0},
        "VERSION": 2,
    }
    (tmp_path / "ebseg.yaml").write_text(yaml.safe_dump(config))
    output = tmp_path / "output"
    train_net.main(["--config-file", str(tmp_path / "ebseg.yaml"), "OUTPUT_DIR", str(output)])
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    (trained,) = (line for line in lines if "total_loss" in line)
    terms = [value for name, value in trained.items() if "loss" in name and name != "total_loss"]
    assert len(terms) == 21 and all(0 <= term < trained["total_loss"] for term in terms)
    assert trained["lr"] == pytest.approx(1e-4 * (1 / 3) ** 0.9)  # of the last step, by the poly schedule
    assert (output / "model_final.pth").is_file() and (output / "inference").is_dir()


def test_scores_above_1_in_a_scene_are_said_to_be_cut(tiny_cfg, write_raster, tmp_path):
    scenes = ScenePredictor(tiny_cfg(), NAMES)
    rgb = write_raster(tmp_path / "rgb.tif", np.full((40, 30, 3), 99, np.uint8))
    for confidence in (False, True):
        options = SceneOptions(window=64, confidence=confidence)
        warnings = scenes.segment(rgb, None, tmp_path / f"{confidence}.tif", options)["warnings"]
        assert (
            any("not probabilities; those above 1 are written as 100 percent" in text for text in warnings)
            == confidence
        )
