"""A stub for the model on a fast device: real shapes, but waiting instead of computing."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mm_ovseg.efficiency import Workload
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem, OpenVocabularySegmenter, segmenter_arguments, sizes_of
from mm_ovseg.modeling.modality import ANSWERS, RGB_ALONE, SAR_ALONE, answer_masks, replace_where
from mm_ovseg.modeling.scores import scores_of_size

TOKENS = 256  # one per UTF-8 byte


@META_ARCH_REGISTRY.register()
class StubSegmenter(OpenVocabularySegmenter):
    """Takes the place of an ``MMOVSeg`` in scenes: ``cfg.MODEL.META_ARCHITECTURE`` is all that differs.

    Its features have the shapes and types of the model's. A few channels of the coarsest are the means of the images'
    pixels, from which the scores come; everything else is noise, always the same.

    Args:
        sizes: shapes (1, ...) and types of the model's features of one window, by name.
        arguments: those of the base class.

    Attributes:
        seconds: the time that encoding takes per window, without using the processor.
    """

    needs_training = False

    @configurable
    def __init__(self, *, sizes: Mapping[str, tuple[torch.Size, torch.dtype]], **arguments: Any) -> None:
        super().__init__(**arguments)
        generator = torch.Generator().manual_seed(0)
        self._noise = {
            name: torch.randn(shape, generator=generator).to(dtype) for name, (shape, dtype) in sizes.items()
        }
        self.seconds = 0.0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Take the shapes from the model of the config, built in another process, whose memory does not count."""
        model = cfg.clone()
        model.MODEL.META_ARCHITECTURE = "MMOVSeg"
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            sizes = process.submit(_feature_sizes, model).result()
        tower = _BytesTower(sizes["clip"][0][1])
        return {"sizes": sizes, **segmenter_arguments(cfg, tower, _tokenize)}

    @property
    def needs_sar(self) -> bool:
        """True: it takes SAR where there is some."""
        return True

    def encode(self, batched_inputs: Sequence[dict]) -> list[EncodedItem]:
        """Features of each pair, after ``seconds`` for each."""
        end = time.perf_counter() + self.seconds * len(batched_inputs)
        encoded = []
        for item in batched_inputs:
            masks = answer_masks(item)
            features = {answer: self._features(item, answer) for answer in masks}
            encoded.append(EncodedItem(features, masks if len(masks) > 1 else {}, *sizes_of(item)))
        time.sleep(max(0.0, end - time.perf_counter()))
        return encoded

    def _features(self, item: dict, answer: str) -> dict[str, torch.Tensor]:
        clip = self._noise["clip"].clone()  # (1, C, h, w)
        for key, place, without in (("image", 0, SAR_ALONE), ("sar_image", 3, RGB_ALONE)):
            if answer != without:
                means = F.adaptive_avg_pool2d(item[key], clip.shape[-2:])  # (3, h, w)
                clip[0, place : place + 3] = means / 255
        return {**self._noise, "clip": clip}

    @torch.no_grad()
    def answer(self, encoded: Sequence[EncodedItem]) -> list[torch.Tensor]:
        """Scores (T, height, width) of each pair."""
        text = self.embed(self.vocabulary)[0, :, :6]  # (T, 6)
        results = []
        for item in encoded:
            scores = None
            for answer in (answer for answer in ANSWERS if answer in item.features):
                logits = torch.einsum("tc,bchw->bthw", text, item.features[answer]["clip"][:, :6].to(text.dtype))
                new = scores_of_size(logits, item.size)[0]
                scores = new if scores is None else replace_where(item.masks[answer], new, scores)
            results.append(scores)
        return results


class _BytesTower(nn.Module):
    """Features (N, C) of token ids (N, L): noise for each token, summed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.noise = nn.Embedding(TOKENS, channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        weights = torch.arange(1, tokens.shape[1] + 1)[:, None]  # the order of letters counts
        return (self.noise(tokens) * weights).sum(dim=1)


def _tokenize(texts: Sequence[str]) -> torch.Tensor:
    """Token ids (N, L) of N texts."""
    encoded = [torch.tensor(list(text.encode())) for text in texts]
    return nn.utils.rnn.pad_sequence(encoded, batch_first=True)


def _feature_sizes(cfg: CfgNode) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shapes and types, by name, of the features of a window."""
    model = Workload(cfg).build_model().eval()
    [item] = Workload(cfg).random_batch(cfg.INPUT.CROP.SIZE[0])
    [features] = model.encode([item])[0].features.values()
    return {name: (tensor.shape, tensor.dtype) for name, tensor in features.items()}
