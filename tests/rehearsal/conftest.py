import pytest
import torch

from mm_ovseg.baselines.ebseg import losses as ebseg_losses
from mm_ovseg.baselines.ebseg.matching import Matches
from mm_ovseg.modeling import text
from mm_ovseg.modeling.meta_arch import mm_ovseg
from tests.rehearsal.device import for_real


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch):
    """PyTorch believes in CUDA, and the checks of class names, which read numbers, pass."""
    if torch.cuda.is_available():
        pytest.skip("a rehearsal for machines without CUDA; set CUDA_VISIBLE_DEVICES= to run it")
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(text.TextEmbedder, "check_length", lambda *_: None)
    monkeypatch.setattr(text, "_check_distinct", lambda *_: None)
    for name in ("answer_masks", "has_data"):
        monkeypatch.setattr(mm_ovseg, name, for_real(getattr(mm_ovseg, name)))
    monkeypatch.setattr(ebseg_losses, "assign", match_the_first_queries)


def match_the_first_queries(costs, present):
    """What EBSeg's matching would return, which needs the numbers that it has copied to the CPU."""
    assert costs.device.type == present.device.type == "cpu"
    stages, _, _, classes = costs.shape
    found = present.expand(stages, -1, -1)
    return Matches(torch.arange(classes).expand(found.shape), found)
