import pytest
import torch
import torch.nn.functional as F
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from mm_ovseg.errors import ConfigError, DataError, VocabularyError
from tests.conftest import random_pair

CLASSES = ["city", "road", "forest"]


def scores_of(model, *pairs):
    return [output["sem_seg"] for output in model(list(pairs))]


@pytest.fixture
def model(make_model):
    model = make_model().eval()
    model.set_vocabulary(CLASSES)
    return model


def test_scores_are_probabilities_at_the_size_asked_for(model):
    pair = random_pair(48, 64)
    whole, small = scores_of(model, pair, {**pair, "height": 30, "width": 20})
    assert whole.shape == (3, 48, 64) and small.shape == (3, 30, 20)
    assert whole.dtype == torch.float32 and whole.min() >= 0 and whole.max() <= 1
    assert whole.std() > 0


def test_scores_are_resized_as_scores_not_as_logits(model):
    seen = []

    def sharpen(_module, _inputs, logits):
        seen.append(100 * logits)  # many of the scores are 1, which resizing rounds up
        return seen[-1]

    model.sem_seg_head.register_forward_hook(sharpen)
    pair, valid = random_pair(), left_of(40)
    for item in (pair, {**pair, "height": 97, "width": 333}, {**pair, "sar_valid": valid}):
        seen.clear()
        (scores,) = scores_of(model, item)
        expected = [F.interpolate(logits.sigmoid(), scores.shape[1:], mode="bilinear")[0] for logits in seen]
        expected = expected[0] if len(seen) == 1 else torch.where(valid, expected[1], expected[0])
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)
        assert scores.max() == 1


def test_a_batch_of_pairs_of_different_sizes_equals_one_at_a_time(model):
    pairs = [random_pair(48, 64, 0), random_pair(200, 120, 1), random_pair(192, 192, 2)]
    for together, pair in zip(scores_of(model, *pairs), pairs, strict=True):
        torch.testing.assert_close(together, scores_of(model, pair)[0], rtol=1e-4, atol=1e-5)


def test_a_pair_that_says_it_has_no_sar_is_segmented_by_rgb_alone(model):
    pair = random_pair(seed=0)
    alone = scores_of(model, {**pair, "sar_image": None})[0]
    assert not torch.allclose(alone, scores_of(model, pair)[0], atol=1e-4)
    black = {**pair, "sar_image": torch.zeros_like(pair["sar_image"])}
    assert not torch.allclose(alone, scores_of(model, black)[0], atol=1e-4)  # black is not the same as none


def left_of(column, height=48, width=64):
    """Bool (H, W), True left of a column."""
    return (torch.arange(width) < column).repeat(height, 1)


@pytest.mark.parametrize("overrides", [
    [],
    ["MODEL.CLIP_SAR.ENABLED", True],
    ["MODEL.CLIP_SAR.ENABLED", True, "MODEL.DENSE_ENCODER_SAR.ENABLED", False, "MODEL.DENSE_ENCODER.ENABLED", False],
])  # fmt: skip
def test_each_pixel_is_answered_with_sar_where_sar_has_data(make_model, overrides):
    model = make_model(*overrides).eval()
    model.set_vocabulary(CLASSES)
    valid, pair = left_of(40), random_pair()
    valid[10:20, 50:] = True
    (with_sar,), (alone,) = scores_of(model, pair), scores_of(model, {**pair, "sar_image": None})
    assert not torch.isclose(with_sar, alone, atol=1e-4).any(dim=0).all()
    (joined,) = scores_of(model, {**pair, "sar_valid": valid})
    torch.testing.assert_close(joined[:, valid], with_sar[:, valid], rtol=0, atol=1e-6)
    torch.testing.assert_close(joined[:, ~valid], alone[:, ~valid], rtol=0, atol=1e-6)
    for everywhere, expected in ((True, with_sar), (False, alone)):
        assert torch.equal(scores_of(model, {**pair, "sar_valid": torch.full((48, 64), everywhere)})[0], expected)
    seen, nowhere = left_of(50), left_of(0)
    (sar_alone,) = scores_of(model, {**pair, "image_valid": nowhere})
    assert not torch.isclose(sar_alone, with_sar, atol=1e-4).any(dim=0).all()
    assert torch.equal(sar_alone, scores_of(model, {**pair, "image": 255 - pair["image"], "image_valid": nowhere})[0])
    (joined,) = scores_of(model, {**pair, "sar_valid": valid, "image_valid": seen})
    for there, expected in ((seen & valid, with_sar), (seen & ~valid, alone), (~seen & valid, sar_alone)):
        assert there.any()
        torch.testing.assert_close(joined[:, there], expected[:, there], rtol=0, atol=1e-6)


@pytest.mark.parametrize("twins", [["dino_sar"], ["clip_sar"], ["clip_sar", "dino_sar"]])
def test_sar_alone_gives_the_head_what_the_sar_encoders_say(make_model, twins):
    enabled = [key in twins for key in ("clip_sar", "dino_sar")]
    model = make_model("MODEL.CLIP_SAR.ENABLED", enabled[0], "MODEL.DENSE_ENCODER_SAR.ENABLED", enabled[1]).eval()
    model.set_vocabulary(CLASSES)
    received = []
    prepare = model.sem_seg_head.prepare
    model.sem_seg_head.prepare = lambda *features: (received.extend(features), prepare(*features))[1]
    item = {**random_pair(), "image_valid": left_of(0)}
    (scores,) = scores_of(model, item)
    expected = [getattr(model, name)([item["sar_image"]]) for name in (twins[0], twins[-1])]
    for features, others in zip(received, expected, strict=True):
        torch.testing.assert_close(features.dense, others.dense)
        torch.testing.assert_close(features.guidance, others.guidance)
    with torch.no_grad():
        logits = model.predict_logits([item], CLASSES)
    torch.testing.assert_close(F.interpolate(logits.sigmoid(), (48, 64), mode="bilinear")[0], scores)


def test_validity_goes_by_the_nearest_pixel_where_the_output_has_another_size(model):
    pair, size = random_pair(), {"height": 96, "width": 32}
    (with_sar,), (alone,) = (scores_of(model, {**pair, **size, **sar}) for sar in ({}, {"sar_image": None}))
    (joined,) = scores_of(model, {**pair, **size, "sar_valid": left_of(22)})
    torch.testing.assert_close(joined[..., :11], with_sar[..., :11], rtol=0, atol=1e-6)
    torch.testing.assert_close(joined[..., 11:], alone[..., 11:], rtol=0, atol=1e-6)


def test_a_batch_may_mix_pairs_with_sar_without_and_with_some(model):
    pairs = [
        {**random_pair(48, 64, 0), "sar_valid": left_of(30)},
        {**random_pair(48, 64, 1), "sar_image": None},
        random_pair(200, 120, 2),
        {**random_pair(192, 192, 3), "sar_valid": left_of(100, 192, 192), "height": 100, "width": 90},
        {**random_pair(48, 64, 4), "sar_valid": left_of(0)},
        {**random_pair(48, 64, 5), "sar_valid": left_of(64)},
        {**random_pair(48, 64, 6), "image_valid": left_of(0)},
        {**random_pair(48, 64, 7), "image_valid": left_of(20), "sar_valid": left_of(50)},
    ]
    singles = [scores_of(model, pair)[0] for pair in pairs]
    for chosen in (slice(None), slice(1, 3)):
        for together, alone in zip(scores_of(model, *pairs[chosen]), singles[chosen], strict=True):
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_images_and_text_are_encoded_once_and_no_more_work_is_done_than_needed(model):
    calls = []
    for name in ("clip", "dino", "dino_sar", "text"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    model.sem_seg_head.register_forward_hook(lambda _, inputs, logits: calls.append(len(logits)))
    pair, no_rgb = random_pair(), {"image_valid": left_of(40)}
    for sar, expected in (
        ([{"sar_valid": left_of(40)}], ["clip", "dino", "dino_sar", "text", 1, 1]),
        ([{"sar_valid": left_of(40), **no_rgb}], ["clip", "dino", "dino_sar", "text", 1]),
        ([{"sar_valid": left_of(39), **no_rgb}], ["clip", "dino", "dino_sar", "text", 1, 1]),
        ([{"sar_valid": left_of(41), **no_rgb}], ["clip", "dino", "dino_sar", "text", 1, 1]),
        ([no_rgb, {"image_valid": left_of(0)}, {"sar_image": None}], ["clip", "dino", "dino_sar", "text", 1, 2, 1]),
        ([{"image_valid": left_of(0)}], ["dino_sar", "text", 1]),
        ([{"sar_valid": left_of(0), **no_rgb}], ["clip", "dino", "text", 1]),
        ([{"sar_valid": left_of(40)}, {}, {"sar_image": None}], ["clip", "dino", "dino_sar", "text", 2, 2]),
    ):
        calls.clear()
        model([{**pair, **part} for part in sar])
        assert calls == expected


@pytest.mark.parametrize("overrides", [[], ["MODEL.CLIP_SAR.ENABLED", True]])
def test_training_takes_no_notice_of_an_image_that_is_missing(make_model, overrides):
    model = make_model(*overrides).train()
    model.train_vocabulary = ("city", "forest")
    pair, other = (random_pair(seed=seed, num_classes=2) for seed in range(2))

    def loss(*items):
        return model(list(items))["loss_sem_seg"]

    complete = loss(pair).item()
    for image, mask in (("image", "image_valid"), ("sar_image", "sar_valid")):
        assert loss({**pair, mask: left_of(20)}).item() == complete  # missing in a part only
        lacking, changed = {**pair, mask: left_of(0)}, {**pair, mask: left_of(0), image: other[image]}
        assert loss(lacking).item() == loss(changed).item() != complete
        together = loss(lacking, other).item()
        assert together == pytest.approx((loss(lacking).item() + loss(other).item()) / 2, rel=1e-5)
        model.zero_grad()
        loss(lacking, lacking).backward()
        for name, parameter in model.named_parameters():  # or the other processes of a training would wait for it
            assert (parameter.grad is not None) == parameter.requires_grad, name
    without_rgb = {**pair, "image_valid": left_of(0)}
    model.zero_grad()
    loss(without_rgb).backward()
    assert all(not parameter.grad.any() for parameter in model.clip.parameters() if parameter.requires_grad)


def test_models_without_sar_take_no_notice_of_its_validity(make_model):
    pair = random_pair()
    optical = make_model("MODEL.DENSE_ENCODER_SAR.ENABLED", False).eval()
    optical.set_vocabulary(CLASSES)
    assert torch.equal(*(scores_of(optical, {**pair, **valid})[0] for valid in ({}, {"sar_valid": left_of(20)})))


def test_both_images_matter(model):
    pair, other = random_pair(seed=0), random_pair(seed=1)
    (reference,) = scores_of(model, pair)
    assert not torch.allclose(reference, scores_of(model, {**pair, "sar_image": other["sar_image"]})[0], atol=1e-4)
    assert not torch.allclose(reference, scores_of(model, {**pair, "image": other["image"]})[0], atol=1e-4)


def test_the_order_of_the_names_is_the_order_of_the_scores(model):
    pair = random_pair()
    (scores,) = scores_of(model, pair)
    model.set_vocabulary(["forest", "city", "road"])
    torch.testing.assert_close(scores_of(model, pair)[0], scores[[2, 0, 1]], rtol=1e-4, atol=1e-5)


def test_the_vocabulary_switches_between_training_and_evaluation(model):
    model.train_vocabulary = ("city", "forest")
    model.set_vocabulary(["a", "b", "c", "d"])
    pair = random_pair(num_classes=2)
    (before,) = scores_of(model, pair)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.01)
    model.train()
    model([pair])["loss_sem_seg"].backward()
    optimizer.step()
    model.eval()
    (after,) = scores_of(model, pair)
    assert before.shape == after.shape == (4, 48, 64)
    assert not torch.allclose(before, after, atol=1e-3)
    fresh = model.text.embed(model.vocabulary)
    with torch.no_grad():
        torch.testing.assert_close(model.text(model.vocabulary), fresh)


@pytest.mark.parametrize("size", [(48, 64), (64, 64)])
def test_the_loss_of_labels_of_any_sizes_is_the_mean_over_their_pixels(model, size):
    model.train_vocabulary = ("city", "forest")
    model.train()
    pairs = [random_pair(48, 64, 0, 2), random_pair(*size, 1, 2)]
    together, *separate = (model(some)["loss_sem_seg"] for some in (pairs, pairs[:1], pairs[1:]))
    pixels = [pair["sem_seg"].numel() for pair in pairs]
    expected = sum(loss.item() * count for loss, count in zip(separate, pixels, strict=True)) / sum(pixels)
    assert together.requires_grad and together.item() == pytest.approx(expected, rel=1e-5)


def test_what_learns_and_that_each_of_it_has_a_gradient(model):
    model.train_vocabulary = ("city", "forest")
    model.train()
    model([random_pair(num_classes=2)])["loss_sem_seg"].backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("dino.encoder.", "dino_sar.encoder."))
        if name.startswith(("clip.encoder.", "text.")):
            frozen = not name.endswith((".query.weight", ".value.weight"))
        assert parameter.requires_grad == (not frozen), name
        assert (parameter.grad is not None) == (not frozen), name


def test_without_stage_1_the_sar_encoder_is_the_rgb_one(model):
    rgb, sar = model.dino.encoder.state_dict(), model.dino_sar.encoder.state_dict()
    assert all(torch.equal(rgb[key], sar[key]) for key in rgb)
    assert not torch.equal(model.dino.projection.dense.weight, model.dino_sar.projection.dense.weight)


@pytest.mark.parametrize("overrides,encoders,needs_sar", [
    (["MODEL.DENSE_ENCODER_SAR.ENABLED", False], {"clip", "dino"}, False),
    (["MODEL.DENSE_ENCODER_SAR.ENABLED", False, "MODEL.DENSE_ENCODER.ENABLED", False], {"clip"}, False),
    (["MODEL.CLIP_SAR.ENABLED", True], {"clip", "clip_sar", "dino", "dino_sar"}, True),
    (["MODEL.CLIP_SAR.ENABLED", True, "MODEL.DENSE_ENCODER_SAR.ENABLED", False], {"clip", "clip_sar", "dino"}, True),
])  # fmt: skip
def test_siblings_are_configs(make_model, overrides, encoders, needs_sar):
    model = make_model(*overrides).eval()
    kinds = ("clip", "clip_sar", "dino", "dino_sar")
    assert {kind for kind in kinds if getattr(model, kind) is not None} == encoders
    model.set_vocabulary(CLASSES)
    pair = random_pair()
    (scores,) = scores_of(model, pair)
    assert scores.shape == (3, 48, 64)
    other = {**pair, "sar_image": random_pair(seed=1)["sar_image"]}
    assert torch.allclose(scores, scores_of(model, other)[0]) != needs_sar
    if not needs_sar:
        del pair["sar_image"]
        assert torch.equal(scores, scores_of(model, pair)[0])


def test_a_sar_twin_without_its_rgb_encoder_is_a_config_error(make_model):
    with pytest.raises(ConfigError, match="twin"):
        make_model("MODEL.DENSE_ENCODER.ENABLED", False)


def test_only_the_most_similar_classes_are_aggregated_where_asked_for(make_model):
    pair, names = random_pair(), [f"class {index}" for index in range(6)]
    model = make_model("MODEL.AGGREGATOR.MAX_CLASSES", 4).eval()
    model.set_vocabulary(names)
    (scores,) = scores_of(model, pair)
    kept = [index for index in range(6) if scores[index].max() > 1e-6]
    assert len(kept) == 4
    with torch.no_grad():
        cost = torch.nn.functional.normalize(model.clip([pair["image"]]).dense, dim=1)
        similarity = torch.einsum("bchw,ptc->bpthw", cost, model.text(names)).amax(dim=(0, 1, 3, 4))
    assert kept == sorted(similarity.topk(4).indices.tolist())
    model.set_vocabulary([names[index] for index in kept])
    torch.testing.assert_close(scores_of(model, pair)[0], scores[kept], rtol=1e-4, atol=1e-5)


def test_autocast_changes_the_scores_little(model):
    pair = random_pair()
    (reference,) = scores_of(model, pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (scores,) = scores_of(model, pair)
    assert scores.dtype == torch.float32
    assert 0 < (scores - reference).abs().max() < 0.05


def test_inference_in_mixed_precision_by_config(make_model):
    model = make_model("MODEL.INFERENCE_DTYPE", "bfloat16").eval()
    seen = set()
    model.sem_seg_head.decoder.register_forward_hook(lambda _, inputs, output: seen.add(output.dtype))
    model.set_vocabulary(CLASSES)
    (scores,) = scores_of(model, random_pair())
    assert seen == {torch.bfloat16} and scores.dtype == torch.float32
    reference = make_model().eval()
    reference.set_vocabulary(CLASSES)
    (expected,) = scores_of(reference, random_pair())
    assert 0 < (scores - expected).abs().max() < 0.05


def test_an_unknown_or_emulated_precision_is_refused(make_model):
    model = make_model("MODEL.INFERENCE_DTYPE", "float16").eval()
    model.set_vocabulary(CLASSES)
    with pytest.raises(ConfigError, match="float16 is for GPUs"):
        model([random_pair()])
    with pytest.raises(
        ConfigError, match=r"MODEL\.INFERENCE_DTYPE is 'half'; choose one of float32, bfloat16, float16"
    ):
        make_model("MODEL.INFERENCE_DTYPE", "half")


def training_gradients(model):
    model.train()
    model.train_vocabulary = ("a", "b", "c")
    model([random_pair(num_classes=3)])["loss_sem_seg"].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_activation_checkpointing_changes_no_gradient(make_model):
    expected = training_gradients(make_model())
    gradients = training_gradients(make_model("MODEL.ACTIVATION_CHECKPOINTING", True))
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7)


def test_chunks_of_classes_change_nothing(make_model):
    scores = []
    for chunk in (0, 2):
        model = make_model("MODEL.AGGREGATOR.CLASS_CHUNK", chunk).eval()
        model.set_vocabulary([f"class {index}" for index in range(5)])
        scores.append(scores_of(model, random_pair())[0])
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="CLASS_CHUNK is -1"):
        make_model("MODEL.AGGREGATOR.CLASS_CHUNK", -1)


def test_compiling_by_config_reaches_the_blocks_of_every_encoder(make_model):
    model = make_model("MODEL.COMPILE", True).eval()
    compiled = [name for name, module in model.named_modules() if module._compiled_call_impl is not None]
    assert sum(name.startswith("clip.encoder.visual") for name in compiled) == 3
    assert (
        sum(name.startswith("dino.") for name in compiled)
        == sum(name.startswith("dino_sar.") for name in compiled)
        == 3
    )
    model.set_vocabulary(CLASSES)
    with torch.compiler.set_stance("force_eager"):  # the compiler itself takes half a minute
        assert scores_of(model, random_pair())[0].shape == (3, 48, 64)


def test_several_templates_give_the_cost_volume_a_channel_each(make_model):
    model = make_model("MODEL.TEXT.TEMPLATES", ["a photo of {}", "{} from above"]).eval()
    model.set_vocabulary(CLASSES)
    assert model.sem_seg_head.cost_volume_embedding.clip.in_channels == 2
    assert scores_of(model, random_pair())[0].shape == (3, 48, 64)


def test_class_names_come_from_the_metadata_of_the_datasets(make_cfg):
    MetadataCatalog.get("vocabulary_train").set(stuff_classes=["a", "b", "c"], unseen_classes=["b"])
    MetadataCatalog.get("vocabulary_val").set(stuff_classes=["c", "d"], unseen_classes=[])
    cfg = make_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("vocabulary_train",), ("vocabulary_val",)
    model = build_model(cfg)
    assert model.train_vocabulary == ("a", "c") and model.vocabulary == ("c", "d")


def test_bad_input_ends_in_one_sentence(make_model, model):
    pair = random_pair()
    with pytest.raises(VocabularyError, match="set_vocabulary"):
        make_model().eval()([pair])
    with pytest.raises(VocabularyError, match="empty"):
        model.set_vocabulary([])
    with pytest.raises(VocabularyError, match="Road"):
        model.set_vocabulary(["road", "Road"])
    before = model.vocabulary
    with pytest.raises(VocabularyError, match="77 tokens.*word 76, 'city'"):
        model.set_vocabulary(["road", "city " * 80])
    assert model.vocabulary == before
    model.train_vocabulary = ("forest " * 80,)
    with pytest.raises(VocabularyError, match="77 tokens.*'forest'"):
        model.train()([random_pair(num_classes=1)])
    model.eval()
    with pytest.raises(DataError, match=r"pair_0\.png has no 'sar_image'"):
        model([{key: value for key, value in pair.items() if key != "sar_image"}])
    with pytest.raises(DataError, match=r"pair_0\.png has no 'sar_image'"):
        model([pair, {"file_name": "pair_0.png", "image": pair["image"], "sar_valid": left_of(9)}])
    for mask in ("sar_valid", "image_valid"):
        with pytest.raises(DataError, match=rf"'{mask}' of pair_0\.png has shape \(64, 48\); it must be \(48, 64\)"):
            model([{**pair, "sar_valid": left_of(9), mask: left_of(9, 64, 48)}])
    with pytest.raises(DataError, match=r"\(1, 48, 64\)"):
        model([{**pair, "image": pair["image"][:1]}])
    model.train_vocabulary = ("city",)
    with pytest.raises(DataError, match=r"pair_0\.png has no labels"):
        model.train()([pair])
    for key, value in (("CLIP.GUIDANCE_BLOCKS", [1]), ("DENSE_ENCODER.BLOCKS", [1, 2]), ("GUIDANCE_WIDTHS", [64])):
        with pytest.raises(ConfigError, match=f"MODEL.{key}.*entries"):
            make_model(f"MODEL.{key}", value)
    with pytest.raises(ConfigError, match="LOSS.NAME"):
        make_model("LOSS.NAME", "hinge")


def test_an_empty_batch_gives_no_outputs(model):
    assert model([]) == []


def test_full_size_model_has_the_published_number_of_parameters(make_model):
    model = make_model(config="configs/mm_ovseg_vitb16_384.yaml")
    total = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # The positional embeddings of the two DINO encoders are kept at 48 x 48 instead of 28 x 28.
    released = total - 2 * 768 * (48 * 48 - 28 * 28)
    assert released / 1e6 == pytest.approx(331.96, abs=0.01)
    assert trainable / 1e6 == pytest.approx(31.17, abs=0.01)
