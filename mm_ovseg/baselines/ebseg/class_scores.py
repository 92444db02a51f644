"""From a query's three embeddings to its class scores."""

from collections.abc import Sequence

import torch

from mm_ovseg.errors import ConfigError
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["Exponents", "balanced_class_scores", "share_a_name"]

EPSILON = 1e-8


class Exponents:
    """The weights of the three class distributions (EBSeg, sec. 3.4; baselines.md, 2.9).

    Args:
        seen: alpha, of CLIP's map pooled over the mask, for classes whose names occur in training.
        unseen: beta, the same for other classes.
        recognition: gamma, of CLIP's recognition head. What is left to 1 is the decoder's own.

    Raises:
        ConfigError: one is negative, or the sum for seen or unseen classes is above 1.
    """

    def __init__(self, *, seen: float, unseen: float, recognition: float) -> None:
        if min(seen, unseen, recognition) < 0 or max(seen, unseen) + recognition > 1 + 1e-6:
            raise ConfigError(
                f"MODEL.EBSEG.ALPHA, BETA and GAMMA are {seen}, {unseen} and {recognition}; give numbers from 0 to 1, "
                "whose sums ALPHA + GAMMA and BETA + GAMMA are at most 1."
            )
        self.pooled = {True: seen, False: unseen}
        self.recognition = recognition

    def of_classes(self, seen: Sequence[bool]) -> list[tuple[float, float, float]]:
        """The exponents of decoder, pooled map and recognition head for each class."""
        return [
            (max(0.0, 1 - self.pooled[is_seen] - self.recognition), self.pooled[is_seen], self.recognition)
            for is_seen in seen
        ]


def share_a_name(names: Sequence[str], others: Sequence[str]) -> list[bool]:
    """For each of T classes, whether one of its synonyms is a synonym of another list's class, letter by letter."""
    known = {synonym for other in others for synonym in split_synonyms(other)}
    return [not known.isdisjoint(split_synonyms(name)) for name in names]


def balanced_class_scores(
    decoder: torch.Tensor, pooled: torch.Tensor, recognition: torch.Tensor, exponents: torch.Tensor
) -> torch.Tensor:
    """Combine three classifications of queries, with "no object" from the decoder's alone.

    Args:
        decoder: logits (B, Q, T + 1) of the class embeddings, "no object" last.
        pooled, recognition: logits (B, Q, T + 1) of CLIP's pooled map and recognition head, whose last is not used.
        exponents: (T, 3), in this order; see :class:`Exponents`.

    Returns:
        log(C + 1e-8), (B, Q, T + 1), for distributions C over T classes and "no object".
    """
    logits = torch.stack([decoder, pooled, recognition], dim=-1)[..., :-1, :]  # (B, Q, T, 3)
    # As logarithms: a probability that is rounded to 0 has no powers.
    product = (logits.log_softmax(dim=-2) * exponents).sum(dim=-1).exp()  # (B, Q, T)
    no_object = decoder.softmax(dim=-1)[..., -1:]
    balanced = (product + EPSILON).log().softmax(dim=-1) * (1 - no_object)
    return (torch.cat([balanced, no_object], dim=-1) + EPSILON).log()
