import pytest
import torch

from mm_ovseg.efficiency import Workload
from mm_ovseg.engine import Trainer
from mm_ovseg.inference import Predictor


@pytest.fixture
def backends():
    """PyTorch's settings, restored at the end."""
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    yield places
    for place, value in zip(places, before, strict=True):
        place.allow_tf32 = value


BUILDERS = {
    "training and evaluation": Trainer.build_model,
    "inference": lambda cfg: Predictor(cfg, ["water"]),
    "measuring": lambda cfg: Workload(cfg).build_model(),
}


@pytest.mark.parametrize("use", BUILDERS)
def test_float32_is_not_tf32_unless_the_config_says_so(make_cfg, backends, use):
    for place in backends:
        place.allow_tf32 = True
    BUILDERS[use](make_cfg())
    assert [place.allow_tf32 for place in backends] == [False, False]
    BUILDERS[use](make_cfg("configs/quickstart/mm_ovseg.yaml", "MODEL.ALLOW_TF32", True))
    assert [place.allow_tf32 for place in backends] == [True, True]
