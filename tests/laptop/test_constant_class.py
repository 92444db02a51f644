import math

import pytest

from laptop.constant_class import constant_class_baseline


def test_constant_class_baseline():
    baseline = constant_class_baseline([50, 30, 20, 0], ["a", "b", "c", "d"], ["b", "c"])
    # "a" everywhere: IoU 50, 0, 0. "b" everywhere is best among the unseen: 30, 0. "d" has no pixel and no score.
    assert baseline == pytest.approx({"mIoU": 50 / 3, "mIoU-seen": 50, "mIoU-unseen": 15})
    assert math.isnan(constant_class_baseline([1, 2], ["a", "b"])["mIoU-unseen"])
