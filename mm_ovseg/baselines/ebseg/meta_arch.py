"""EBSeg: open-vocabulary segmentation with embedding balancing and semantic structure consistency (CVPR 2024)."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mm_ovseg.baselines.ebseg.class_scores import Exponents, balanced_class_scores, share_a_name
from mm_ovseg.baselines.ebseg.clip_stages import CLIPFeatures, CLIPStages
from mm_ovseg.baselines.ebseg.losses import StagePrediction, ebseg_losses
from mm_ovseg.baselines.ebseg.pixel_decoder import CLIPFusion, PixelDecoder
from mm_ovseg.baselines.ebseg.sam import SAMEncoder
from mm_ovseg.baselines.ebseg.transformer_decoder import Stage, TransformerDecoder, mask_pooled
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.modeling.backbone.clip import build_whole_clip
from mm_ovseg.modeling.backbone.tokenizer import build_tokenizer
from mm_ovseg.modeling.meta_arch.segmenter import (
    EncodedItem,
    OpenVocabularySegmenter,
    segmenter_arguments,
    sizes_of,
)
from mm_ovseg.modeling.modality import RGB_ALONE
from mm_ovseg.modeling.precision import at_least_float32, inference_precision

__all__ = ["EBSeg", "EBSegHead"]

STRIDE = 32  # pixels: images are padded to multiples of it
NO_LABEL = -1  # of padding
CLASSIFIED = ("decoder", "pooled", "recognition")  # the embeddings of queries that are compared with the names


class EBSegHead(nn.Module):
    """The part of EBSeg that learns, but for the positional embeddings: from SAM's and CLIP's maps to queries.

    Args:
        fusion, pixel_decoder, transformer_decoder: its parts, in the order in which they work.
    """

    def __init__(self, *, fusion: nn.Module, pixel_decoder: nn.Module, transformer_decoder: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
        self.pixel_decoder = pixel_decoder
        self.transformer_decoder = transformer_decoder

    def forward(self, sam: Sequence[torch.Tensor], clip: Sequence[torch.Tensor]) -> tuple[list[Stage], torch.Tensor]:
        """The stages of the queries, and the mask features (B, width, H / 4, W / 4)."""
        finest, *others = sam
        levels, mask_features = self.pixel_decoder([finest, *self.fusion(others, clip)])
        return self.transformer_decoder(levels, mask_features), mask_features


@META_ARCH_REGISTRY.register()
class EBSeg(OpenVocabularySegmenter):
    """Queries with masks, classified by their own embedding, by CLIP's recognition head and by CLIP's pooled map.

    Args:
        clip: frozen but for its positional embedding.
        sam: the same.
        sem_seg_head: learns.
        clip_scale: the share of the image's sides at which CLIP sees it.
        logit_scale: logarithm of the factor of all similarities, at which CLIP's own training ended; of OpenAI's, 100.
        seen_classes: names that training has seen, which decide how the three classifications are weighted; empty for
            ``train_vocabulary``. The attribute of this name may be set at any time.
        exponents: weights of the classifications.
        pixel_mean, pixel_std: of CLIP, three values on the 0..255 scale.
        sam_pixel_mean, sam_pixel_std: of SAM.
        arguments: those of :class:`~mm_ovseg.modeling.meta_arch.segmenter.OpenVocabularySegmenter`.
    """

    bounded_scores = False

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor
    sam_pixel_mean: torch.Tensor
    sam_pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        clip: CLIPStages,
        sam: SAMEncoder,
        sem_seg_head: EBSegHead,
        clip_scale: float,
        logit_scale: float,
        seen_classes: Sequence[str],
        exponents: Exponents,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        sam_pixel_mean: Sequence[float],
        sam_pixel_std: Sequence[float],
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if not 0 < clip_scale <= 1:
            raise ConfigError(f"MODEL.EBSEG.CLIP_SCALE is {clip_scale}; give a number above 0, up to 1.")
        self.text.requires_grad_(False)
        self.clip = clip
        self.sam = sam
        self.sem_seg_head = sem_seg_head
        self.clip_scale = clip_scale
        self.seen_classes = tuple(seen_classes)
        self.exponents = exponents
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale), requires_grad=False)
        self.no_object = nn.Parameter(0.02 * torch.randn(1, clip.visual.output_dim))
        for name, values in (
            ("pixel_mean", pixel_mean),
            ("pixel_std", pixel_std),
            ("sam_pixel_mean", sam_pixel_mean),
            ("sam_pixel_std", sam_pixel_std),
        ):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build CLIP, SAM and the head from MODEL.CLIP and MODEL.EBSEG.

        Raises:
            ConfigError: a size does not fit.
        """
        settings, clip_settings = cfg.MODEL.EBSEG, cfg.MODEL.CLIP
        if cfg.MODEL.COMPILE:
            raise ConfigError("MODEL.COMPILE is on, but EBSeg is not compiled; set it to False.")
        for key in ("HEADS", "QUERIES", "PIXEL_LAYERS", "LAYERS"):
            if settings[key] < 1:
                raise ConfigError(f"MODEL.EBSEG.{key} is {settings[key]}; it must be at least 1.")
        width, heads = settings.WIDTH, settings.HEADS
        if width < 1 or width % 32 or width % (2 * heads):
            raise ConfigError(
                f"MODEL.EBSEG.WIDTH is {width}; give a multiple of 32 and of twice MODEL.EBSEG.HEADS, {heads}."
            )
        if len(settings.CLIP_BLOCKS) != 3:
            raise ConfigError(f"MODEL.EBSEG.CLIP_BLOCKS is {list(settings.CLIP_BLOCKS)}; it must have 3 entries.")
        whole_clip = build_whole_clip(clip_settings.NAME, clip_settings.PRETRAINED, clip_settings.ARGUMENTS)
        visual = whole_clip.visual
        clip = CLIPStages(visual, blocks=settings.CLIP_BLOCKS, surgery_block=settings.SURGERY_BLOCK)
        sam = SAMEncoder(
            name=settings.SAM.NAME,
            arguments=settings.SAM.ARGUMENTS,
            weights=settings.SAM.PRETRAINED,
            blocks=settings.SAM.BLOCKS,
        )
        clip.recompute = sam.recompute = cfg.MODEL.ACTIVATION_CHECKPOINTING
        head = EBSegHead(
            fusion=CLIPFusion(visual.transformer.width, sam.width, levels=3),
            pixel_decoder=PixelDecoder(sam.width, width=width, heads=heads, layers=settings.PIXEL_LAYERS),
            transformer_decoder=TransformerDecoder(
                width=width,
                queries=settings.QUERIES,
                heads=heads,
                layers=settings.LAYERS,
                levels=3,
                embed_dim=visual.output_dim,
                clip_heads=clip.heads,
            ),
        )
        return {
            "clip": clip,
            "sam": sam,
            "sem_seg_head": head,
            "clip_scale": settings.CLIP_SCALE,
            "logit_scale": whole_clip.logit_scale.item(),
            "seen_classes": settings.SEEN_CLASSES,
            "exponents": Exponents(seen=settings.ALPHA, unseen=settings.BETA, recognition=settings.GAMMA),
            "pixel_mean": clip_settings.PIXEL_MEAN,
            "pixel_std": clip_settings.PIXEL_STD,
            "sam_pixel_mean": settings.SAM.PIXEL_MEAN,
            "sam_pixel_std": settings.SAM.PIXEL_STD,
            **segmenter_arguments(cfg, whole_clip.text, build_tokenizer(clip_settings.NAME)),
        }

    def train(self, mode: bool = True) -> "EBSeg":
        """Switch the mode of what learns; the frozen parts stay in evaluation mode."""
        super().train(mode)
        for frozen in (self.text, self.clip, self.sam):
            frozen.eval()
        return self

    @torch.no_grad()
    def encode(self, batched_inputs: Sequence[dict]) -> list[EncodedItem]:
        """The queries of each image, see :meth:`encode_queries`."""
        images = self.images(batched_inputs)
        encoded: list[EncodedItem | None] = [None] * len(images)
        for size, places in _places_by_padded_size(image.shape[1:] for image in images).items():
            with inference_precision(self.inference_dtype, self.device):
                queries = self.encode_queries([images[place] for place in places], size)
            for row, place in enumerate(places):
                features = {name: tensor[row, None] for name, tensor in queries.items()}
                encoded[place] = EncodedItem({RGB_ALONE: features}, {}, *sizes_of(batched_inputs[place]))
        return encoded

    @torch.no_grad()
    def answer(self, encoded: Sequence[EncodedItem]) -> list[torch.Tensor]:
        """Scores (T, height, width) of each image: sums over queries, which are not probabilities."""
        features = [item.features[RGB_ALONE] for item in encoded]
        scores: list[torch.Tensor | None] = [None] * len(encoded)
        for padded, places in _places_by_padded_size(item.image_size for item in encoded).items():
            with inference_precision(self.inference_dtype, self.device):
                class_scores = self.classify(
                    *(torch.cat([features[place][name] for place in places]) for name in CLASSIFIED)
                )
            for place, query_scores in zip(places, class_scores, strict=True):
                masks = at_least_float32(features[place]["masks"][0])
                resized = _masks_of_size(masks, padded, encoded[place].image_size, encoded[place].size)
                with torch.autocast(self.device.type, enabled=False):
                    scores[place] = torch.einsum("qt,qhw->thw", query_scores, resized.sigmoid())
        return scores

    def encode_queries(self, images: Sequence[torch.Tensor], size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """What images say about their queries, whatever the names.

        Args:
            images: B tensors (3, H, W), 0..255, on the model's device.
            size: height and width that they are padded to.

        Returns:
            The embeddings of :meth:`classify`, (B, Q, C), and the mask logits ``masks``, (B, Q, h, w), by name.
        """
        clip, stages, mask_features = self._decode(images, size, with_surgery=True)
        decoder, last = self.sem_seg_head.transformer_decoder, stages[-1]
        recognized, patches = self.clip.recognize(clip, decoder.attention_bias(last.embeddings, mask_features))
        grid_masks = F.interpolate(
            at_least_float32(last.masks), patches.shape[-2:], mode="bilinear", align_corners=False
        )
        return {
            "decoder": decoder.class_embeddings(last, mask_features),
            "pooled": mask_pooled(patches, grid_masks),
            "recognition": recognized,
            "masks": last.masks,
        }

    def classify(self, decoder: torch.Tensor, pooled: torch.Tensor, recognition: torch.Tensor) -> torch.Tensor:
        """The class probabilities (B, Q, T) of queries, in float32.

        Args:
            decoder: their class embeddings (B, Q, C).
            pooled, recognition: the same from CLIP's pooled map and from its recognition head.
        """
        text = self.class_text(self.vocabulary)
        logits = [self.class_logits(embeddings, text) for embeddings in (decoder, pooled, recognition)]
        seen = share_a_name(self.vocabulary, self.seen_classes or self.train_vocabulary)
        exponents = torch.tensor(self.exponents.of_classes(seen)).to(text)  # (T, 3)
        return balanced_class_scores(*logits, exponents).softmax(dim=-1)[..., :-1]

    def losses(self, batched_inputs: Sequence[dict]) -> dict[str, torch.Tensor]:
        """The 41 terms of :func:`~mm_ovseg.baselines.ebseg.losses.ebseg_losses`."""
        images = self.images(batched_inputs)
        labels = [item["sem_seg"].to(self.device) for item in batched_inputs]
        for item, image, label in zip(batched_inputs, images, labels, strict=True):
            if label.shape != image.shape[1:]:
                raise DataError(
                    f"The labels of {item.get('file_name', 'a pair')} have the shape {tuple(label.shape)}; they must "
                    f"have that of the image, {tuple(image.shape[1:])}."
                )
        size = _padded_size(image.shape[1:] for image in images)
        clip, stages, mask_features = self._decode(images, size, with_surgery=False)
        decoder = self.sem_seg_head.transformer_decoder
        embeddings = torch.cat([stage.embeddings for stage in stages], dim=1)  # (B, S * Q, width)
        recognized, _ = self.clip.recognize(clip, decoder.attention_bias(embeddings, mask_features))
        text = self.class_text(self.train_vocabulary)
        predictions = []
        for stage, stage_recognized in zip(stages, recognized.chunk(len(stages), dim=1), strict=True):
            class_embeddings = decoder.class_embeddings(stage, mask_features)
            predictions.append(
                StagePrediction(
                    self.class_logits(class_embeddings, text),
                    self.class_logits(stage_recognized, text),
                    at_least_float32(stage.masks),
                )
            )
        labels = torch.stack([_pad(label, size, NO_LABEL) for label in labels])
        with torch.autocast(self.device.type, enabled=False):
            return ebseg_losses(predictions, at_least_float32(class_embeddings), text, labels)

    def class_text(self, names: Sequence[str]) -> torch.Tensor:
        """Unit vectors (T, C) of class names, the means over templates."""
        with torch.no_grad():  # the text tower is frozen, and the embedder remembers only what has no gradient
            text = self.embed(names)  # (P, T, C)
        return F.normalize(text.mean(dim=0), dim=-1)

    def class_logits(self, embeddings: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Logits (B, Q, T + 1), in float32, of embeddings (B, Q, C) for classes (T, C) and, last, "no object"."""
        text = torch.cat([text, F.normalize(self.no_object, dim=-1)])
        with torch.autocast(self.device.type, enabled=False):
            return self.logit_scale.exp() * at_least_float32(embeddings) @ text.T

    def _decode(
        self, images: Sequence[torch.Tensor], size: tuple[int, int], *, with_surgery: bool
    ) -> tuple[CLIPFeatures, list[Stage], torch.Tensor]:
        """CLIP's features, the stages of the queries and the mask features of images padded to ``size``."""
        clip_images, sam_images = (
            torch.stack([_pad((image.to(mean) - mean) / std, size, 0.0) for image in images])
            for mean, std in ((self.pixel_mean, self.pixel_std), (self.sam_pixel_mean, self.sam_pixel_std))
        )
        clip_images = F.interpolate(clip_images, scale_factor=self.clip_scale, mode="bilinear", align_corners=False)
        clip = self.clip(clip_images, with_surgery=with_surgery)
        return clip, *self.sem_seg_head(self.sam(sam_images), clip.maps)


def _padded_size(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The smallest height and width, multiples of 32, that hold all sizes."""
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    return math.ceil(height / STRIDE) * STRIDE, math.ceil(width / STRIDE) * STRIDE


def _places_by_padded_size(sizes: Iterable[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """The places of a batch's images by the size that each alone is padded to."""
    places: dict[tuple[int, int], list[int]] = {}
    for place, size in enumerate(sizes):
        places.setdefault(_padded_size([size]), []).append(place)
    return places


def _pad(x: torch.Tensor, size: tuple[int, int], value: float) -> torch.Tensor:
    """Pad (..., H, W) at the right and the bottom."""
    return F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]), value=value)


def _masks_of_size(
    masks: torch.Tensor, padded: tuple[int, int], size: tuple[int, int], wanted: tuple[int, int]
) -> torch.Tensor:
    """Resize mask logits (Q, h, w) of a padded image to those of the image, and these to the wanted size."""
    masks = F.interpolate(masks[None], padded, mode="bilinear", align_corners=False)[..., : size[0], : size[1]]
    return F.interpolate(masks, wanted, mode="bilinear", align_corners=False)[0]
