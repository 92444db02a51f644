import pytest
import torch
from torch import nn

from mm_ovseg.efficiency import Workload
from mm_ovseg.efficiency.measure import count_parameters
from mm_ovseg.errors import ConfigError


def test_parameters_are_counted_by_module_and_add_up():
    model = nn.Module()
    model.encoder = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5, bias=False))
    model.scale = nn.Parameter(torch.ones(7))
    model.encoder[0].requires_grad_(False)
    assert count_parameters(model) == {
        "total": {"all": 43, "trainable": 27},
        "scale": {"all": 7, "trainable": 7},
        "encoder.0": {"all": 16, "trainable": 0},
        "encoder.1": {"all": 20, "trainable": 20},
    }


@pytest.mark.parametrize("name", ["batch_size", "classes", "runs", "warmup"])
def test_numbers_of_a_workload_are_positive(make_cfg, name):
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} is 0"):
        Workload(cfg=make_cfg(), **{name: 0})
