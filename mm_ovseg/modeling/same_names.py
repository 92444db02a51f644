"""Which names mean the same class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from mm_ovseg.modeling.text import TextEmbedder
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["find_same_names"]

SAME_MEANING = 0.95  # cosine of two embeddings, such as those of "forest" and "woods", above which they mean one class


@torch.no_grad()
def find_same_names(text: TextEmbedder, names: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """The names that mean one of some classes: they share a synonym, or their embeddings nearly agree.

    Args:
        text: embeds names.
        names: such as those that a user asks for.
        classes: such as those that training saw; may be empty.

    Returns:
        Name -> class.
    """
    if not classes:
        return {}
    embeddings = F.normalize(text.embed([*names, *classes]).mean(dim=0), dim=1)  # (N + S, C)
    cosines = embeddings[: len(names)] @ embeddings[len(names) :].T  # (N, S)
    found = {}
    for name, row in zip(names, cosines.tolist(), strict=True):
        sharing = [other for other in classes if not _synonyms(name).isdisjoint(_synonyms(other))]
        if sharing or max(row) > SAME_MEANING:
            found[name] = sharing[0] if sharing else classes[row.index(max(row))]
    return found


def _synonyms(name: str) -> set[str]:
    return {synonym.casefold() for synonym in split_synonyms(name)}
