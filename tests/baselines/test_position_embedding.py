import math

import pytest
import torch

from mm_ovseg.baselines.position_embedding import sine_position


def test_rows_come_first_and_sines_alternate_with_cosines():
    position = sine_position(3, 5, 8)
    assert position.shape == (16, 3, 5)
    for axis, cell, cells in (("row", 1, 3), ("column", 4, 5)):
        angle = 2 * math.pi * (cell + 1) / cells
        for channel in range(8):
            wave = math.cos if channel % 2 else math.sin
            value = position[channel, cell, 0] if axis == "row" else position[8 + channel, 0, cell]
            assert value == pytest.approx(wave(angle / 10000 ** (2 * (channel // 2) / 8)), abs=1e-5)
    assert torch.equal(position[:8, :, 0], position[:8, :, 4]) and torch.equal(position[8:, 0], position[8:, 2])
