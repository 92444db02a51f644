"""Which names mean the same class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from mm_ovseg.modeling.text import TextEmbedder
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["find_same_names"]

SAME_MEANING = 0.95  # cosine of two embeddings, such as those of "forest" and "woods", above which they mean one class


@torch.no_grad()
def find_same_names(text: TextEmbedder, names: Sequence[str], classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names that mean some of some classes: they share a synonym, or their embeddings nearly agree.

    Args:
        text: embeds names.
        names: such as those that a user asks for; with several synonyms, one may mean several classes.
        classes: such as those that training saw; may be empty.

    Returns:
        Name -> its classes, at least one, in the order of ``classes``.
    """
    if not classes:
        return {}
    words = {name: tuple(dict.fromkeys([name, *split_synonyms(name)])) for name in names}
    known = {word: _sharing(word, classes) for of_name in words.values() for word in of_name}
    embeddings = F.normalize(text.embed([*known, *classes]).mean(dim=0), dim=1)  # (W + S, C)
    cosines, nearest = (embeddings[: len(known)] @ embeddings[len(known) :].T).max(dim=1)  # (W,)
    for word, cosine, index in zip(known, cosines.tolist(), nearest.tolist(), strict=True):
        if not known[word] and cosine > SAME_MEANING:
            known[word] = {classes[index]}
    meant = {name: set().union(*(known[word] for word in of_name)) for name, of_name in words.items()}
    return {name: tuple(other for other in classes if other in found) for name, found in meant.items() if found}


def _sharing(name: str, classes: Sequence[str]) -> set[str]:
    return {other for other in classes if not _synonyms(name).isdisjoint(_synonyms(other))}


def _synonyms(name: str) -> set[str]:
    return {synonym.casefold() for synonym in split_synonyms(name)}
