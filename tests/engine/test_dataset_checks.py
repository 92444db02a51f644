"""The datasets of a run are checked before it starts."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.engine import Trainer
from mm_ovseg.engine.dataset_checks import check_datasets
from mm_ovseg.errors import ConfigError, MMOVSegError

PAIR = {"file_name": "a.png", "sar_file_name": "b.png", "sem_seg_file_name": "c.png"}
CLASSES = {"stuff_classes": ["city", "road"]}


@pytest.fixture
def configured(make_cfg, forget_datasets):
    """A function ``(train, test, *overrides) -> cfg``, of datasets that are given as (pairs, metadata)."""

    def make(train, test, *overrides):
        names = {"TRAIN": [], "TEST": []}
        for kind, datasets in (("TRAIN", train), ("TEST", test)):
            for index, (pairs, metadata) in enumerate(datasets):
                name = f"checked_{kind.lower()}_{index}"
                DatasetCatalog.register(name, lambda pairs=pairs: pairs)
                MetadataCatalog.get(name).set(**metadata)
                names[kind].append(name)
        words = [word for kind in names for word in (f"DATASETS.{kind}", tuple(names[kind]))]
        return make_cfg("configs/quickstart/mm_ovseg.yaml", *words, *overrides)

    return make


def test_plain_datasets_are_fine(configured, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({"classes": ["town", "street"]}))
    for metadata in (CLASSES, {**CLASSES, "evaluator_type": "sem_seg"}):
        cfg = configured([([PAIR], metadata)], [([PAIR], metadata)] * 2)
        check_datasets(cfg, training=True)
        cfg.TEST.PROMPT_FILES = (str(tmp_path / "names.json"),) * 2
        check_datasets(cfg, training=False)
        for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    stage_1 = ("MODEL.META_ARCHITECTURE", "CrossModalUnification", "INPUT.DATASET_MAPPER_NAME", "rgb_sar_pair")
    pair = {key: path for key, path in PAIR.items() if key != "sem_seg_file_name"}
    check_datasets(configured([([pair], {})], [([pair], {})], *stage_1), training=True)


GOOD = ([PAIR], CLASSES)
UNLABELLED = {"file_name": "a.png", "sar_file_name": "b.png"}


@pytest.mark.parametrize("train,test,message", [
    ([], [GOOD], r"DATASETS\.TRAIN is empty"),
    ([GOOD, ([], CLASSES)], [GOOD], r"DATASETS\.TRAIN names 'checked_train_1', which has no pairs"),
    ([([PAIR], {})], [GOOD], "Dataset 'checked_train_0' has no classes"),
    ([([UNLABELLED], CLASSES)], [GOOD], r"'checked_train_0', whose pair 0 \(a\.png\) has no 'sem_seg_file_name'"),
    ([GOOD], [GOOD, ([], CLASSES)], r"DATASETS\.TEST names 'checked_test_1', which has no pairs"),
    ([GOOD], [GOOD, ([PAIR], {})], "Dataset 'checked_test_1' has no classes"),
    ([GOOD], [GOOD, ([UNLABELLED], CLASSES)], r"'checked_test_1', whose pair 0 \(a\.png\) has no 'sem_seg_file_name'"),
    ([GOOD], [([{"file_name": "a.png", "sem_seg_file_name": "c.png"}], CLASSES)], "has no 'sar_file_name'"),
    ([GOOD], [([PAIR], {**CLASSES, "unseen_classes": ["sea"]})], "'checked_test_0': The unseen names sea"),
    ([GOOD], [([PAIR], {**CLASSES, "ignore_label": 1})], "'checked_test_0' has ignore_label 1"),
    ([GOOD], [([PAIR], {**CLASSES, "evaluator_type": "coco"})], "'checked_test_0', whose evaluator_type is 'coco'"),
    ([GOOD], [([PAIR], {**CLASSES, "evaluator_type": "rgb_sar_retrieval"})], "has no labels to evaluate on"),
])  # fmt: skip
def test_what_cannot_be_used_is_found_before_a_model_is_built(configured, monkeypatch, train, test, message):
    monkeypatch.setattr(Trainer, "build_model", lambda cfg: pytest.fail("too late"))
    cfg = configured(train, test)
    with pytest.raises(MMOVSegError, match=message):
        Trainer(cfg)
    if "test" in message:
        with pytest.raises(MMOVSegError, match=message):
            check_datasets(cfg, training=False)


def test_prompt_files_and_the_dataset_of_the_fit_are_checked(configured, tmp_path):
    cfg = configured([GOOD], [GOOD])
    (tmp_path / "names.json").write_text(json.dumps({"classes": ["town"]}))
    cfg.TEST.PROMPT_FILES = (str(tmp_path / "names.json"),)
    for training in (True, False):
        with pytest.raises(ConfigError, match=r"names\.json, with 1 names, to checked_test_0, which has 2 classes"):
            check_datasets(cfg, training=training)
    cfg.MODEL.DENSE_ENCODER.FIT_DATASET = "nowhere"
    with pytest.raises(ConfigError, match=r"MODEL\.DENSE_ENCODER\.FIT_DATASET names 'nowhere', which is not"):
        check_datasets(cfg, training=True)


def test_an_evaluation_alone_says_that_there_are_no_pairs(configured):
    cfg = configured([GOOD], [([], CLASSES)])
    with pytest.raises(MMOVSegError, match=r"DATASETS\.TEST names 'checked_test_0', which has no pairs"):
        Trainer.build_test_loader(cfg, "checked_test_0")
