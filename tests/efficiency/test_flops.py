import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.efficiency.flops import compare_flop_counts, flop_counter, released_tflop
from mm_ovseg.engine import load_config
from tests.conftest import ROOT, random_pair

FULL_SIZE = ROOT / "configs" / "mm_ovseg_vitb16_384.yaml"


def count(run):
    with flop_counter() as counter:
        run()
    return counter.get_total_flops()


@torch.no_grad()
@pytest.mark.parametrize("with_dino", [True, False])
def test_the_difference_of_the_two_counters_is_explained(make_model, with_dino):
    dino = () if with_dino else ("MODEL.DENSE_ENCODER.ENABLED", False, "MODEL.DENSE_ENCODER_SAR.ENABLED", False)
    model = make_model(*dino).eval()
    model.set_vocabulary(["water", "road"])
    pairs = [{key: random_pair()[key] for key in ("image", "sar_image")}]
    model(pairs)  # embeds the names
    counts = compare_flop_counts(model, pairs)
    assert counts["torch"] == count(lambda: model(pairs))
    assert counts["reconciled"] == pytest.approx(counts["torch"], rel=1e-5)
    assert min(counts["attention"], counts["fvcore_elementwise"]) > 0
    assert counts["fvcore"] == counts["fvcore_products"] + counts["fvcore_elementwise"]
    if with_dino:  # by hand: three blocks of two encoders, 577 tokens of 96 channels, queries by keys and by values
        assert counts["attention"] > 2 * 3 * 2 * 577 * 577 * 96
    assert compare_flop_counts(model, pairs * 2)["torch"] == pytest.approx(counts["torch"], rel=1e-3)  # per pair


def test_the_released_arithmetic_belongs_to_the_released_model():
    cfg = load_config(FULL_SIZE, ["MODEL.DEVICE", "cpu"])
    assert released_tflop(cfg, 5) == 1.386
    assert released_tflop(cfg, 150) is None
    for change in (["MODEL.CLIP.IMAGE_SIZE", "192"], ["MODEL.DENSE_ENCODER_SAR.ENABLED", "False"]):
        assert released_tflop(load_config(FULL_SIZE, ["MODEL.DEVICE", "cpu", *change]), 5) is None


def test_linear_layers_attention_and_convolutions_are_counted():
    linear, attention, convolution = 2 * 20 * 8 * 16, 4 * (2 * 4 * 10 * 10 * 4), 2 * 6 * 5 * 5 * 4 * 9
    project, convolve = nn.Linear(8, 16), nn.Conv2d(4, 6, kernel_size=3)

    def run():
        query = project(torch.ones(2, 10, 8)).unflatten(-1, (4, 4)).transpose(1, 2)  # (2, 4, 10, 4)
        return F.scaled_dot_product_attention(query, query, query), convolve(torch.ones(1, 4, 7, 7))

    with torch.no_grad():
        assert count(run) == linear + attention + convolution
    # Backward: twice each, but the attention's product of queries and keys is computed once more, and neither the
    # first layer's nor the convolution's input has a gradient.
    both_passes = count(lambda: [output.sum().backward() for output in run()])
    assert both_passes == 2 * linear + 3.5 * attention + 2 * convolution


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no such operator")
def test_the_linear_layers_of_onednn_are_counted():
    x, weight, bias = torch.ones(2, 10, 8), torch.ones(16, 8), torch.ones(16)
    assert count(lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")) == 2 * 20 * 8 * 16
