"""Small encoders trained from nothing, where weights of large ones are not at hand.

They stand in for CLIP and DINO in the laptop experiment (docs/EXPERIMENT.md): what the web teaches CLIP, captions of
synthetic scenes teach here; what DINO learns without labels, dense contrastive learning learns. Needs ``lightly``
(``pip install 'mm_ovseg[experiment]'``).
"""

from mm_ovseg.pretraining.contrastive import pretrain_clip
from mm_ovseg.pretraining.crops import LabelledScenes
from mm_ovseg.pretraining.dense_contrastive import pretrain_dense_encoder

__all__ = ["LabelledScenes", "pretrain_clip", "pretrain_dense_encoder"]
