import logging

import pytest

from mm_ovseg.engine.config_checks import check_solver


@pytest.mark.parametrize("iterations,warned", [(20, True), (21, False)])
def test_a_warm_up_that_never_ends_is_a_warning(make_cfg, caplog, iterations, warned):
    words = ["SOLVER.WARMUP_ITERS", 20, "SOLVER.MAX_ITER", iterations]
    with caplog.at_level(logging.WARNING):
        check_solver(make_cfg("configs/quickstart/mm_ovseg.yaml", *words))
    assert ("never reaches SOLVER.BASE_LR" in caplog.text) is warned
