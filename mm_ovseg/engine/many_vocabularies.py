"""Asking a model for several vocabularies at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mm_ovseg.engine.training_step import unwrap

__all__ = ["ManyVocabularies"]


class ManyVocabularies(nn.Module):
    """A model that segments, asked for other names too, so that each pair is read and encoded once.

    Args:
        model: an :class:`~mm_ovseg.modeling.meta_arch.segmenter.OpenVocabularySegmenter` in evaluation mode; it may be
            in a wrapper of several processes.
        vocabularies: key in the output -> the names to ask for, one vocabulary after another.
    """

    def __init__(self, model: nn.Module, vocabularies: Mapping[str, Sequence[Sequence[str]]]) -> None:
        super().__init__()
        self.model = model
        self._vocabularies = vocabularies
        self.train(model.training)

    def forward(self, batched_inputs: Sequence[dict]) -> list[dict[str, torch.Tensor]]:
        """The model's outputs, and under each key the scores (all names of its vocabularies, H, W)."""
        if not batched_inputs:
            return []
        model = unwrap(self.model)
        names, encoded = model.vocabulary, model.encode(batched_inputs)
        outputs = [{"sem_seg": scores} for scores in model.answer(encoded)]
        try:
            for key, vocabularies in self._vocabularies.items():
                answers = []
                for vocabulary in vocabularies:
                    model.set_vocabulary(vocabulary)
                    answers.append(model.answer(encoded))
                for output, scores in zip(outputs, zip(*answers, strict=True), strict=True):
                    output[key] = torch.cat(scores)
        finally:
            model.set_vocabulary(names)
        return outputs
