"""A synthetic dataset, drawn on demand from a seed, in the layout of DDHR.

It serves tests, the demo and experiments that must run without any download. On the command line:

    python projects/laptop/write_scenes.py datasets/synthetic --num-train 60 --num-val 12 --size 192

and then, if that folder lies in ``$DETECTRON2_DATASETS`` (default ``datasets``):

    mm-ovseg dataset preview synthetic_train

A scene shows about 2 m a pixel from above: a town with streets, houses and halls, main roads, a river with a bridge or
a lake, parcelled fields, forest. The SAR image is an amplitude image with speckle; water is dark, walls that face the
sensor are bright. The labels have all classes, and the true one also under clouds.
"""

from laptop.drawn_world.dataset import write_synthetic_dataset
from laptop.drawn_world.layout import SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES
from laptop.drawn_world.registration import register_synthetic_dataset
from laptop.drawn_world.scene import SyntheticScene, generate_scene

__all__ = [
    "SYNTHETIC_CLASSES",
    "SYNTHETIC_UNSEEN_CLASSES",
    "SyntheticScene",
    "generate_scene",
    "register_synthetic_dataset",
    "write_synthetic_dataset",
]
