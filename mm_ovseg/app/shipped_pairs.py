"""The shipped example of the page: a small model and a pair."""

from detectron2.config import CfgNode

from mm_ovseg.app.scenes import SceneFiles
from mm_ovseg.shipped import shipped_path

__all__ = ["CONFIG", "SCENE", "shipped_pairs"]

CONFIG = shipped_path("configs/quickstart/demo.yaml")
SCENE = shipped_path("demo/assets/pair/val")
PAIRS = {"Under clouds": "rgb_clouds", "Clear sky": "rgb"}
ATTRIBUTION = None  # drawn


def shipped_pairs(cfg: CfgNode) -> list[SceneFiles]:
    """The shipped pairs; none if ``INPUT`` expects other images."""
    plain = cfg.INPUT.SAR.SCALE == "8bit" and not (cfg.INPUT.SAR.BANDS or cfg.INPUT.RGB.BANDS or cfg.INPUT.RGB.RANGE)
    pairs = [
        SceneFiles(
            rgb=(SCENE / folder / "00000.tif",),
            sar=(SCENE / "sar" / "00000.tif",),
            name=title,
            attribution=ATTRIBUTION,
        )
        for title, folder in PAIRS.items()
    ]
    return pairs if plain else []
