"""SegEarth-OV (CVPR 2025, arXiv 2410.01768): CLIP without training, upsampled by the image."""

from mm_ovseg.baselines.segearth.segmenter import SegEarthOV

__all__ = ["SegEarthOV"]
