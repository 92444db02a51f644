"""From a trained model to maps of pairs, in files or in memory, and of large scenes."""

from mm_ovseg.inference.map_writer import write_class_map_geotiff, write_class_map_png
from mm_ovseg.inference.predictor import EncodedPair, Prediction, Predictor
from mm_ovseg.inference.scene import SceneOptions, ScenePredictor

__all__ = [
    "EncodedPair",
    "Prediction",
    "Predictor",
    "SceneOptions",
    "ScenePredictor",
    "write_class_map_geotiff",
    "write_class_map_png",
]
