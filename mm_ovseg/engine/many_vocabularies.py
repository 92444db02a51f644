"""Asking a model for several vocabularies at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mm_ovseg.engine.training_step import unwrap

__all__ = ["ManyVocabularies"]


class ManyVocabularies(nn.Module):
    """A model that segments, asked for other names too, so that each pair is read once.

    Args:
        model: in evaluation mode it returns ``sem_seg``, scores (T, H, W), for each item; it may be in a wrapper of
            several processes.
        vocabularies: key in the output -> the names to ask for, one vocabulary after another.
    """

    def __init__(self, model: nn.Module, vocabularies: Mapping[str, Sequence[Sequence[str]]]) -> None:
        super().__init__()
        self.model = model
        self._vocabularies = vocabularies
        self.train(model.training)

    def forward(self, batched_inputs: Sequence[dict]) -> list[dict[str, torch.Tensor]]:
        """The model's outputs, and under each key the scores (all names of its vocabularies, H, W)."""
        outputs = self.model(batched_inputs)
        unwrapped = unwrap(self.model)
        names = unwrapped.vocabulary
        try:
            for key, vocabularies in self._vocabularies.items():
                answers = [self._ask(batched_inputs, vocabulary) for vocabulary in vocabularies]
                for output, scores in zip(outputs, zip(*answers, strict=True), strict=True):
                    output[key] = torch.cat(scores)
        finally:
            unwrapped.set_vocabulary(names)
        return outputs

    def _ask(self, batched_inputs: Sequence[dict], names: Sequence[str]) -> list[torch.Tensor]:
        unwrap(self.model).set_vocabulary(names)
        return [output["sem_seg"] for output in self.model(batched_inputs)]
