import torch
from torch import nn

from mm_ovseg.modeling.weight_versions import weight_versions


def test_every_way_to_change_weights_is_another_version():
    layer = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step():
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()

    state = {name: value.clone() for name, value in layer.state_dict().items()}
    seen = [weight_versions(layer)]
    for change in (
        step,
        lambda: layer.load_state_dict(state),
        lambda: layer.load_state_dict(state, assign=True),
        lambda: layer[1].weight.detach().zero_(),
        lambda: layer.double(),
    ):
        change()
        seen.append(weight_versions(layer))
        assert weight_versions(layer) == seen[-1]
    assert len(set(seen)) == len(seen) == 6


def test_use_changes_no_version():
    layer = nn.Linear(3, 3)
    before = weight_versions(layer)
    layer.train()(torch.ones(1, 3)).sum().backward()
    layer.eval()
    assert weight_versions(layer) == before


def test_weights_made_in_inference_mode_have_none():
    with torch.inference_mode():
        layer = nn.Linear(3, 3)
    assert weight_versions(layer) is None


def test_a_buffer_is_a_weight():
    norm = nn.BatchNorm1d(3).eval()
    before = weight_versions(norm)
    norm(torch.ones(2, 3))
    assert weight_versions(norm) == before
    norm.running_mean.add_(1)
    assert weight_versions(norm) != before
