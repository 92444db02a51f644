import torch

from mm_ovseg.modeling.memory import by_class_chunks, recomputed


def test_chunks_cover_every_class_once_in_order():
    x, other = torch.randn(2, 7, 3), torch.randn(2, 7)
    sizes = []

    def function(part, second, nothing):
        sizes.append(part.shape[1])
        assert nothing is None
        return part * second[..., None]

    torch.testing.assert_close(by_class_chunks(3, function, x, other, None), x * other[..., None])
    assert sizes == [3, 3, 1]
    for chunk in (0, 7, 100):
        sizes.clear()
        by_class_chunks(chunk, function, x, other, None)
        assert sizes == [7]


def test_recomputing_calls_twice_and_gives_the_same_gradient():
    calls = []

    def function(x):
        calls.append(1)
        return (x * x).sum()

    x = torch.randn(4, requires_grad=True)
    recomputed(True, function, x).backward()
    assert len(calls) == 2
    torch.testing.assert_close(x.grad, 2 * x)
    with torch.no_grad():
        recomputed(True, function, x)
    recomputed(False, function, x).backward()
    assert len(calls) == 4
