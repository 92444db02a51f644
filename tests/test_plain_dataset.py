"""A dataset in Detectron2's catalogs alone, registered as datasets/README.md says, trains and is evaluated."""

import json
import re

import torch
from detectron2.data import MetadataCatalog

import train_net
from laptop.drawn_world import write_synthetic_dataset
from mm_ovseg.engine import load_config
from mm_ovseg.visualization.dataset_sheet import draw_dataset_sheet
from tests.conftest import ROOT, run_cli


def test_the_script_of_the_documentation(tmp_path, monkeypatch, forget_datasets):
    text = (ROOT / "datasets" / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(# my_region\.py.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_synthetic_dataset(tmp_path / "drawn", num_train=0, num_val=2, size=64)
    (tmp_path / "drawn" / "val").rename(tmp_path / "my_region")
    exec(compile(script, "my_region.py", "exec"), {"__name__": "my_region"})

    config = ROOT / "configs/quickstart/mm_ovseg.yaml"
    names = ["DATASETS.TRAIN", "('my_region',)", "DATASETS.TEST", "('my_region',)", "DATASETS.UNSEEN", "water"]
    names += ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "DATALOADER.CACHE_DIR", tmp_path / "cache"]
    words = ["--config-file", config, *names, "OUTPUT_DIR", tmp_path / "trained", "SOLVER.MAX_ITER", 1]
    words += ["SOLVER.IMS_PER_BATCH", 2, "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"]
    words += ["MODEL.DENSE_ENCODER.FIT_DATASET", "my_region", "MODEL.DENSE_ENCODER.FIT_IMAGES", 2]
    run_cli("train", *words)
    weights = tmp_path / "trained" / "model_final.pth"
    words = ["--eval-only", "--config-file", config, *names, "OUTPUT_DIR", tmp_path / "evaluated"]
    train_net.main([str(word) for word in (*words, "MODEL.WEIGHTS", weights)])
    trained, evaluated = (
        json.loads((tmp_path / run / "inference" / "my_region" / "sem_seg_evaluation.json").read_text())
        for run in ("trained", "evaluated")
    )
    assert trained == evaluated and trained["results"]["num_images"] == 2
    assert trained["classes"] == MetadataCatalog.get("my_region").stuff_classes
    assert trained["unseen_classes"] == ["water"]
    assert (tmp_path / "trained" / "inference" / "my_region" / "predictions.png").is_file()
    assert torch.load(weights, map_location="cpu", weights_only=True)["iteration"] == 0

    sheet = tmp_path / "sheet.png"
    assert draw_dataset_sheet(load_config(config, ["MODEL.DEVICE", "cpu"]), "my_region", sheet, 2) == (2, 2)
