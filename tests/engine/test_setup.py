import pytest
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from mm_ovseg.data.mappers import DATASET_MAPPER_REGISTRY
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.fusion import FUSION_REGISTRY
from tests.conftest import ROOT

CONFIG = ROOT / "configs" / "quickstart" / "mm_ovseg.yaml"
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_config_of_the_repository_loads(path):
    cfg = load_config(ROOT / path, ["MODEL.DEVICE", "cpu"])
    assert cfg.is_frozen()
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        assert name in DatasetCatalog


def test_overrides_win():
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu", "SOLVER.BASE_LR", "0.5"])
    assert cfg.SOLVER.BASE_LR == 0.5


def test_declared_datasets_are_registered(tmp_path):
    declared = tmp_path / "mine.yaml"
    declared.write_text("datasets: {setup_mine: {root: x, rgb: rgb, sar: sar, classes: [water, road]}}")
    load_config(CONFIG, ["MODEL.DEVICE", "cpu", "DATASETS.FILES", f"['{declared}']"])
    assert "setup_mine" in DatasetCatalog


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text,message", [
    ("MODEL: {CLIPP: {NAME: x}}", r"config\.yaml.*does not exist"),
    ("SOLVER: {BASE_RL: 1}", "BASE_LR"),
    ("SOLVER: {BASE_LR: fast}", r"config\.yaml"),
    ("SOLVER: [1, 2", r"config\.yaml is not valid YAML"),
    ("_BASE_: nowhere.yaml", "nowhere.yaml"),
    ("just words", r"config\.yaml"),
    ("SOLVER: !!python/object/apply:os.system ['true']", r"config\.yaml is not valid YAML"),
    ("MODEL: {DEVICE: warp9}", "warp9"),
    ("DATASETS: {FILES: [absent.yaml]}", "absent.yaml"),
])  # fmt: skip
def test_bad_files_end_in_one_sentence_that_names_the_fault(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config(write(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("overrides,message", [
    (["SOLVER.BASE_RL", "1"], "SOLVER.BASE_RL.*the command line.*did you mean SOLVER.BASE_LR"),
    (["SOLVER.BASE_LR"], "the last key has no value"),
    (["NOTHING.AT.ALL", "1"], "NOTHING.AT.ALL"),
    (["MODEL.META_ARCHITECTURE", "MapMaker"], "MapMaker"),
    (["MODEL.SEM_SEG_HEAD.NAME", "Head"], "MODEL.SEM_SEG_HEAD.NAME is 'Head'"),
])  # fmt: skip
def test_bad_overrides_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CONFIG, overrides)


@pytest.mark.parametrize("overrides", [
    ["MODEL.DENSE_ENCODER.ARGUMENTS", "{'depth': 3, 'embed_dim': 96}"],
    ["MODEL.DENSE_ENCODER.ARGUMENTS", {"depth": 3, "embed_dim": 96}],
    ["MODEL.DENSE_ENCODER.ARGUMENTS.depth", "3", "MODEL.DENSE_ENCODER.ARGUMENTS.embed_dim", "96"],
    ["MODEL.DINO.ARGUMENTS", "{'depth': 4, 'embed_dim': 96}", "MODEL.DENSE_ENCODER.ARGUMENTS.depth", "3"],
    ["MODEL.DENSE_ENCODER", "{'ARGUMENTS': {'depth': 3, 'embed_dim': 96}}"],
])  # fmt: skip
def test_the_arguments_of_an_encoder_are_taken_from_the_command_line(overrides):
    dense = load_config(ROOT / "configs/mm_ovseg_vitb16_384.yaml", ["MODEL.DEVICE", "cpu", *overrides]).MODEL
    assert dict(dense.DENSE_ENCODER.ARGUMENTS) == {"depth": 3, "embed_dim": 96}
    assert dense.DENSE_ENCODER.NAME == "vit_base_patch8_224.dino"  # the other keys are kept


def test_a_mapping_on_the_command_line_is_checked_as_one_in_a_file():
    with pytest.raises(ConfigError, match="SOLVER.BASE_RL, given in the command line, does not exist; did you mean"):
        load_config(CONFIG, ["MODEL.DEVICE", "cpu", "SOLVER", "{'BASE_RL': 1.0}"])


@pytest.mark.parametrize("overrides,message", [
    (["MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]"], r"MODEL.PIXEL_MEAN is a key .* \(each encoder has its own, such as"),
    (["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "5"], "NUM_CLASSES .*the names that you give, determine the classes"),
    (["MODEL.RPN.NMS_THRESH", "0.5"], "MODEL.RPN.NMS_THRESH is a key of Detectron2 that nothing here reads; remove"),
    (["INPUT.FORMAT", "RGB"], r"INPUT.RGB.BANDS selects the bands"),
    (["TEST.AUG.ENABLED", "True"], "TEST.AUG.ENABLED"),
    (["VIS_PERIOD", "10"], "VISUALIZATION.PAIRS"),
])  # fmt: skip
def test_keys_that_nothing_reads_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CONFIG, ["MODEL.DEVICE", "cpu", *overrides])


def test_models_and_mappers_of_ones_own_may_read_any_key(monkeypatch):
    monkeypatch.setitem(FUSION_REGISTRY._obj_map, "setup_own", lambda cfg, input_shape: None)
    words = ["MODEL.DEVICE", "cpu", "MODEL.COST_VOLUME.FUSION", "setup_own", "MODEL.SEM_SEG_HEAD.NORM", "BN"]
    assert load_config(CONFIG, words).MODEL.SEM_SEG_HEAD.NORM == "BN"
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "SetupOwn", type("SetupOwn", (), {"__module__": "elsewhere"}))
    monkeypatch.setitem(DATASET_MAPPER_REGISTRY._obj_map, "setup_own", lambda cfg, is_train: None)
    words = ["MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", "SetupOwn", "MODEL.PIXEL_MEAN", "[0.0]"]
    words += ["INPUT.DATASET_MAPPER_NAME", "setup_own", "INPUT.FORMAT", "RGB"]
    cfg = load_config(CONFIG, words)
    assert (cfg.MODEL.PIXEL_MEAN, cfg.INPUT.FORMAT) == ([0.0], "RGB")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        load_config(tmp_path / "nowhere.yaml")
