"""From class names to text embeddings."""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from mm_ovseg.choices import check_choice
from mm_ovseg.errors import MAX_REASON, ConfigError, VocabularyError
from mm_ovseg.modeling.precision import at_least_float32
from mm_ovseg.modeling.weight_versions import weight_versions
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["TextEmbedder"]

MAX_WORD = 30  # characters shown in a message
TEXTS = 256  # encoded at a time, to save memory: 80 templates of 100 names are 8000
MAX_CACHE = 64 * 2**20  # bytes, more for one vocabulary alone: 254 names with 80 templates take 42 MB
EQUAL = 1e-6  # components of unit vectors; different names differ by 1e-2, one name in different batches by rounding


class TextEmbedder(nn.Module):
    """CLIP's text tower with prompt templates, synonyms and a cache.

    The cache holds the vocabularies that were asked for last, as a whole: the embedding of one name depends, by
    rounding, on the names that are encoded with it. It is only used for the same weights, by
    :func:`~mm_ovseg.modeling.weight_versions.weight_versions`, and is cleared whenever the mode changes: after writing
    to ``parameter.data``, call ``eval()``. Embeddings of weights without version counters are never cached.

    Args:
        tower: token ids (N, L) -> features (N, C).
        tokenizer: list of N texts -> token ids (N, L). One with ``context_length``, as those of open_clip, cuts longer
            texts, and takes another length as its argument ``context_length``.
        templates: prompts with one ``{}`` for the name; each gives one channel of the cost volume.
        synonyms: ``"average"`` the embeddings of a class's synonyms, or use the ``"first"``.
    """

    def __init__(
        self,
        *,
        tower: nn.Module,
        tokenizer: Callable[[list[str]], torch.Tensor],
        templates: Sequence[str],
        synonyms: str,
    ) -> None:
        super().__init__()
        if not templates or not all(template.count("{}") == 1 for template in templates):
            raise ConfigError(f"MODEL.TEXT.TEMPLATES is {list(templates)}; each needs exactly one {{}} for the name.")
        check_choice("MODEL.TEXT.SYNONYMS", synonyms, ("average", "first"))
        self.tower = tower
        self.tokenizer = tokenizer
        self.templates = tuple(templates)
        self.synonyms = synonyms
        self._cache: dict[tuple[str, ...], torch.Tensor] = {}  # the vocabulary that was asked for last comes last
        self._cache_versions: tuple | None = None  # of the weights
        self._short_enough: tuple[str, ...] | None = None  # the names checked last

    def train(self, mode: bool = True) -> "TextEmbedder":
        """Switch the mode and clear the cache."""
        self._cache.clear()
        return super().train(mode)

    def forward(self, names: Sequence[str]) -> torch.Tensor:
        """Embed a vocabulary.

        In training, or if gradients are recorded, the embeddings are computed; otherwise they come from the cache if
        the weights are unchanged.

        Args:
            names: T class names; "water, river" is one class with two synonyms.

        Returns:
            (P, T, C), L2-normalised, for P templates.

        Raises:
            VocabularyError: see :meth:`check_length`; or, in evaluation mode, two names have equal embeddings.
        """
        self.check_length(names)
        if self.training:
            return self.embed(names)
        if torch.is_grad_enabled():
            embeddings = self.embed(names)
            _check_distinct(embeddings, names)
            return embeddings
        names, versions = tuple(names), weight_versions(self.tower)
        if versions is None or versions != self._cache_versions:
            self._cache.clear()
            self._cache_versions = versions
        embeddings = self._cache.pop(names, None)
        if embeddings is None:
            with torch.autocast(self.device.type, enabled=False):  # once per vocabulary: full precision costs nothing
                embeddings = self.embed(names)
            _check_distinct(embeddings, names)
        self._cache[names] = embeddings
        while len(self._cache) > 1 and sum(cached.nbytes for cached in self._cache.values()) > MAX_CACHE:
            del self._cache[next(iter(self._cache))]
        return embeddings

    def check_length(self, names: Sequence[str]) -> None:
        """Check that the tokenizer truncates no name, in any template.

        Raises:
            VocabularyError: it truncates some; the message says from which word on.
        """
        if self._short_enough == tuple(names) or tuple(names) in self._cache:
            return
        if complaints := [complaint for name in names if (complaint := self._cut(name))]:
            raise VocabularyError(" ".join(complaints))
        self._short_enough = tuple(names)

    def _cut(self, name: str) -> str | None:
        """A sentence about the part of a name that is not read; None if all of it is."""
        for template in self.templates:
            for synonym in self.synonyms_of(name):
                if not self._is_cut(text := template.replace("{}", synonym)):
                    continue
                words = text.split(" ")
                first = bisect(range(len(words) - 1), False, key=lambda k: self._is_cut(" ".join(words[: k + 1])))
                word, number = (
                    _shortened(words[first], MAX_WORD),
                    first + 1 - template[: template.index("{}")].count(" "),
                )
                return (
                    f"The class name '{_shortened(name)}' is longer than the text encoder reads "
                    f"({self.tokenizer.context_length} tokens, including the template '{template}'): "
                    + (
                        f"word {number}, '{word}', and what follows"
                        if number <= len(synonym.split(" "))
                        else f"the template from '{word}' on"
                    )
                    + " would not be read; shorten the name."
                )
        return None

    def _is_cut(self, text: str) -> bool:
        """Whether a longer context would contain more tokens than padding."""
        length = getattr(self.tokenizer, "context_length", None)
        if length is None:
            return False
        (read,) = self.tokenizer([text]).tolist()
        (whole,) = self.tokenizer([text], context_length=length + 8 + 2 * len(text.encode())).tolist()
        return len(Counter(whole) - Counter(read)) > 1

    def synonyms_of(self, name: str) -> list[str]:
        """The synonyms of a class name that are embedded."""
        return split_synonyms(name)[: 1 if self.synonyms == "first" else None]

    def embed(self, names: Sequence[str]) -> torch.Tensor:
        """Compute the embeddings (P, T, C) of T names."""
        synonyms = [self.synonyms_of(name) for name in names]
        texts = [
            template.replace("{}", synonym) for template in self.templates for group in synonyms for synonym in group
        ]
        features = torch.cat([self._encode(tokens) for tokens in self.tokenizer(texts).split(TEXTS)])
        embeddings = F.normalize(at_least_float32(features), dim=-1)  # (P * synonyms, C)
        embeddings = embeddings.unflatten(0, (len(self.templates), -1))  # (P, synonyms, C)
        counts = [len(group) for group in synonyms]
        if max(counts) > 1:
            groups = embeddings.split(counts, dim=1)
            embeddings = F.normalize(torch.stack([group.mean(dim=1) for group in groups], dim=1), dim=-1)
        return embeddings  # (P, T, C)

    def _encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """The tower's features (N, C) of token ids (N, L).

        CLIP's tower, which is causal and reads the feature at the end of the text, does not see the padding behind it,
        most of a prompt; so it is left out.
        """
        mask, pooling, cls_token = (getattr(self.tower, name, None) for name in ("attn_mask", "pool_type", "cls_emb"))
        if mask is None or pooling != "argmax" or cls_token is not None:  # another tower
            return self.tower(tokens.to(self.device))
        length = int(tokens.argmax(dim=1).max()) + 1
        mask = {"attn_mask": mask[:length, :length]}  # open_clip does not cut it itself
        return functional_call(self.tower, mask, (tokens[:, :length].to(self.device),))

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return next(self.tower.parameters()).device


def _check_distinct(embeddings: torch.Tensor, names: Sequence[str]) -> None:
    """Check that no two of T names have equal embeddings (P, T, C): the later one would never get a pixel.

    Raises:
        VocabularyError: two names have.
    """
    flat = embeddings.detach().float().cpu().transpose(0, 1).flatten(1)  # (T, P * C)
    equal = (torch.cdist(flat, flat, p=float("inf")) <= EQUAL).triu(1).nonzero().tolist()
    if equal:
        pairs = " and ".join(f"'{_shortened(names[a])}' = '{_shortened(names[b])}'" for a, b in equal)
        raise VocabularyError(
            f"Class names that the text encoder cannot distinguish, since their embeddings are equal: {pairs}; rename "
            "one of each pair, or make them one class."
        )


def _shortened(text: str, longest: int = MAX_REASON) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."
