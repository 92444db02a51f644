"""Configs, command lines, scripts and checkpoints of earlier versions do what they did."""

import logging

import pytest
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from mm_ovseg import add_mm_ovseg_config
from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.renamed_keys import RENAMED_KEYS
from tests.conftest import ROOT

CPU = ["MODEL.DEVICE", "cpu"]
OLD = {
    "MODEL.DINO.ENCODER": "Mine",
    "MODEL.DINO.NAME": "vit_tiny_patch16_224",
    "MODEL.DINO.ARGUMENTS.depth": 3,
    "MODEL.DINO.BLOCKS": [1, 2, 3],
    "MODEL.DINO.ALIGNMENT_DATASET": "pairs",
    "MODEL.DINO.ALIGNMENT_IMAGES": 12,
    "MODEL.DINO_SAR.ENABLED": False,
    "SOLVER.ALIGNMENT_MULTIPLIER": 0.5,
    "CMU.ENCODER": "dino",
}
NEW = {
    "MODEL.DENSE_ENCODER.TYPE": "Mine",
    "MODEL.DENSE_ENCODER.NAME": "vit_tiny_patch16_224",
    "MODEL.DENSE_ENCODER.ARGUMENTS.depth": 3,
    "MODEL.DENSE_ENCODER.BLOCKS": [1, 2, 3],
    "MODEL.DENSE_ENCODER.FIT_DATASET": "pairs",
    "MODEL.DENSE_ENCODER.FIT_IMAGES": 12,
    "MODEL.DENSE_ENCODER_SAR.ENABLED": False,
    "SOLVER.FIT_MULTIPLIER": 0.5,
    "CMU.ENCODER": "dense",
}


def words(settings):
    return [word for item in settings.items() for word in item]


def write(path, settings, **more):
    content = dict(more)
    for key, value in settings.items():
        *outer, last = key.split(".")
        node = content
        for part in outer:
            node = node.setdefault(part, {})
        node[last] = value
    path.write_text(yaml.safe_dump(content))
    return path


def detectron2_cfg():
    cfg = get_cfg()
    add_mm_ovseg_config(cfg)
    return cfg


def test_an_old_config_file_is_a_new_one_with_one_line_of_warning(tmp_path, caplog):
    new = load_config(write(tmp_path / "new.yaml", NEW), CPU)
    assert not caplog.records
    old = load_config(write(tmp_path / "old.yaml", OLD), CPU)
    assert old == new and old.MODEL.DENSE_ENCODER.FIT_IMAGES == 12
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "old.yaml uses names" in record.message and "MODEL.DINO is MODEL.DENSE_ENCODER" in record.message
    raw = detectron2_cfg()
    raw.merge_from_file(str(tmp_path / "old.yaml"))
    assert new.MODEL == {**raw.MODEL, "DEVICE": "cpu"} and raw.CMU == new.CMU and raw.SOLVER == new.SOLVER


def test_old_overrides_are_new_ones(tmp_path, caplog):
    config = write(tmp_path / "own.yaml", {"SEED": 1})
    old = {key: value for key, value in OLD.items() if ".ARGUMENTS." not in key}
    new = {key: value for key, value in NEW.items() if ".ARGUMENTS." not in key}
    expected = load_config(config, [*CPU, *words(new)])
    assert load_config(config, [*CPU, *map(str, words(old))]) == expected
    assert sum("The command line uses names" in record.message for record in caplog.records) == 1


def test_a_missing_value_is_reported_as_detectron2_does():
    cfg = get_cfg()
    add_mm_ovseg_config(cfg)
    with pytest.raises(AssertionError, match="odd length"):
        cfg.merge_from_list(["MODEL.DINO.NAME"])


@pytest.mark.parametrize("base,own", [(OLD, NEW), (NEW, OLD)])
def test_a_config_may_build_on_one_with_other_names(tmp_path, base, own):
    changed = {**own, next(key for key in own if key.endswith(".BLOCKS")): [3, 2, 1]}
    write(tmp_path / "base.yaml", base)
    config = write(tmp_path / "own.yaml", changed, _BASE_="base.yaml")
    raw = detectron2_cfg()
    raw.merge_from_file(str(config))
    for cfg in (load_config(config, CPU), raw):
        assert cfg.MODEL.DENSE_ENCODER.BLOCKS == [3, 2, 1] and cfg.MODEL.DENSE_ENCODER.TYPE == "Mine"


@pytest.mark.parametrize("old,new", [("MODEL.DINO.NAME", "MODEL.DENSE_ENCODER.NAME"), *RENAMED_KEYS.items()])
def test_both_names_of_a_key_are_an_error_of_one_sentence(tmp_path, old, new):
    if new.endswith("DENSE_ENCODER_SAR") or new.endswith("DENSE_ENCODER"):
        old, new = f"{old}.PIXEL_STD", f"{new}.PIXEL_STD"
    both = write(tmp_path / "both.yaml", {old: 1, new: 1})
    with pytest.raises(ConfigError, match="both.yaml gives both .*keep the new name") as error:
        load_config(both, CPU)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=f"The command line gives both {old} and {new}"):
        load_config(write(tmp_path / "own.yaml", {"SEED": 1}), [*CPU, old, "1", new, "1"])


def test_scripts_may_use_detectron2s_ways_and_nodes_of_their_own(tmp_path):
    cfg = detectron2_cfg()
    cfg.MODEL.DINO.PRETRAINED = "weights.pth"
    cfg.merge_from_list(["MODEL.DINO_SAR.WEIGHTS", "sar.pth"])
    cfg.MINE = CfgNode({"INNER": {"VALUE": 1}})
    cfg.merge_from_file(str(write(tmp_path / "own.yaml", {"MINE.INNER.VALUE": 2, "MODEL.DINO.IMAGE_SIZE": 64})))
    dense, sar = cfg.clone().MODEL.DENSE_ENCODER, cfg.MODEL.DENSE_ENCODER_SAR
    assert (dense.PRETRAINED, dense.IMAGE_SIZE, sar.WEIGHTS) == ("weights.pth", 64, "sar.pth")
    assert cfg.MINE.INNER.VALUE == 2 and "DINO:" not in cfg.dump()
    with pytest.raises(AttributeError):
        _ = cfg.MODEL.NOTHING


@pytest.mark.parametrize("config,old_names", [
    ("cmu.yaml", {"teacher.model.blocks.2.norm1.weight", "student.model.pos_embed"}),
    ("mm_ovseg.yaml", {
        "clip.encoder.visual.transformer.resblocks.3.attn.query.weight", "clip.projection.coarse.weight",
        "clip_sar.encoder.visual.proj", "dino.encoder.model.blocks.2.norm1.weight", "dino.projection.dense.weight",
        "dino_sar.encoder.model.pos_embed", "dino_sar.projection.fine.bias", "text.tower.text_projection",
        "sem_seg_head.cost_volume_embedding.dino.weight",
    }),
])  # fmt: skip
def test_the_names_of_parameters_are_those_of_older_checkpoints(tmp_path, config, old_names):
    cfg = load_config(ROOT / "configs" / "quickstart" / config, [*CPU, "DATASETS.TRAIN", (), "DATASETS.TEST", ()])
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.CLIP_SAR.ENABLED = True
    model = build_model(cfg)
    kinds = {name.split(".")[0] for name in model.state_dict()}
    assert kinds == {name.split(".")[0] for name in old_names}
    assert old_names <= model.state_dict().keys()
    # A config that was written beside such a checkpoint, with the names of its time.
    dumped = yaml.safe_load(cfg.dump())
    dense = dumped["MODEL"].pop("DENSE_ENCODER")
    for new, old in (("TYPE", "ENCODER"), ("FIT_DATASET", "ALIGNMENT_DATASET"), ("FIT_IMAGES", "ALIGNMENT_IMAGES")):
        dense[old] = dense.pop(new)
    dumped["MODEL"] |= {"DINO": dense, "DINO_SAR": dumped["MODEL"].pop("DENSE_ENCODER_SAR")}
    dumped["SOLVER"]["ALIGNMENT_MULTIPLIER"] = dumped["SOLVER"].pop("FIT_MULTIPLIER")
    dumped["CMU"]["ENCODER"] = "dino"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(dumped))
    torch.save({"model": model.state_dict(), "iteration": 7}, tmp_path / "model_final.pth")
    again = build_model(load_config(tmp_path / "config.yaml"))
    StrictCheckpointer(again).load(str(tmp_path / "model_final.pth"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
