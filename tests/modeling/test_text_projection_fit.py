import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.text_projection_fit import LeastSquares, fit_text_projections
from tests.conftest import random_pair


def test_the_sums_give_what_numpy_gives_for_all_samples_at_once():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 6, generator=generator) + 3
    targets = inputs @ torch.randn(6, 4, generator=generator) + 0.5 + 0.1 * torch.randn(400, 4, generator=generator)
    fit = LeastSquares(6, 4)
    for part in range(0, 400, 100):
        fit.add(inputs[part : part + 100], targets[part : part + 100])
    weight, bias = fit.solve()
    solution = np.linalg.lstsq(np.c_[inputs.numpy(), np.ones(400)], targets.numpy(), rcond=None)[0]
    np.testing.assert_allclose(weight.numpy(), solution[:-1].T, atol=0.01)
    np.testing.assert_allclose(bias.numpy(), solution[-1], atol=0.05)


def test_constant_inputs_give_the_mean_of_the_targets():
    fit = LeastSquares(2, 1)
    inputs = torch.cat([torch.randn(50, 1, generator=torch.Generator().manual_seed(0)), torch.ones(50, 1)], dim=1)
    fit.add(inputs, torch.full((50, 1), 7.0))
    weight, bias = fit.solve()
    torch.testing.assert_close(weight @ inputs[0].double() + bias, torch.tensor([7.0], dtype=torch.float64))


def explained(model, pairs):
    """Share of the variance of CLIP's dense features that the projected DINO features explain."""
    with torch.no_grad():
        images = [pair["image"] for pair in pairs]
        target = F.normalize(model.clip.encode(images).dense, dim=1)
        found = model.dino(images).dense + model.dino_sar([pair["sar_image"] for pair in pairs]).dense
    residual = (found - target).pow(2).sum()
    return 1 - (residual / (target - target.mean((0, 2, 3), keepdim=True)).pow(2).sum()).item()


@pytest.mark.parametrize("dino_size", [64, 128])  # the same grid as CLIP's, and one twice as fine
def test_fitted_projections_resemble_clips_features(make_model, dino_size):
    options = ["MODEL.CLIP.IMAGE_SIZE", 64, "MODEL.DENSE_ENCODER.IMAGE_SIZE", dino_size]
    model = make_model(*options, "MODEL.AGGREGATOR.WINDOW_SIZE", 4)
    pairs = [random_pair(64, 64, seed) for seed in range(40)]
    others = {name: value.clone() for name, value in model.state_dict().items() if ".projection.dense." not in name}
    before = explained(model, pairs)
    fit_text_projections(model, [pairs[:20], pairs[20:]])
    assert before < 0 < 0.2 < explained(model, pairs)
    for name, value in others.items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_grid_coarser_than_clips_is_refused(make_model):
    model = make_model()
    model.dino.projection.dense = torch.nn.ConvTranspose2d(4, 4, 2, stride=2)
    with pytest.raises(ConfigError, match="as fine as CLIP's"):
        fit_text_projections(model, [])
