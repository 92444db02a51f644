import logging

import pytest

from mm_ovseg.engine.config_checks import check_modalities, check_solver
from mm_ovseg.errors import ConfigError


@pytest.mark.parametrize("iterations,warned", [(20, True), (21, False)])
def test_a_warm_up_that_never_ends_is_a_warning(make_cfg, caplog, iterations, warned):
    words = ["SOLVER.WARMUP_ITERS", 20, "SOLVER.MAX_ITER", iterations]
    with caplog.at_level(logging.WARNING):
        check_solver(make_cfg("configs/quickstart/mm_ovseg.yaml", *words))
    assert ("never reaches SOLVER.BASE_LR" in caplog.text) is warned


@pytest.mark.parametrize("config,overrides", [
    ("configs/quickstart/mm_ovseg.yaml", ["MODEL.DENSE_ENCODER_SAR.ENABLED", False]),
    ("configs/quickstart/cmu.yaml", []),
    ("configs/siblings/catseg_vitb16_384.yaml", []),
])  # fmt: skip
def test_a_model_that_cannot_do_without_an_image_is_not_asked_to(make_cfg, config, overrides):
    for key, value, needed in (
        ("INPUT.DROP_RGB", 0.1, 0),
        ("INPUT.DROP_SAR", 0.1, 0),
        ("TEST.MODALITIES", "sar", "both"),
    ):
        with pytest.raises(ConfigError, match=f"{key} is {value}, .* SAR encoders; set it to {needed}"):
            check_modalities(make_cfg(config, *overrides, key, value))
        check_modalities(make_cfg("configs/quickstart/mm_ovseg.yaml", key, value))
