"""The shipped example of the page: a small model and a pair."""

from pathlib import Path

from detectron2.config import CfgNode

from mm_ovseg.shipped import shipped_path

__all__ = ["CONFIG", "SCENE", "shipped_pairs"]

CONFIG = shipped_path("configs/quickstart/demo.yaml")
SCENE = shipped_path("demo/assets/pair/val")
PAIRS = {"Under clouds": "rgb_clouds", "Clear sky": "rgb"}


def shipped_pairs(cfg: CfgNode) -> dict[str, tuple[Path, Path]]:
    """The shipped pair by title, as (RGB, SAR); empty if ``INPUT`` expects other images."""
    plain = cfg.INPUT.SAR.SCALE == "8bit" and not (cfg.INPUT.SAR.BANDS or cfg.INPUT.RGB.BANDS or cfg.INPUT.RGB.RANGE)
    pairs = {title: (SCENE / folder / "00000.tif", SCENE / "sar" / "00000.tif") for title, folder in PAIRS.items()}
    return pairs if plain else {}
