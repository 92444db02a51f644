"""The paper's other systems: SegEarth-OV, EBSeg and FGAseg, from RGB alone; CAT-Seg and GSNet are configs.

Importing this package registers their meta-architectures with Detectron2.
"""

from mm_ovseg.baselines.ebseg import EBSeg
from mm_ovseg.baselines.fgaseg import FGAseg
from mm_ovseg.baselines.segearth import SegEarthOV

__all__ = ["EBSeg", "FGAseg", "SegEarthOV"]
