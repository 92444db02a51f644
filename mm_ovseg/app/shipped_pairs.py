"""What comes with the package for a page that works at once: a small model, and a pair to try it on."""

from pathlib import Path

from detectron2.config import CfgNode

from mm_ovseg.shipped import shipped_path

__all__ = ["CONFIG", "SCENE", "shipped_pairs"]

CONFIG = shipped_path("configs/quickstart/demo.yaml")
SCENE = shipped_path("demo/assets/pair/val")
PAIRS = {"Under clouds": "rgb_clouds", "Clear sky": "rgb"}


def shipped_pairs(cfg: CfgNode) -> dict[str, tuple[Path, Path]]:
    """The shipped pair by title, as (RGB, SAR); none where ``INPUT`` reads other images than these."""
    plain = cfg.INPUT.SAR.SCALE == "8bit" and not (cfg.INPUT.SAR.BANDS or cfg.INPUT.RGB.BANDS or cfg.INPUT.RGB.RANGE)
    pairs = {title: (SCENE / folder / "00000.tif", SCENE / "sar" / "00000.tif") for title, folder in PAIRS.items()}
    return pairs if plain else {}
