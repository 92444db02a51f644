"""Small encoders trained from scratch, where weights of large ones are not available.

They replace CLIP and DINO in the laptop experiment: CLIP learns from captions of synthetic scenes instead of the web,
and dense contrastive learning without labels replaces that of DINO. Needs ``lightly`` (``pip install
'mm_ovseg[experiment]'``).
"""

from laptop.pretraining.contrastive import pretrain_clip
from laptop.pretraining.crops import LabelledScenes
from laptop.pretraining.dense_contrastive import pretrain_dense_encoder

__all__ = ["LabelledScenes", "pretrain_clip", "pretrain_dense_encoder"]
