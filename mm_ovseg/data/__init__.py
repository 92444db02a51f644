"""Datasets of RGB-SAR pairs: reading, registration, augmentation, and the mappers that make batch items."""

from mm_ovseg.data import builtin
from mm_ovseg.data.loader import build_train_loader
from mm_ovseg.data.mappers import DATASET_MAPPER_REGISTRY, build_dataset_mapper
from mm_ovseg.data.registration import register_datasets_from_file, register_rgb_sar_dataset
from mm_ovseg.data.seen_labels import seen_classes
from mm_ovseg.data.synthetic_registration import register_synthetic_dataset

register_synthetic_dataset()
