#!/usr/bin/env python
"""Parts of your own, without a change in mm_ovseg; this script is train_net.py with these parts registered.

python docs/extend.py --config-file docs/extend_cmu.yaml
python docs/extend.py --config-file docs/extend.yaml

ADVANCED_USAGE.md beside it states what each part takes and returns. Copy what you need, and start from there. The two
configs train on the dataset that is registered below, in $DETECTRON2_DATASETS/coast.
"""

import numpy as np
import torch
from detectron2.config import configurable
from fvcore.nn import sigmoid_focal_loss
from torch import nn

from mm_ovseg.checkpoint.encoder_weights import load_encoder_file
from mm_ovseg.cli import train
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.cli.main import run_command
from mm_ovseg.data import register_rgb_sar_dataset
from mm_ovseg.data.mappers import DATASET_MAPPER_REGISTRY, RGBSARSemanticMapper
from mm_ovseg.modeling.backbone import IMAGE_ENCODER_REGISTRY, EncoderFeatures, ImageEncoder
from mm_ovseg.modeling.fusion import FUSION_REGISTRY
from mm_ovseg.modeling.losses import SEGMENTATION_LOSS_REGISTRY
from mm_ovseg.modeling.unification_losses import UNIFICATION_LOSS_REGISTRY
from mm_ovseg.raster import SAR_UNITS, SARUnit

# A unit of SAR: hundredths of dB as whole numbers. INPUT.SAR.SCALE centidecibels
SAR_UNITS["centidecibels"] = SARUnit(
    to_power=lambda values: 10 ** (values / 1000),
    from_power=lambda power: 1000 * np.log10(power),
    to_decibels=lambda values: values / 100,
    has_zero=True,
)

# A dataset. DATASETS.TRAIN "('coast_train',)"
for split in ("train", "val"):
    register_rgb_sar_dataset(
        f"coast_{split}",
        root=f"coast/{split}",  # in $DETECTRON2_DATASETS
        rgb="rgb",
        sar="sar",
        labels="labels",
        classes=["city", "road", "forest", "river, lake", "farmland"],
        unseen=["road", "river, lake"],
        ground_sampling_distance=2.0,
    )


# MODEL.DENSE_ENCODER.TYPE ConvEncoder
@IMAGE_ENCODER_REGISTRY.register()
class ConvEncoder(ImageEncoder):
    """A patch embedding and convolutions at its resolution."""

    def __init__(self, *, name, arguments, weights, blocks, **settings):
        width = arguments.get("width", 32)  # MODEL.DENSE_ENCODER.ARGUMENTS: settings of your own
        super().__init__(patch_size=8, out_channels=width, blocks=blocks, **settings)
        layers = [nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU()) for _ in range(max(blocks))]
        self.model = nn.Sequential(nn.Conv2d(3, width, kernel_size=8, stride=8), *layers)
        if weights:
            load_encoder_file(self.model, weights)

    def forward(self, images):
        """(B, 3, S, S) -> maps (B, width, S / 8, S / 8) of each of ``blocks``."""
        x, maps = self.model[0](images), {}
        for block, layer in enumerate(self.model[1:], start=1):
            x = maps[block] = x + layer(x)
        *guidance, dense = (maps[block] for block in self.blocks)
        return EncoderFeatures(dense, tuple(guidance))


# MODEL.COST_VOLUME.FUSION SumFusion
@FUSION_REGISTRY.register()
class SumFusion(nn.Module):
    """The sum of two embeddings."""

    @configurable
    def __init__(self, *, templates, width, with_dino):
        super().__init__()
        self.clip = nn.Conv2d(templates, width, kernel_size=7, padding=3)
        self.dino = nn.Conv2d(templates, width, kernel_size=7, padding=3) if with_dino else None

    @classmethod
    def from_config(cls, cfg, input_shape):
        """The arguments of ``__init__``."""
        return {
            "templates": len(cfg.MODEL.TEXT.TEMPLATES),
            "width": cfg.MODEL.COST_VOLUME.WIDTH,
            "with_dino": "dino" in input_shape,
        }

    def forward(self, clip_cost, dino_cost):
        """(B, P, T, h, w) of each encoder -> (B, T, width, h, w)."""
        batch = clip_cost.shape[0]
        x = self.clip(clip_cost.transpose(1, 2).flatten(0, 1))  # (B * T, width, h, w)
        if self.dino is not None:
            x = x + self.dino(dino_cost.transpose(1, 2).flatten(0, 1))
        return x.unflatten(0, (batch, -1))


# A loss of stage 1. CMU.LOSS huber
@UNIFICATION_LOSS_REGISTRY.register()
def huber(student, teacher, valid, **settings):
    """Squared differences, less sensitive to outliers, summed over channels."""
    return nn.functional.huber_loss(student, teacher, reduction="none", delta=0.1).sum(dim=2)  # (B, K)


# A loss of stage 2. LOSS.NAME focal
@SEGMENTATION_LOSS_REGISTRY.register()
def focal(logits, target, *, ignore_label, ignored_as_negative):
    """Binary cross-entropy with less weight on easy pixels."""
    counted = target != ignore_label  # (B, H, W)
    positive = torch.zeros_like(logits)
    positive.scatter_(1, target.where(counted, 0)[:, None], counted[:, None].to(logits))  # one-hot; ignored: none
    losses = sigmoid_focal_loss(logits, positive).mean(dim=1)  # (B, H, W)
    return losses, torch.ones_like(losses) if ignored_as_negative else counted.to(losses)


class GammaMapper(RGBSARSemanticMapper):
    """Makes the RGB of training brighter or darker."""

    def __call__(self, dataset_dict):
        """From a dataset dict to an item of the batch."""
        item = super().__call__(dataset_dict)
        if self.is_train and item is not None:
            gamma = torch.empty(()).uniform_(0.7, 1.4)
            item["image"] = 255 * (item["image"] / 255) ** gamma
        return item


# INPUT.DATASET_MAPPER_NAME rgb_sar_gamma
@DATASET_MAPPER_REGISTRY.register()
def rgb_sar_gamma(cfg, is_train):
    """The mapper that a config asks for."""
    return GammaMapper(cfg, is_train)


@clean_exit
def main(arguments=None):
    """Train, as train_net.py does."""
    run_command(train, arguments)


if __name__ == "__main__":
    main()
