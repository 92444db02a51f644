import logging

import numpy as np
import pytest
import torch

from mm_ovseg.errors import ConfigError
from mm_ovseg.inference import Predictor
from mm_ovseg.inference.batches import BatchRunner
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem

FAULTS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


def items(count):
    return [{"image": torch.zeros(3, 4, 6), "index": index} for index in range(count)]


def model_of(most, fault, calls):
    """Fails on batches of more than so many items."""

    def model(batch):
        calls.append(len(batch))
        if len(batch) > most:
            raise fault
        return [{"index": item["index"]} for item in batch]

    return model


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("most", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_nothing_is_lost_or_twice_where_memory_runs_out(fault, most, count):
    calls = []
    results = BatchRunner(model_of(most, fault, calls))(items(count))
    assert [result["index"] for result in results] == list(range(count))
    assert min(count, most) // 2 <= max(size for size in calls if size <= most)


def test_later_batches_are_as_small_and_it_is_said_once(caplog):
    calls = []
    runner = BatchRunner(model_of(2, FAULTS[0], calls))
    with caplog.at_level(logging.WARNING):
        runner(items(8))
        assert calls == [8, 4, 2, 2, 2, 2]
        calls.clear()
        runner(items(8))
    assert calls == [2, 2, 2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "A batch of 8 does not fit into memory; using batches of 4.",
        "A batch of 4 does not fit into memory; using batches of 2.",
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_item_that_does_not_fit(fault):
    with pytest.raises(ConfigError, match="does not hold one image of 6x4 pixels.*smaller --window"):
        BatchRunner(model_of(0, fault, []))(items(4))


def test_features_that_do_not_fit():
    with pytest.raises(ConfigError, match="does not hold one image of 6x4 pixels"):
        BatchRunner(model_of(0, FAULTS[0], []))([EncodedItem({}, {}, (4, 6), (4, 6))])


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"):
        BatchRunner(model_of(0, RuntimeError("shape mismatch"), []))(items(4))


def test_no_items():
    assert BatchRunner(model_of(8, FAULTS[0], []))([]) == []


def test_pairs_of_a_predictor(make_cfg, monkeypatch):
    torch.manual_seed(0)
    predictor = Predictor(make_cfg(), ("city", "water"))
    generator = np.random.default_rng(0)
    pairs = [(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8), None) for _ in range(5)]
    expected = predictor.batch(pairs, with_scores=True)
    whole, sizes = predictor.model.forward, []

    def forward(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise FAULTS[0]
        return whole(batch)

    monkeypatch.setattr(predictor.model, "forward", forward)
    given = predictor.batch(pairs, with_scores=True)
    assert sizes == [4, 2, 2, 1]
    for one, other in zip(given, expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("part", ["encode", "answer"])
def test_one_pair_of_a_predictor_that_does_not_fit(make_cfg, monkeypatch, part):
    predictor, rgb = Predictor(make_cfg(), ("city", "water")), np.zeros((24, 32, 3), np.uint8)
    pair = predictor.encode(rgb, None)
    monkeypatch.setattr(predictor.model, part, model_of(0, FAULTS[0], []))
    calls = [lambda: predictor(rgb, None), *([lambda: predictor.ask(pair)] if part == "answer" else [])]
    for call in calls:
        with pytest.raises(ConfigError, match="does not hold one image of 32x24 pixels"):
            call()
