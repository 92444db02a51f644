"""The paper's six settings, from small files in the released layout through train_net.py to the scores."""

import json
import re
import shlex
import subprocess

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

import train_net
from mm_ovseg.cli import train as train_command
from mm_ovseg.cli.main import build_parser
from mm_ovseg.engine import Trainer, load_config
from tests.conftest import ROOT
from tests.datasets.conftest import noise

SIZE = 96
# setting: training set, evaluated on
SETTINGS = {
    "pie_cloud": ("pie_cloud_train", "pie_cloud_val"),
    "ddhr_sk": ("ddhr_sk_train", "ddhr_sk_val"),
    "oem_thick": ("oem_thick_train", "oem_thick_val"),
    "oem_thin": ("oem_thin_train", "oem_thin_val"),
    "pie_clean": ("pie_clean_train", "pie_clean_val"),
    "ddhr_sk_to_ch": ("ddhr_sk_train", "ddhr_ch_val"),
}
TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.CLIP.NAME": "ViT-quickstart-16",
    "MODEL.CLIP.IMAGE_SIZE": SIZE,
    "MODEL.CLIP.GUIDANCE_BLOCKS": [1, 2],
    "MODEL.DENSE_ENCODER.NAME": "vit_tiny_patch16_224",
    "MODEL.DENSE_ENCODER.IMAGE_SIZE": SIZE,
    "MODEL.AGGREGATOR.WINDOW_SIZE": 6,
    "INPUT.CROP.SIZE": [SIZE, SIZE],
    "INPUT.MIN_SIZE_TRAIN": (SIZE,),
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "DATALOADER.NUM_WORKERS": 0,
}
CPU = ["MODEL.DEVICE", "cpu"]
METHODS = [ROOT / "configs" / "mm_ovseg_vitb16_384.yaml", *sorted((ROOT / "configs" / "siblings").glob("*.yaml"))]
# What else makes a method tiny, by the name of its config.
TINY_METHODS = {
    "ebseg_vitb16_640": {
        "MODEL.EBSEG.CLIP_BLOCKS": [1, 2, 3],
        "MODEL.EBSEG.SURGERY_BLOCK": 2,
        "MODEL.EBSEG.SAM.ARGUMENTS": {"embed_dim": 24, "num_heads": 2, "img_size": 128},
        "MODEL.EBSEG.WIDTH": 32,
        "MODEL.EBSEG.QUERIES": 10,
        "INPUT.MIN_SIZE_TEST": SIZE,
    },
    "segearth_ov_vitb16": {"MODEL.SEGEARTH.STRIDE": 48, "INPUT.MIN_SIZE_TEST": SIZE},
}


# folder: kinds of RGB, SAR, label maps, suffix of the RGB files, number of classes that the label maps show
RELEASED = {
    "PIE_RGBSAR/train": (("rgb", "rgb_clouds"), "sar", "D2masks6", ".png", 4),
    "PIE_RGBSAR/val": (("rgb", "rgb_clouds"), "sar", "D2masks6", ".png", 6),
    "DDSK/train": (("rgb_clouds",), "sar", "D2masks3class", ".png", 3),
    "DDSK/val": (("rgb_clouds",), "sar", "D2masks", ".png", 5),
    "DDCH/val": (("rgb_clouds",), "sar", "D2masks", ".jpg", 5),
    "OEM/train": (("rgb_cloud", "rgb_cloud_thin"), "imgs", "D2masks5class", ".png", 5),
    "OEM/val": (("rgb_cloud", "rgb_cloud_thin"), "imgs", "D2masks", ".png", 8),
}


def write_picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A folder for DETECTRON2_DATASETS with two pairs a split; label maps are stripes, one a value and one ignored."""
    root = tmp_path_factory.mktemp("datasets")
    for place, (rgb_kinds, sar, labels, suffix, classes) in RELEASED.items():
        values = np.array([*range(classes), 255], dtype=np.uint8)
        stripes = np.tile(values[np.arange(SIZE) * len(values) // SIZE], (SIZE, 1))
        for index in range(2):
            for kind in rgb_kinds:
                write_picture(root / place / kind / f"tile_{index}{suffix}", noise(SIZE, SIZE, 3, index))
            write_picture(root / place / sar / f"tile_{index}.png", noise(SIZE, SIZE, 1, index + 50)[..., 0])
            write_picture(root / place / labels / f"tile_{index}.png", stripes)
    return root


def words(setting, output, keys, *options):
    """A command line with a setting's config."""
    config = ROOT / "configs" / "settings" / f"{setting}.yaml"
    overrides = [word for item in keys.items() for word in item]
    return [str(word) for word in ("--config-file", config, *options, "OUTPUT_DIR", output, *overrides)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_trains_and_evaluates_with_its_config(datasets, monkeypatch, tmp_path, setting):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    train_net.main(words(setting, tmp_path, TINY))
    losses = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert any(line.get("total_loss", 0) > 0 for line in losses)

    name = SETTINGS[setting][1]
    report = json.loads((tmp_path / "inference" / name / "sem_seg_evaluation.json").read_text())
    metadata, results = MetadataCatalog.get(name), report["results"]
    assert report["classes"] == metadata.stuff_classes and results["num_images"] == 2
    # All classes lie in the label maps, and the mean over seen and unseen ones is the paper's.
    seen, unseen = len(metadata.stuff_classes) - len(metadata.unseen_classes), len(metadata.unseen_classes)
    weighted = seen * results["mIoU-seen"] + unseen * results["mIoU-unseen"]
    assert results["mIoU"] == pytest.approx(weighted / (seen + unseen))


@pytest.mark.parametrize("method", METHODS[1:], ids=lambda path: path.stem)
def test_another_method_trains_in_a_setting(datasets, monkeypatch, tmp_path, method):
    """One that has nothing to train is evaluated alone."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    keys = TINY | {"SOLVER.MAX_ITER": 1} | TINY_METHODS.get(method.stem, {})
    arguments = words("ddhr_sk_to_ch", tmp_path, keys, "--base", method)
    cfg = load_config(arguments[1], arguments[arguments.index("OUTPUT_DIR") :], base=method)
    model = Trainer.build_model(cfg)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
        arguments = [*arguments[:4], "--eval-only", *arguments[4:], "MODEL.WEIGHTS", str(tmp_path / "model.pth")]
    train_net.main(arguments)
    assert (tmp_path / "inference" / "ddhr_ch_val" / "sem_seg_evaluation.json").is_file()
    assert "--eval-only" in arguments or (tmp_path / "model_final.pth").is_file()
    dumped = load_config(tmp_path / "config.yaml")
    assert dumped.MODEL.META_ARCHITECTURE == cfg.MODEL.META_ARCHITECTURE
    assert dumped.MODEL.DENSE_ENCODER == cfg.MODEL.DENSE_ENCODER and dumped.DATASETS == cfg.DATASETS


@pytest.mark.parametrize("method", METHODS, ids=lambda path: path.stem)
def test_a_setting_is_any_method_on_its_datasets(method):
    own = load_config(method, CPU)
    names = {path.stem for path in (ROOT / "configs" / "settings").glob("*.yaml")}
    assert names == set(SETTINGS)
    for setting, (train, test) in SETTINGS.items():
        cfg = load_config(ROOT / "configs" / "settings" / f"{setting}.yaml", CPU, base=method)
        assert ((train,), (test,)) == (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
        assert f"output/settings/{setting}" == cfg.OUTPUT_DIR
        assert (0 if train[:-6] != test[:-4] else own.TEST.EVAL_PERIOD) == cfg.TEST.EVAL_PERIOD
        assert cfg.MODEL == own.MODEL and cfg.SOLVER == own.SOLVER and cfg.INPUT == own.INPUT


def test_without_another_base_a_setting_is_mm_ovseg():
    for setting in SETTINGS:
        config = ROOT / "configs" / "settings" / f"{setting}.yaml"
        assert load_config(config, CPU) == load_config(config, CPU, base=METHODS[0])


def test_the_loop_of_the_documentation_is_all_methods_in_all_settings():
    text = (ROOT / "configs" / "settings" / "README.md").read_text(encoding="utf-8")
    [loop] = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    script = 'mm-ovseg() { echo "${@@Q}"; }\n' + loop
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    parser = build_parser(train_command)
    commands = [parser.parse_args(shlex.split(line)[1:]) for line in done.stdout.splitlines()]
    assert len({(args.config_file, args.base) for args in commands}) == len(commands) == 36
    assert len({args.opts[1] for args in commands if args.opts[0] == "OUTPUT_DIR"}) == 36
    assert {ROOT / args.base for args in commands} >= set(METHODS)
    assert {ROOT / args.config_file for args in commands} == set((ROOT / "configs" / "settings").glob("*.yaml"))
