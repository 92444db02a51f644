"""mm_ovseg: open-vocabulary semantic segmentation of optical and SAR image pairs, on Detectron2.

Importing the package registers the models, the dataset mappers and the built-in datasets.
"""

__version__ = "0.1.0"

from mm_ovseg import data, modeling
from mm_ovseg.config import add_mm_ovseg_config

__all__ = ["add_mm_ovseg_config", "data", "modeling"]
