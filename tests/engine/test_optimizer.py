import torch

from mm_ovseg.engine.optimizer import build_optimizer, parameter_groups


def settings_by_name(model, groups):
    settings = {}
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            settings[names[parameter]] = (group["lr"], group["weight_decay"])
    return settings


def test_each_parameter_has_the_rate_and_decay_of_its_kind(make_model):
    model = make_model()
    groups = parameter_groups(
        model,
        base_lr=1.0,
        clip_multiplier=0.01,
        fit_multiplier=0.5,
        weight_decay=0.1,
        weight_decay_norm=0.0,
        weight_decay_embed=0.2,
    )
    settings = settings_by_name(model, groups)
    assert set(settings) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    clip = "clip.encoder.visual.transformer.resblocks.0.attn.query.weight"
    text = "text.tower.transformer.resblocks.0.attn.value.weight"
    assert settings[clip] == settings[text] == (0.01, 0.1)
    assert settings["clip.projection.coarse.weight"] == (1.0, 0.1)
    assert settings["dino.projection.dense.weight"] == settings["dino_sar.projection.dense.bias"] == (0.5, 0.1)
    assert settings["dino.projection.coarse.weight"] == (1.0, 0.1)
    assert settings["sem_seg_head.aggregator.spatial.0.guidance_norm.weight"] == (1.0, 0.0)
    assert settings["sem_seg_head.decoder.upsamplings.0.guided_norm.bias"] == (1.0, 0.0)
    assert settings["sem_seg_head.aggregator.classes.0.padding_token"] == (1.0, 0.2)


def test_a_learned_temperature_has_no_weight_decay(make_cfg, make_model):
    settings = ["CMU.LEARNED_TEMPERATURE", True, "SOLVER.WEIGHT_DECAY_EMBED", 0.5]
    model = make_model(*settings, config="configs/quickstart/cmu.yaml")
    optimizer = build_optimizer(make_cfg("configs/quickstart/cmu.yaml", *settings), model)
    decays = {name: decay for name, (_, decay) in settings_by_name(model, optimizer.param_groups).items()}
    assert decays["log_scale"] == 0 and decays["student.model.cls_token"] == 0.5


def test_embeddings_of_a_clip_student_have_no_weight_decay(make_cfg, make_model):
    config, settings = "configs/quickstart/cmu.yaml", ["CMU.ENCODER", "clip", "CMU.BLOCKS", [4]]
    model = make_model(*settings, config=config)
    groups = build_optimizer(make_cfg(config, *settings, "SOLVER.WEIGHT_DECAY", 0.5), model).param_groups
    decays = {name: decay for name, (_, decay) in settings_by_name(model, groups).items()}
    learned = {name for name in decays if "embedding" in name}
    assert learned == {"student.visual.positional_embedding", "student.visual.class_embedding"}
    assert all(decays[name] == 0 for name in learned)
    assert decays["student.visual.conv1.weight"] == 0.5


def test_biases_have_the_rate_and_decay_of_the_config(make_cfg, make_model):
    model = make_model()
    words = ["SOLVER.BASE_LR", 1.0, "SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.3]
    optimizer = build_optimizer(make_cfg("configs/quickstart/mm_ovseg.yaml", *words), model)
    settings = settings_by_name(model, optimizer.param_groups)
    assert settings["clip.projection.coarse.bias"] == settings["sem_seg_head.decoder.upsamplings.0.guided_norm.bias"]
    assert settings["clip.projection.coarse.bias"] == (2.0, 0.3) and settings["clip.projection.coarse.weight"][0] == 1.0


def test_sgd_may_use_nesterovs_momentum(make_cfg, make_model):
    words = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0.5]
    (first, *_) = build_optimizer(make_cfg("configs/quickstart/mm_ovseg.yaml", *words), make_model()).param_groups
    assert (first["nesterov"], first["momentum"]) == (True, 0.5)


def test_weight_decay_does_not_move_what_is_frozen(make_model, make_cfg):
    model = make_model()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(make_cfg("configs/quickstart/mm_ovseg.yaml", "SOLVER.WEIGHT_DECAY", 0.5), model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # all that moves now is moved by weight decay
    optimizer.step()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert torch.equal(parameter, before[name]), name


def test_kinds_of_optimisers_and_clipping(make_model, make_cfg):
    config = "configs/quickstart/mm_ovseg.yaml"
    model = make_model()
    assert isinstance(build_optimizer(make_cfg(), model), torch.optim.AdamW)
    assert isinstance(build_optimizer(make_cfg(config, "SOLVER.OPTIMIZER", "SGD"), model), torch.optim.SGD)
    clipped = build_optimizer(make_cfg(config, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm"), model)
    assert "GradientClip" in type(clipped).__name__
