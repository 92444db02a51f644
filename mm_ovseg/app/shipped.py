"""What the checkout brings for a page that works at once: a small model, and a pair to try it on."""

from pathlib import Path

from detectron2.config import CfgNode

from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError

__all__ = ["load_shipped_config", "shipped_pairs"]

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "quickstart" / "demo.yaml"
SCENE = ROOT / "demo" / "assets" / "pair" / "val"
PAIRS = {"Under clouds": "rgb_clouds", "Clear sky": "rgb"}


def load_shipped_config(overrides: list[str]) -> CfgNode:
    """The config of the small model that comes with the source, whatever the working folder.

    Args:
        overrides: key, value, key, value, ...

    Raises:
        ConfigError: the package is installed without its checkout, or as of :func:`~mm_ovseg.engine.load_config`.
    """
    if not CONFIG.is_file():
        raise ConfigError(
            "The small model lies in the project's checkout, which is not here; give --config-file and --weights, or "
            "clone the project and start the page there."
        )
    return load_config(CONFIG, overrides, needs_datasets=False)


def shipped_pairs(cfg: CfgNode) -> dict[str, tuple[Path, Path]]:
    """The shipped pair by title, as (RGB, SAR); none where it is absent, or ``INPUT`` reads other images than these."""
    plain = cfg.INPUT.SAR.SCALE == "8bit" and not (cfg.INPUT.SAR.BANDS or cfg.INPUT.RGB.BANDS or cfg.INPUT.RGB.RANGE)
    pairs = {title: (SCENE / folder / "00000.tif", SCENE / "sar" / "00000.tif") for title, folder in PAIRS.items()}
    return pairs if plain and all(path.is_file() for pair in pairs.values() for path in pair) else {}
