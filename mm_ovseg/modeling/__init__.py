"""The model; importing this package registers the meta-architectures and the head with Detectron2."""

from mm_ovseg.modeling.head import MMOVSegHead
from mm_ovseg.modeling.meta_arch.cmu import CrossModalUnification
from mm_ovseg.modeling.meta_arch.mm_ovseg import MMOVSeg

__all__ = ["CrossModalUnification", "MMOVSeg", "MMOVSegHead"]
