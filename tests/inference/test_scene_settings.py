"""What features depend on, and what they do not."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from mm_ovseg.inference.scene_options import SceneOptions
from mm_ovseg.inference.scene_settings import WeightsHash, features_key
from mm_ovseg.raster import Grid, write_geotiff


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Linear(3, 2)
        self.text = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(3), persistent=False)
        self.device, self.inference_dtype = torch.device("cpu"), torch.float32


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model()


def test_the_hash_of_weights_is_of_all_that_images_pass_through(model):
    weights = WeightsHash(model)
    first = weights()
    assert first == weights() == WeightsHash(model)()
    with torch.no_grad():
        model.text.weight.add_(1)
    assert weights() == first
    hashes = {first}
    for tensor in (model.image.weight, model.image.bias, model.mean):
        with torch.no_grad():
            tensor.view(-1)[0] += 1e-3
        hashes.add(weights())
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    assert len(hashes) == 4 and weights() in hashes
    hashes.add(WeightsHash(model.bfloat16())())
    assert len(hashes) == 5


def test_weights_are_hashed_again_only_if_they_may_have_changed(model, monkeypatch):
    weights, hashed = WeightsHash(model), []
    monkeypatch.setattr(torch.Tensor, "detach", lambda tensor: hashed.append(tensor.shape) or tensor.data)
    weights()
    count = len(hashed)
    weights()
    assert len(hashed) == count > 0
    with torch.inference_mode():  # no counters say whether these change
        model.mean = torch.zeros(3)
    weights()
    weights()
    assert len(hashed) == 3 * count


def test_what_comes_after_the_encoders_is_not_in_the_key(make_cfg, model):
    def key(overrides=(), **options):
        cfg = make_cfg("configs/quickstart/mm_ovseg.yaml", *overrides)
        options = SceneOptions(window=32, **options)
        return features_key(cfg, None, None, options, model=model, weights="", any_format=True)

    same = key()
    for overrides in (
        ("MODEL.CALIBRATION", "none"),
        ("MODEL.WEIGHTS", "moved.pth"),
        ("MODEL.TEXT.TEMPLATES", ["a {}"]),
        ("SOLVER.MAX_ITER", 7),
        ("OUTPUT_DIR", "elsewhere"),
    ):
        assert key(overrides) == same
    for options in ({"area": "a.gpkg"}, {"clouds": "c.tif"}, {"confidence": True}, {"resume": True}, {"min_area": 1}):
        assert key(**options) == same
    for overrides in (
        ("MODEL.DENSE_ENCODER.BLOCKS", [1, 2, 2]),
        ("INPUT.RGB.RANGE", [0, 9]),
        ("MODEL.ALLOW_TF32", True),
    ):
        assert {name for name, value in key(overrides).items() if value != same[name]} == {"config"}
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert {name for name, value in key().items() if value != same[name]} == {"device"}
    finally:
        torch.set_num_threads(threads)
    model.inference_dtype = torch.bfloat16
    assert {name for name, value in key().items() if value != same[name]} == {"precision"}


def test_the_key_knows_the_sources_of_a_mosaic_of_mosaics(make_cfg, model, tmp_path):
    image, inner, outer = (tmp_path / name for name in ("image.tif", "inner.vrt", "outer.vrt"))

    def write(value):
        write_geotiff(image, np.full((3, 8, 8), value, np.uint8), Grid(8, 8, None, None))
        os.utime(image, ns=(value, value))  # the clock may be too coarse

    def key():
        cfg = make_cfg("configs/quickstart/mm_ovseg.yaml")
        return features_key(cfg, outer, None, SceneOptions(window=32), model=model, weights="", any_format=True)

    write(1)
    for source, mosaic in ((image, inner), (inner, outer)):
        bands = "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">'
            f"{source.name}</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        )
        mosaic.write_text(f'<VRTDataset rasterXSize="8" rasterYSize="8">{bands}</VRTDataset>', encoding="utf-8")
    before = key()
    write(2)
    assert {name for name, value in key().items() if value != before[name]} == {"rgb"}
