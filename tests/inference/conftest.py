import pytest
import torch

from mm_ovseg.inference import Predictor

CLASSES = ("city", "road", "water, river")


@pytest.fixture
def make_predictor(make_cfg):
    def make(*overrides, classes=CLASSES):
        torch.manual_seed(0)
        return Predictor(make_cfg("configs/quickstart/mm_ovseg.yaml", *overrides), classes)

    return make
