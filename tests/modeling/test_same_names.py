"""Which names mean the same class."""

import torch

from mm_ovseg.modeling.same_names import find_same_names

EMBEDDINGS = {
    "forest": (1.0, 0.0), "woods": (0.99, 0.14), "city": (0.0, 1.0), "glacier": (0.7, 0.7), "City, town": (0.6, -0.8),
    "City": (0.0, 1.0), "town": (0.7, 0.7), "tundra, woods, city": (0.7, 0.7), "tundra": (-1.0, 0.0),
}  # fmt: skip


class Text:
    """Embeds the names above."""

    def embed(self, names):
        return torch.tensor([[EMBEDDINGS[name] for name in names]])


def test_names_with_a_synonym_or_an_embedding_in_common():
    names = ["woods", "glacier", "City, town"]
    assert find_same_names(Text(), names, ["forest", "city"]) == {"woods": ("forest",), "City, town": ("city",)}
    assert find_same_names(Text(), ["tundra, woods, city"], ["city", "forest"]) == {
        "tundra, woods, city": ("city", "forest")
    }
    assert find_same_names(Text(), names, []) == {}
