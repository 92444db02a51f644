import torch

from mm_ovseg.checkpoint.positional_embedding import resize_positional_embedding


def test_a_slope_rises_on_and_the_class_token_stays():
    slope = torch.arange(8.0).expand(8, 8)
    position = torch.cat([torch.tensor([[99.0]]), slope.reshape(-1, 1)])[None]  # (1, 65, 1)
    resized = resize_positional_embedding(position, 16)
    assert resized.shape == (1, 257, 1) and resized[0, 0] == 99
    row = resized[0, 1:, 0].view(16, 16)[5]
    # The centre of token i lies at (i + 0.5) * 8 / 16.1 - 0.5 of the old grid; bicubic weights bend a line a little.
    expected = (torch.arange(4.0, 12.0) + 0.5) * 8 / 16.1 - 0.5
    torch.testing.assert_close(row[4:12], expected, rtol=0, atol=0.05)


def test_every_grid_comes_out_at_the_size_asked_for():
    for stored in (7, 14, 28, 37):
        for grid_size in (5, 12, 24, 48, 63):
            position = torch.zeros(1, 1 + stored * stored, 2)
            assert resize_positional_embedding(position, grid_size).shape == (1, 1 + grid_size * grid_size, 2)
