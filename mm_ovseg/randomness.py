"""Random numbers that depend on the position in a run, not on earlier draws, so that it resumes exactly."""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["derived_seed", "seeded"]


def derived_seed(seed: int, purpose: str, *numbers: int) -> int:
    """A seed, 0..2^32 - 1, for one position in a run, unrelated to those of other positions.

    Args:
        seed: seed of the run, >= 0.
        purpose: what is drawn, which distinguishes kinds of positions with equal numbers.
        numbers: the position, each >= 0.
    """
    return int(np.random.SeedSequence((seed, zlib.crc32(purpose.encode()), *numbers)).generate_state(1)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and PyTorch (CPU) within the block; restore their states afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
