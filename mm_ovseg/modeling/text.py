"""Class names to text embeddings."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.precision import at_least_float32
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["TextEmbedder"]


class TextEmbedder(nn.Module):
    """CLIP's text tower with prompt templates, synonyms and a cache (design §4, "Text").

    The cache answers for the same names and weights only: it goes by PyTorch's version counters, which every optimiser
    and ``load_state_dict`` advance, and is emptied whenever the mode switches. Who writes to ``parameter.data`` in
    evaluation mode, past the counters, calls ``eval()`` after.

    Args:
        tower: token ids (N, L) -> features (N, C).
        tokenizer: list of N texts -> token ids (N, L).
        templates: prompts with one ``{}`` for the name; each gives one channel of the cost volume.
        synonyms: ``"average"`` the embeddings of a class's synonyms, or take the ``"first"``.
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
        if synonyms not in ("average", "first"):
            raise ConfigError(f"MODEL.TEXT.SYNONYMS is '{synonyms}'; choose 'average' or 'first'.")
        self.tower = tower
        self.tokenizer = tokenizer
        self.templates = tuple(templates)
        self.synonyms = synonyms
        self._cache_key: tuple | None = None
        self._cache: torch.Tensor | None = None

    def train(self, mode: bool = True) -> "TextEmbedder":
        """Switch the mode, and forget what was cached."""
        self._cache_key = self._cache = None
        return super().train(mode)

    def forward(self, names: Sequence[str]) -> torch.Tensor:
        """Embed a vocabulary.

        In training, or where gradients are recorded, the embeddings are computed; else they are answered from the
        cache if names and weights are those that it was made from.

        Args:
            names: T class names; "water, river" holds two synonyms.

        Returns:
            (P, T, C), L2-normalised, for P templates.
        """
        if self.training or torch.is_grad_enabled():
            return self.embed(names)
        key = (tuple(names), *((p.data_ptr(), p._version, p.dtype) for p in self.tower.parameters()))
        if self._cache is None or key != self._cache_key:
            with torch.autocast(self.device.type, enabled=False):  # once a vocabulary: full precision costs nothing
                self._cache = self.embed(names)
            self._cache_key = key
        return self._cache

    def embed(self, names: Sequence[str]) -> torch.Tensor:
        """The embeddings (P, T, C) of T names, computed."""
        synonyms = [split_synonyms(name) for name in names]
        if self.synonyms == "first":
            synonyms = [group[:1] for group in synonyms]
        texts = [
            template.replace("{}", synonym) for template in self.templates for group in synonyms for synonym in group
        ]
        tokens = self.tokenizer(texts).to(self.device)
        embeddings = F.normalize(at_least_float32(self.tower(tokens)), dim=-1)  # (P * synonyms, C)
        embeddings = embeddings.unflatten(0, (len(self.templates), -1))  # (P, synonyms, C)
        counts = [len(group) for group in synonyms]
        if max(counts) > 1:
            groups = embeddings.split(counts, dim=1)
            embeddings = F.normalize(torch.stack([group.mean(dim=1) for group in groups], dim=1), dim=-1)
        return embeddings  # (P, T, C)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.tower.parameters()).device
