"""FGAseg's variants on a GPU; pruning reads how many classes survive, and nothing else."""

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from mm_ovseg.baselines.fgaseg import pruning
from tests.rehearsal.device import loaded_batch, tiny_cfg, tiny_model
from tests.rehearsal.test_models import check_loss, check_outputs

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

CONFIG = "configs/siblings/fgaseg_vitb16_384.yaml"
PRUNED = ("MODEL.FGASEG.KEPT_CLASSES", 1)


@pytest.mark.parametrize("overrides", [
    ["MODEL.FGASEG.FUSION", "add", "MODEL.FGASEG.AUXILIARY_HEADS", False, "MODEL.FGASEG.NORM", "SyncBN"],
    ["MODEL.FGASEG.SLIDING_WINDOW", True, "MODEL.AGGREGATOR.MAX_CLASSES", 2],
    ["MODEL.AGGREGATOR.CLASS_CHUNK", 2, "MODEL.ACTIVATION_CHECKPOINTING", True],
])  # fmt: skip
def test_variants(overrides):
    model, batch = tiny_model(tiny_cfg(CONFIG, *overrides)), loaded_batch((48, 64), (30, 40))
    check_loss(model, batch, "bfloat16")
    check_outputs(model, batch, "float16")


def test_pruning_waits_for_the_device_once_for_each_auxiliary_head_and_image(monkeypatch):
    model, batch = tiny_model(tiny_cfg(CONFIG, *PRUNED)), loaded_batch((48, 64), (30, 40))
    with pytest.raises(DynamicOutputShapeException):
        check_outputs(model, batch, "float16")
    read = []

    def all_but_the_first(mask):
        read.append(len(mask))
        return torch.arange(1, len(mask), device=mask.device)

    monkeypatch.setattr(pruning, "_indices", all_but_the_first)
    check_outputs(model, batch, "float16")
    assert read == [5, 4, 3] * 2
