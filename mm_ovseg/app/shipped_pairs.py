"""The shipped example of the page: a small model and a real pair."""

from detectron2.config import CfgNode

from mm_ovseg.app.scenes import SceneFiles
from mm_ovseg.shipped import shipped_path

__all__ = ["CONFIG", "shipped_pairs"]

CONFIG = shipped_path("configs/sentinel/demo.yaml")
PAIR = shipped_path("demo/assets/sentinel")
PAIRS = {"Under clouds": "rgb_clouds.tif", "Clear sky": "rgb.tif"}
ATTRIBUTION = "Contains modified Copernicus Sentinel data 2020; TerraMind, Apache-2.0"


def shipped_pairs(cfg: CfgNode) -> list[SceneFiles]:
    """The shipped pairs, whose files declare their units; none if ``INPUT`` selects bands of other images."""
    if cfg.INPUT.RGB.BANDS or cfg.INPUT.SAR.BANDS:
        return []
    return [
        SceneFiles(rgb=(PAIR / file,), sar=(PAIR / "sar.tif",), name=title, attribution=ATTRIBUTION)
        for title, file in PAIRS.items()
    ]
