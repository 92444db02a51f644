"""EBSeg (CVPR 2024): masks of queries, classified by themselves and by CLIP in two ways, with SAM's image encoder."""

from mm_ovseg.baselines.ebseg.meta_arch import EBSeg

__all__ = ["EBSeg"]
