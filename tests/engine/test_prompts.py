import json

import pytest

from mm_ovseg.engine.prompts import read_prompts
from mm_ovseg.errors import ConfigError, VocabularyError


def configured(make_cfg, datasets, files):
    cfg = make_cfg()
    cfg.DATASETS.TEST, cfg.TEST.PROMPT_FILES = datasets, files
    return cfg


def test_without_files_a_dataset_is_asked_for_its_own_names(make_cfg):
    prompts = read_prompts(configured(make_cfg, ("pie_clean_val", "ddhr_ch_val"), ()))
    assert prompts[0] == ("background", "city", "road", "water", "forest", "farmland")
    assert prompts[1] == ("city", "road", "forest", "water", "farmland")


def test_the_released_spelling_is_asked_for_in_the_order_of_the_classes(make_cfg):
    files = ("pie_released_prompts.json", "openearthmap_released_prompts.json")
    pie, openearthmap = read_prompts(configured(make_cfg, ("pie_clean_val", "oem_thin_val"), files))
    assert pie == ("backbroad", "city", "road", "water", "forest", "farmland")
    assert openearthmap[2:7:4] == ("developedspace", "agricultureland")


def test_a_file_of_ones_own(make_cfg, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"classes": ["town", "street", "wood", "river, lake", "field"]}))
    (prompts,) = read_prompts(configured(make_cfg, ("ddhr_sk_val",), (str(path),)))
    assert prompts[3] == "river, lake"


def test_what_does_not_fit_is_named(make_cfg, tmp_path):
    with pytest.raises(ConfigError, match="1 files for 2 datasets"):
        read_prompts(configured(make_cfg, ("pie_clean_val", "ddhr_sk_val"), ("pie_released_prompts.json",)))
    with pytest.raises(ConfigError, match="with 6 names, to ddhr_sk_val, which has 5 classes"):
        read_prompts(configured(make_cfg, ("ddhr_sk_val",), ("pie_released_prompts.json",)))
    with pytest.raises(ConfigError, match="nowhere.json cannot be read"):
        read_prompts(configured(make_cfg, ("ddhr_sk_val",), ("nowhere.json",)))
    with pytest.raises(ConfigError, match="holds 1, which is not a path"):
        read_prompts(configured(make_cfg, ("ddhr_sk_val",), (1,)))
    (tmp_path / "twice.json").write_text(json.dumps({"classes": ["a", "b", "c", "d", "A"]}))
    with pytest.raises(VocabularyError, match=r"twice\.json: .*more than once"):
        read_prompts(configured(make_cfg, ("ddhr_sk_val",), (str(tmp_path / "twice.json"),)))
