"""A synthetic dataset, drawn on demand from a seed, in the layout of DDHR.

A scene has 2 m pixels and shows a town with streets, houses and halls, main roads, a river with a bridge or
a lake, parcelled fields, forest. The SAR image is an amplitude image with speckle; water is dark, walls that face the
sensor are bright. The labels hold the true classes, even under clouds.
"""

from laptop.drawn_world.dataset import register_synthetic_dataset, write_synthetic_dataset
from laptop.drawn_world.generation import SyntheticScene, generate_scene
from laptop.drawn_world.geography import SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES

__all__ = [
    "SYNTHETIC_CLASSES",
    "SYNTHETIC_UNSEEN_CLASSES",
    "SyntheticScene",
    "generate_scene",
    "register_synthetic_dataset",
    "write_synthetic_dataset",
]
