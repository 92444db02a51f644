from detectron2.engine import DefaultTrainer
from torch import nn

from mm_ovseg.engine import trainer
from mm_ovseg.engine.trainer import Trainer


class OwnEvaluator(Trainer):
    """As Detectron2's documentation adds an evaluator."""

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return f"evaluator of {dataset_name}"


def test_build_evaluator_can_be_overridden_with_detectron2s_arguments(make_cfg, monkeypatch):
    model = nn.Identity()
    model.task = "retrieval"
    monkeypatch.setattr(trainer, "check_evaluator_types", lambda model, names: None)
    monkeypatch.setattr(DefaultTrainer, "test", classmethod(lambda cls, cfg, model, evaluators: evaluators))
    cfg = make_cfg("configs/quickstart/mm_ovseg.yaml", "DATASETS.TEST", "('mine',)")
    assert OwnEvaluator.test(cfg, model) == ["evaluator of mine"]
