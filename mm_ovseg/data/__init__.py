"""Datasets of RGB-SAR pairs: reading, registration, augmentation, and the mappers that make batch items."""

from mm_ovseg.data import builtin, fractal_clouds  # register the paper's datasets and fractal clouds
from mm_ovseg.data.loader import build_train_loader
from mm_ovseg.data.mappers import DATASET_MAPPER_REGISTRY, build_dataset_mapper
from mm_ovseg.data.registration import register_datasets_from_file, register_rgb_sar_dataset

__all__ = [
    "DATASET_MAPPER_REGISTRY",
    "build_dataset_mapper",
    "build_train_loader",
    "register_datasets_from_file",
    "register_rgb_sar_dataset",
]
