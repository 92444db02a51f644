"""Small encoders trained from nothing, where weights of large ones are not at hand.

They stand in for CLIP and DINO in the laptop experiment: what the web teaches CLIP, captions of synthetic scenes teach
here; what DINO learns without labels, dense contrastive learning learns. Needs ``lightly`` (``pip install
'mm_ovseg[experiment]'``).
"""

from laptop.pretraining.contrastive import pretrain_clip
from laptop.pretraining.crops import LabelledScenes
from laptop.pretraining.dense_contrastive import pretrain_dense_encoder

__all__ = ["LabelledScenes", "pretrain_clip", "pretrain_dense_encoder"]
