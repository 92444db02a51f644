import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from mm_ovseg.config import add_mm_ovseg_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.evaluation import (
    RetrievalEvaluator,
    SeenUnseenSemSegEvaluator,
    build_evaluator,
    check_evaluator_types,
)

METADATA = {"stuff_classes": ["city", "road"], "unseen_classes": ["road"], "ignore_label": 255}


@pytest.fixture
def build():
    """A function that builds the evaluator of a dataset of this evaluator_type for a model."""
    names = []

    def build_for(evaluator_type, meta_architecture):
        names.append(f"build_{len(names)}")
        DatasetCatalog.register(names[-1], list)
        MetadataCatalog.get(names[-1]).set(**METADATA, evaluator_type=evaluator_type)
        cfg = get_cfg()
        add_mm_ovseg_config(cfg)
        cfg.MODEL.META_ARCHITECTURE = meta_architecture
        return build_evaluator(cfg, names[-1])

    yield build_for
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    "evaluator_type, meta_architecture, evaluator",
    [
        ("rgb_sar_sem_seg", "MMOVSeg", SeenUnseenSemSegEvaluator),
        ("rgb_sar_sem_seg", "CrossModalUnification", RetrievalEvaluator),
        ("sem_seg", "MMOVSeg", SeenUnseenSemSegEvaluator),
        ("rgb_sar_retrieval", "CrossModalUnification", RetrievalEvaluator),
    ],
)
def test_the_evaluator_type_chooses_the_evaluator(build, evaluator_type, meta_architecture, evaluator):
    assert type(build(evaluator_type, meta_architecture)) is evaluator


def test_what_does_not_fit_is_one_sentence(build):
    with pytest.raises(ConfigError, match="'build_0', which has no labels to evaluate on"):
        build("rgb_sar_retrieval", "MMOVSeg")
    with pytest.raises(ConfigError, match="evaluator_type is 'coco'; set 'rgb_sar_sem_seg' or 'sem_seg'"):
        build("coco", "MMOVSeg")
    with pytest.raises(ConfigError, match="SemanticSegmentor has the task None; set its class attribute task"):
        check_evaluator_types(META_ARCH_REGISTRY.get("SemanticSegmentor"), [])
