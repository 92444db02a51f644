"""SegEarth-OV: open-vocabulary segmentation of remote sensing images without training (arXiv 2410.01768)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.logger import log_first_n
from open_clip.transformer import VisionTransformer

from mm_ovseg.baselines.segearth.image_encoder import encode_tokens
from mm_ovseg.baselines.segearth.upsampler import MIN_GRID, SimFeatUp, load_upsampler
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone.clip import build_clip
from mm_ovseg.modeling.meta_arch.segmenter import (
    EncodedItem,
    OpenVocabularySegmenter,
    segmenter_arguments,
    sizes_of,
)
from mm_ovseg.modeling.modality import RGB_ALONE
from mm_ovseg.modeling.precision import at_least_float32, inference_precision
from mm_ovseg.modeling.windows import window_starts
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["SegEarthOV"]


class Window(NamedTuple):
    """A window of an image of the batch: its number among those of the image, and its place there."""

    image: int
    number: int
    rows: slice
    columns: slice


@META_ARCH_REGISTRY.register()
class SegEarthOV(OpenVocabularySegmenter):
    """CLIP's patch features, upsampled under the guidance of the image, and compared with every synonym of every class.

    Nothing of it is trained here. Without weights of the upsampler, features are resized bilinearly.

    Args:
        visual: CLIP's image tower.
        upsampler: of its features, to a feature for every pixel.
        window: side of a window in pixels; 0: each image as a whole.
        stride: between windows, in pixels.
        windows_at_once: number of windows in a batch.
        bias_weight: of the similarity of the whole window, which is added to that of each pixel; negative, since it is
            a bias towards what the window shows most.
        scale: factor of similarities before the softmax.
        threshold: of the best score, 0..1; below it a pixel is background.
        background: name of the background class, among the synonyms of a class; "" for none.
        pixel_mean, pixel_std: three values on the 0..255 scale.
        arguments: those of :class:`~mm_ovseg.modeling.meta_arch.segmenter.OpenVocabularySegmenter`.

    Raises:
        ConfigError: a number is out of its range, or CLIP's patches cannot be upsampled.
    """

    needs_training = False
    relative_scores = True

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        visual: VisionTransformer,
        upsampler: SimFeatUp,
        window: int,
        stride: int,
        windows_at_once: int,
        bias_weight: float,
        scale: float,
        threshold: float,
        background: str,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if window < 0 or (window and not 0 < stride <= window):
            raise ConfigError(
                f"MODEL.SEGEARTH.STRIDE is {stride} for windows of MODEL.CLIP.IMAGE_SIZE {window} pixels; choose one "
                "from 1 to the window's side, or an image size of 0 for no windows."
            )
        if windows_at_once < 1:
            raise ConfigError(f"MODEL.SEGEARTH.WINDOWS_AT_ONCE is {windows_at_once}; it must be at least 1.")
        if not 0 <= threshold <= 1:
            raise ConfigError(f"MODEL.SEGEARTH.THRESHOLD is {threshold}; choose one from 0 to 1.")
        self.visual = visual
        self.upsampler = upsampler
        self.window = window
        self.stride = stride
        self.windows_at_once = windows_at_once
        self.bias_weight = bias_weight
        self.scale = scale
        self.threshold = threshold
        self.background = background
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build CLIP and the upsampler; class names come from the metadata of DATASETS.TRAIN and TEST."""
        if cfg.MODEL.COMPILE:
            raise ConfigError("MODEL.COMPILE is on, but SegEarth-OV is not compiled; set it to False.")
        clip, own = cfg.MODEL.CLIP, cfg.MODEL.SEGEARTH
        visual, tower, tokenizer = build_clip(clip.NAME, clip.PRETRAINED, clip.ARGUMENTS)
        steps = visual.patch_size[0].bit_length() - 1
        if 2**steps != visual.patch_size[0]:
            raise ConfigError(
                f"MODEL.CLIP.NAME is '{clip.NAME}', whose patches have {visual.patch_size[0]} pixels a side; "
                "SegEarth-OV doubles features until there is one for every pixel: choose a model with a power of two."
            )
        upsampler = SimFeatUp(visual.output_dim, steps)
        if own.UPSAMPLER_WEIGHTS:
            load_upsampler(upsampler, own.UPSAMPLER_WEIGHTS)
        return {
            "visual": visual,
            "upsampler": upsampler,
            **segmenter_arguments(cfg, tower, tokenizer),
            "window": clip.IMAGE_SIZE,
            "stride": own.STRIDE,
            "windows_at_once": own.WINDOWS_AT_ONCE,
            "bias_weight": own.LAMBDA,
            "scale": own.SCALE,
            "threshold": own.THRESHOLD,
            "background": own.BACKGROUND,
            "pixel_mean": clip.PIXEL_MEAN,
            "pixel_std": clip.PIXEL_STD,
        }

    def losses(self, batched_inputs: Sequence[dict]) -> dict[str, torch.Tensor]:
        """Always an error: nothing here is trained.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("SegEarth-OV needs no training; call eval() before the model.")

    @torch.no_grad()
    def encode(self, batched_inputs: Sequence[dict]) -> list[EncodedItem]:
        """Each normalised image, and CLIP's tokens of its N windows: ``whole`` (1, N, C), ``patches`` (1, N, h, w, C).

        The features of each pixel, which take hundreds of times the memory, are computed by :meth:`answer`.
        """
        images = [
            (image.to(self.pixel_mean) - self.pixel_mean) / self.pixel_std for image in self.images(batched_inputs)
        ]
        tokens: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in images]
        with inference_precision(self.inference_dtype, self.device):
            for windows in self._batches([tuple(image.shape[1:]) for image in images]):
                padded, _ = self._pad(_crops(images, windows))
                for window, *of_window in zip(windows, *encode_tokens(self.visual, padded), strict=True):
                    tokens[window.image].append(of_window)
        encoded = []
        for item, image, of_image in zip(batched_inputs, images, tokens, strict=True):
            whole, patches = (torch.stack(kind)[None] for kind in zip(*of_image, strict=True))
            features = {"image": image[None], "whole": whole, "patches": patches}
            encoded.append(EncodedItem({RGB_ALONE: features}, {}, *sizes_of(item)))
        return encoded

    @torch.no_grad()
    def answer(self, encoded: Sequence[EncodedItem]) -> list[torch.Tensor]:
        """Scores (T, height, width) of each image, 0..1: of a class, the highest one of its synonyms.

        Scores of all synonyms sum to 1. With a threshold, pixels below it keep only the score of the background.
        """
        if not self.upsampler.has_weights:
            log_first_n(
                logging.WARNING,
                "SegEarth-OV's upsampler has no weights (MODEL.SEGEARTH.UPSAMPLER_WEIGHTS), so features are resized "
                "bilinearly: borders are less sharp than published.",
                key="message",
            )
        background = self._background()
        with inference_precision(self.inference_dtype, self.device):
            queries, counts = self.embed_queries(self.vocabulary)
            similarities = self.compare_images([item.features[RGB_ALONE] for item in encoded], queries)
        scores = []
        for item, similarity in zip(encoded, similarities, strict=True):
            similarity = F.interpolate(similarity[None], item.size, mode="bilinear", align_corners=False)[0]
            scores.append(class_scores(self.scale * similarity, counts, self.threshold, background))
        return scores

    def embed_queries(self, names: Sequence[str]) -> tuple[torch.Tensor, list[int]]:
        """Embed every synonym of T classes by itself, averaged over the templates; one that a class repeats, once.

        Returns:
            (Q, C), L2-normalised, in the order of the classes; and the number of queries of each class.

        Raises:
            VocabularyError: no name is set, or two synonyms have equal embeddings.
        """
        groups = [
            list({synonym.casefold(): synonym for synonym in self.text.synonyms_of(name)}.values()) for name in names
        ]
        embeddings = self.embed([synonym for group in groups for synonym in group])  # (P, Q, C)
        return F.normalize(embeddings.mean(dim=0), dim=-1), [len(group) for group in groups]

    def compare_images(
        self, features: Sequence[Mapping[str, torch.Tensor]], queries: torch.Tensor
    ) -> list[torch.Tensor]:
        """Similarities (Q, H, W) of encoded images, see :meth:`encode`, and queries (Q, C), averaged over windows."""
        images = [of_image["image"][0] for of_image in features]
        sums = [image.new_zeros(len(queries), *image.shape[1:]) for image in images]
        counts = [image.new_zeros(image.shape[1:]) for image in images]
        for windows in self._batches([tuple(image.shape[1:]) for image in images]):
            whole, patches = (
                torch.stack([features[window.image][kind][0, window.number] for window in windows])
                for kind in ("whole", "patches")
            )
            similarities = self.compare_windows(_crops(images, windows), whole, patches, queries)
            for (image, _, rows, columns), similarity in zip(windows, similarities, strict=True):
                sums[image][:, rows, columns] += similarity
                counts[image][rows, columns] += 1
        return [total / count for total, count in zip(sums, counts, strict=True)]

    def compare_windows(
        self, images: torch.Tensor, whole: torch.Tensor, patches: torch.Tensor, queries: torch.Tensor
    ) -> torch.Tensor:
        """Cosine similarity (B, Q, H, W) of windows and queries, with that of the whole window added.

        Args:
            images: the windows (B, 3, H, W).
            whole, patches: their features (B, C) and (B, h, w, C), from windows that are padded to whole patches.
            queries: (Q, C).
        """
        height, width = images.shape[2:]
        padded, (top, left) = self._pad(images)
        features = self.upsample(patches, padded)[:, top : top + height, left : left + width]  # (B, H, W, C)
        bias = self.bias_weight * cosines(whole, queries)  # (B, Q)
        return (cosines(features, queries) + bias[:, None, None]).permute(0, 3, 1, 2)

    def upsample(self, features: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Features (B, h, w, C) of images (B, 3, H, W) as (B, H, W, C)."""
        if self.upsampler.has_weights:
            return self.upsampler(features, images)
        maps = features.permute(0, 3, 1, 2)
        return F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False).permute(0, 2, 3, 1)

    def _pad(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """Pad windows (B, 3, H, W) with zeros, half before and half after them, and say how much is above and left.

        They become whole patches, and enough of them for the upsampler.
        """
        patch, padding = self.visual.patch_size[0], []
        for side in images.shape[2:]:
            missing = max(-(-side // patch), MIN_GRID) * patch - side
            padding.append((missing // 2, missing - missing // 2))
        (top, below), (left, right) = padding
        return F.pad(images, (left, right, top, below)), (top, left)

    def _batches(self, sizes: Sequence[tuple[int, int]]) -> Iterator[list[Window]]:
        """The windows of images of these sizes, those of equal size together, at most ``windows_at_once``."""
        by_size: dict[tuple[int, int], list[Window]] = {}
        for image, size in enumerate(sizes):
            sides = [min(self.window or side, side) for side in size]
            starts = [
                window_starts(length, side, side - self.stride if self.window else 0)
                for length, side in zip(size, sides, strict=True)
            ]
            by_size.setdefault(tuple(sides), []).extend(
                Window(image, number, slice(row, row + sides[0]), slice(column, column + sides[1]))
                for number, (row, column) in enumerate(product(*starts))
            )
        for windows in by_size.values():
            for first in range(0, len(windows), self.windows_at_once):
                yield windows[first : first + self.windows_at_once]

    def _background(self) -> int | None:
        """Index of the background class; None if the threshold is not applied."""
        if not self.threshold:
            return None
        wanted = self.background.strip().casefold()
        for index, name in enumerate(self.vocabulary):
            if wanted in [synonym.casefold() for synonym in split_synonyms(name)]:
                return index
        log_first_n(
            logging.WARNING,
            f"MODEL.SEGEARTH.THRESHOLD {self.threshold} is not applied: MODEL.SEGEARTH.BACKGROUND, "
            f"'{self.background}', is not among the classes.",
            key="message",
        )
        return None


def _crops(images: Sequence[torch.Tensor], windows: Sequence[Window]) -> torch.Tensor:
    """Windows of one size (B, 3, h, w) of images (3, H, W)."""
    return torch.stack([images[window.image][:, window.rows, window.columns] for window in windows])


def cosines(features: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Cosine similarity (..., Q) of features (..., C) and normalised queries (Q, C), at least float32."""
    products = at_least_float32(features @ queries.T.to(features.dtype))
    norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True, dtype=products.dtype)
    return products / norms.clamp(min=1e-8)


def class_scores(
    logits: torch.Tensor, counts: Sequence[int], threshold: float = 0.0, background: int | None = None
) -> torch.Tensor:
    """Scores of classes from those of their queries.

    Args:
        logits: (Q, H, W).
        counts: number of queries of each class, T numbers.
        threshold: of the best score, 0..1.
        background: index of the class to which pixels below the threshold belong; None turns the threshold off.

    Returns:
        (T, H, W), 0..1.
    """
    scores = torch.stack([queries.amax(dim=0) for queries in logits.softmax(dim=0).split(list(counts))])
    if background is not None:
        unsure = scores.amax(dim=0) < threshold
        unsure = unsure & (torch.arange(len(scores), device=scores.device) != background)[:, None, None]
        scores = scores.masked_fill(unsure, 0.0)
    return scores
