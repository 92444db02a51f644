"""The classes of the dense labels."""

__all__ = ["CLASSES", "UNLABELLED"]

CLASSES = ("water", "forest", "farmland", "city", "industrial area", "grassland", "bare ground")
UNLABELLED = 255
