"""Scenes mapped by SegEarth-OV: what their reports say, and when a map is finished."""

import numpy as np
import open_clip
import torch
from detectron2.modeling import build_model

from mm_ovseg.checkpoint.weights_file import write_weights_file
from mm_ovseg.files import sha256
from mm_ovseg.inference import SceneOptions, ScenePredictor
from tests.rehearsal.device import tiny_cfg

CONFIG = "configs/siblings/segearth_ov_vitb16.yaml"
NAMES = ["water, river", "road", "forest"]


def test_the_report_of_a_scene_names_clips_weights(tmp_path, write_raster):
    weights, rgb = tmp_path / "clip.pth", np.full((40, 30, 3), 99, np.uint8)
    torch.save(open_clip.create_model("ViT-laptop-4").state_dict(), weights)
    words = ["MODEL.TEXT.TEMPLATES", ["{}"], "INPUT.MIN_SIZE_TEST", 0]
    scenes = ScenePredictor(tiny_cfg(CONFIG, *words, "MODEL.CLIP.PRETRAINED", str(weights)), NAMES)
    report = scenes.segment(
        write_raster(tmp_path / "rgb.tif", rgb), None, tmp_path / "map.tif", SceneOptions(window=64)
    )
    assert report["weights"] == {"path": str(weights), "sha256": sha256(weights)}


def test_a_map_is_another_one_with_other_weights_of_the_upsampler(tmp_path, write_raster):
    path, output, options = tmp_path / "upsampler.safetensors", tmp_path / "map.tif", SceneOptions(window=64)
    rgb = write_raster(tmp_path / "rgb.tif", np.full((40, 30, 3), 99, np.uint8))
    words = ["MODEL.TEXT.TEMPLATES", ["{}"], "INPUT.MIN_SIZE_TEST", 0, "MODEL.SEGEARTH.UPSAMPLER_WEIGHTS", str(path)]
    torch.manual_seed(0)
    upsampler = build_model(tiny_cfg(CONFIG)).upsampler
    weights = {f"upsampler.{name}": torch.rand_like(x) for name, x in upsampler.state_dict().items()}

    def finished(**changes):
        write_weights_file(path, {**weights, **changes}, {})
        scenes = ScenePredictor(tiny_cfg(CONFIG, *words), NAMES)
        if not output.exists():
            scenes.segment(rgb, None, output, options)
        return scenes.finished_report(rgb, None, output, options) is not None

    assert finished() and finished()
    assert not finished(**{"upsampler.step.sigma": torch.tensor(2.0)})


def test_a_scene_is_not_said_to_be_mapped_from_sar(tmp_path, write_raster):
    words = ["MODEL.TEXT.TEMPLATES", ["{}"], "INPUT.MIN_SIZE_TEST", 0]
    scenes, options, output = (
        ScenePredictor(tiny_cfg(CONFIG, *words), NAMES),
        SceneOptions(window=64),
        tmp_path / "m.tif",
    )
    rgb = write_raster(tmp_path / "rgb.tif", np.full((40, 30, 3), 99, np.uint8))
    sar = write_raster(tmp_path / "sar.tif", np.full((40, 30, 1), 99, np.uint8))
    report = scenes.segment(rgb, sar, output, options)
    assert report["coverage"]["rgb_only"]["pixels"] == 1200 and report["coverage"]["rgb_only"]["share"] == 1
    assert report["warnings"] == ["This model maps RGB alone; SAR is not used."]
    assert scenes.finished_report(rgb, sar, output, options) == report
