"""Captions for image crops as on the web: the visible classes, largest first, in varying words."""

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["CAPTION_TEMPLATES", "CLASS_SPELLINGS", "write_caption"]

# The first spelling is the class's own name.
CLASS_SPELLINGS: Mapping[str, Sequence[str]] = {
    "city": ("city", "town", "buildings", "houses"),
    "road": ("road", "street", "highway"),
    "forest": ("forest", "woods", "trees"),
    "water": ("water", "river", "lake"),
    "farmland": ("farmland", "fields", "crops"),
}
CAPTION_TEMPLATES = ("{}", "a photo of {}", "an aerial image of {}", "A photo of a {} in the scene")


def write_caption(
    shares: Sequence[float], classes: Sequence[str], generator: np.random.Generator, *, min_share: float = 0.12
) -> tuple[tuple[str, ...], str]:
    """Name the classes of a crop.

    Args:
        shares: share of the crop's pixels that each class has, 0..1.
        classes: their names; spellings are looked up in ``CLASS_SPELLINGS``, by default the name itself.
        generator: draws the words.
        min_share: smaller classes are omitted, except for the largest.

    Returns:
        The class names, largest first, and the caption.
    """
    shares = np.asarray(shares)
    order = np.argsort(-shares, kind="stable")
    named = tuple(classes[index] for rank, index in enumerate(order) if rank == 0 or shares[index] >= min_share)
    words = [str(generator.choice(CLASS_SPELLINGS.get(name, (name,)))) for name in named]
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return named, str(generator.choice(CAPTION_TEMPLATES)).format(listed)
