"""FGAseg: CAT-Seg with text refined by the image, a local correlation and auxiliary losses (arXiv 2501.00877)."""

from mm_ovseg.baselines.fgaseg.head import FGAsegHead
from mm_ovseg.baselines.fgaseg.meta_arch import FGAseg

__all__ = ["FGAseg", "FGAsegHead"]
