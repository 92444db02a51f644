"""MM-OVSeg: open-vocabulary semantic segmentation of RGB-SAR pairs (stage 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import build_sem_seg_head
from torch import nn

from mm_ovseg.choices import check_registered
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone.image_encoder import EncoderFeatures
from mm_ovseg.modeling.encoders import ProjectedEncoder, build_encoders
from mm_ovseg.modeling.losses import SEGMENTATION_LOSS_REGISTRY, at_label_sizes, segmentation_loss
from mm_ovseg.modeling.meta_arch.segmenter import (
    EncodedItem,
    GraphSizes,
    OpenVocabularySegmenter,
    segmenter_arguments,
    sizes_of,
)
from mm_ovseg.modeling.modality import ANSWERS, RGB_ALONE, SAR_ALONE, answer_masks, has_data, replace_where
from mm_ovseg.modeling.precision import inference_precision
from mm_ovseg.modeling.scores import scores_of_size

__all__ = ["MMOVSeg"]

Images = Sequence[torch.Tensor] | torch.Tensor
Features = tuple[EncoderFeatures | None, EncoderFeatures | None]  # of CLIP and DINO, or of their SAR twins


@META_ARCH_REGISTRY.register()
class MMOVSeg(OpenVocabularySegmenter):
    """Optical and SAR image encoders, a text encoder, and a head that compares them.

    Args:
        clip: CLIP on RGB.
        clip_sar: its SAR twin, or None.
        dino: the dense encoder, DINO or another one, on RGB; or None.
        dino_sar: its SAR twin, or None.
        sem_seg_head: see :class:`~mm_ovseg.modeling.head.MMOVSegHead`.
        loss_name, ignore_label, ignored_as_negative: see :func:`~mm_ovseg.modeling.losses.segmentation_loss`.
        arguments: those of :class:`~mm_ovseg.modeling.meta_arch.segmenter.OpenVocabularySegmenter`.
    """

    @configurable
    def __init__(
        self,
        *,
        clip: ProjectedEncoder,
        clip_sar: ProjectedEncoder | None,
        dino: ProjectedEncoder | None,
        dino_sar: ProjectedEncoder | None,
        sem_seg_head: nn.Module,
        loss_name: str,
        ignore_label: int,
        ignored_as_negative: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        check_registered("LOSS.NAME", loss_name, SEGMENTATION_LOSS_REGISTRY)
        self.clip = clip
        self.clip_sar = clip_sar
        self.dino = dino
        self.dino_sar = dino_sar
        self.sem_seg_head = sem_seg_head
        self.loss_name = loss_name
        self.ignore_label = ignore_label
        self.ignored_as_negative = ignored_as_negative

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the encoders and the head; class names come from the metadata of DATASETS.TRAIN and TEST."""
        for key, values, count in (
            ("MODEL.CLIP.GUIDANCE_BLOCKS", cfg.MODEL.CLIP.GUIDANCE_BLOCKS, 2),
            ("MODEL.DENSE_ENCODER.BLOCKS", cfg.MODEL.DENSE_ENCODER.BLOCKS, 3),
            ("MODEL.GUIDANCE_WIDTHS", cfg.MODEL.GUIDANCE_WIDTHS, 2),
            ("MODEL.DECODER.WIDTHS", cfg.MODEL.DECODER.WIDTHS, 2),
            ("MODEL.DECODER.GUIDANCE_WIDTHS", cfg.MODEL.DECODER.GUIDANCE_WIDTHS, 2),
        ):
            if len(values) != count:
                raise ConfigError(f"{key} is {list(values)}; it must have {count} entries.")
        encoders, (text_tower, tokenizer) = build_encoders(cfg)
        input_shape = {"dense": encoders["clip"].encoder.output_shape()["dense"]}
        if encoders["dino"] is not None:
            input_shape["dino"] = input_shape["dense"]

        return {
            **encoders,
            "sem_seg_head": build_sem_seg_head(cfg, input_shape),
            **segmenter_arguments(cfg, text_tower, tokenizer),
            "loss_name": cfg.LOSS.NAME,
            "ignore_label": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "ignored_as_negative": cfg.LOSS.IGNORED_AS_NEGATIVE,
        }

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.clip.encoder.pixel_mean.device

    @property
    def needs_sar(self) -> bool:
        """Whether pairs need a SAR image."""
        return self.dino_sar is not None or self.clip_sar is not None

    @property
    def graph_sizes(self) -> GraphSizes:
        """See :class:`~mm_ovseg.modeling.meta_arch.segmenter.GraphSizes`."""
        encoder = self.clip.encoder
        return GraphSizes(encoder.image_size, encoder.out_channels, self.sem_seg_head.max_classes or None)

    def forward(self, batched_inputs: Sequence[dict]) -> list[dict[str, torch.Tensor]] | dict[str, torch.Tensor]:
        """Segment, or compute the training loss.

        Args:
            batched_inputs: one dict per pair, of any sizes, with ``image`` and ``sar_image`` (3, H, W) 0..255 (SAR is
                not needed if the config has no SAR encoder). In training also ``sem_seg`` (H, W) int64.
                ``image_valid`` and ``sar_valid``, bool (H, W), are the valid masks, by default all True. In evaluation
                each pixel gets the scores that the model gives for what is there: RGB and SAR, RGB alone or SAR alone;
                ``sar_image`` may be None, for RGB alone. In training a mask without any True means that the pair lacks
                that image, and others are not read. ``height`` and ``width`` are the size of the output in pixels, by
                default that of the image.

        Returns:
            In evaluation a list with ``{"sem_seg": (T, height, width) float32 scores in 0..1}`` per pair, in the order
            of :attr:`vocabulary`. In training ``{"loss_sem_seg": scalar}``.

        Raises:
            VocabularyError: no vocabulary is set.
            DataError: a pair has no ``sar_image``, images of other shapes than (3, H, W), or masks of other sizes.
        """
        return super().forward(batched_inputs)

    def predict_logits(self, batched_inputs: Sequence[dict], names: Sequence[str]) -> torch.Tensor:
        """The head's logits (B, T, 4h, 4w) for T class names, from RGB and, if the model has SAR encoders, SAR.

        Every encoder sees every pair, whatever the pair lacks, so that all processes of a training use all parameters.
        """
        images = self.images(batched_inputs, "image")
        if not self.needs_sar:
            return self.compare(images, None, self.embed(names))
        rgb = self._encode_rgb(images)
        sar = self._encode_sar(self.images(batched_inputs, "sar_image"))
        has_rgb, has_sar = (has_data(batched_inputs, key) for key in ("image_valid", "sar_valid"))
        features = _where(has_sar, _add(rgb, sar), rgb)
        features = self.sem_seg_head.prepare(*_where(has_rgb, features, self._sar_alone(sar)))
        return self.sem_seg_head(features, self.embed(names))

    def compare(self, images: Images, sar_images: Images | None, text: torch.Tensor) -> torch.Tensor:
        """The head's logits (B, T, 4h, 4w)."""
        return self.sem_seg_head(self.encode_images(images, sar_images), text)

    def encode_images(self, images: Images, sar_images: Images | None) -> dict[str, torch.Tensor]:
        """What the head needs of images (3, H, W) of any sizes, or (B, 3, H, W), 0..255: tensors (B, ...) by name."""
        features = self._encode_rgb(images)
        if sar_images is not None:
            features = _add(features, self._encode_sar(sar_images))
        return self.sem_seg_head.prepare(*features)

    def _encode_rgb(self, images: Images) -> Features:
        return self.clip(images), None if self.dino is None else self.dino(images)

    def _encode_sar(self, images: Images) -> Features:
        return tuple(None if twin is None else twin(images) for twin in (self.clip_sar, self.dino_sar))

    def _sar_alone(self, sar: Features) -> Features:
        """What the head gets without RGB: in the place of a missing encoder's features, those of the other SAR twin."""
        clip_sar, dino_sar = sar
        return clip_sar or dino_sar, None if self.dino is None else dino_sar or clip_sar

    @torch.no_grad()
    def encode(self, batched_inputs: Sequence[dict]) -> list[EncodedItem]:
        """The features of each pair for every answer that it needs; each image is encoded at most once."""
        images = self.images(batched_inputs, "image")
        masks = [answer_masks(item) if self.needs_sar else {RGB_ALONE: None} for item in batched_inputs]
        rgb_places = [place for place, needed in enumerate(masks) if needed.keys() != {SAR_ALONE}]
        sar_places = [place for place, needed in enumerate(masks) if needed.keys() != {RGB_ALONE}]
        sar_images = self.images([batched_inputs[place] for place in sar_places], "sar_image")
        encoded: list[dict[str, Mapping[str, torch.Tensor]]] = [{} for _ in images]
        with inference_precision(self.inference_dtype, self.device):
            rgb = _EncodedImages(
                rgb_places, self._encode_rgb([images[place] for place in rgb_places]) if rgb_places else ()
            )
            sar = _EncodedImages(sar_places, self._encode_sar(sar_images) if sar_places else ())
            for answer in ANSWERS:
                places = [place for place, needed in enumerate(masks) if answer in needed]
                if not places:
                    continue
                if answer == SAR_ALONE:
                    features = self._sar_alone(sar.take(places))
                elif answer == RGB_ALONE:
                    features = rgb.take(places)
                else:
                    features = _add(rgb.take(places), sar.take(places))
                prepared = self.sem_seg_head.prepare(*features)
                for row, place in enumerate(places):
                    encoded[place][answer] = {name: tensor[row, None] for name, tensor in prepared.items()}
        return [
            EncodedItem(features, needed if len(needed) > 1 else {}, *sizes_of(item))
            for features, needed, item in zip(encoded, masks, batched_inputs, strict=True)
        ]

    @torch.no_grad()
    def answer(self, encoded: Sequence[EncodedItem]) -> list[torch.Tensor]:
        """Scores (T, height, width) of each pair."""
        scores: list[torch.Tensor | None] = [None] * len(encoded)
        with inference_precision(self.inference_dtype, self.device):
            text = self.embed(self.vocabulary)
        for answer in ANSWERS:
            places = [place for place, item in enumerate(encoded) if answer in item.features]
            if not places:
                continue
            with inference_precision(self.inference_dtype, self.device):
                logits = self.sem_seg_head(_batch([encoded[place].features[answer] for place in places]), text)
            for place, item_logits in zip(places, logits, strict=True):
                new, other = scores_of_size(item_logits[None], encoded[place].size)[0], scores[place]
                scores[place] = new if other is None else replace_where(encoded[place].masks[answer], new, other)
        return scores

    def losses(self, batched_inputs: Sequence[dict]) -> dict[str, torch.Tensor]:
        """See :meth:`forward`."""
        logits = self.predict_logits(batched_inputs, self.train_vocabulary)
        targets = [item["sem_seg"].to(self.device) for item in batched_inputs]
        return {"loss_sem_seg": self.compute_loss(at_label_sizes(logits, targets))}

    def compute_loss(self, batch: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """The loss of the config, see :func:`~mm_ovseg.modeling.losses.segmentation_loss`."""
        return segmentation_loss(
            batch,
            name=self.loss_name,
            ignore_label=self.ignore_label,
            ignored_as_negative=self.ignored_as_negative,
        )


@dataclass(frozen=True)
class _EncodedImages:
    """The features of the images at some places of a batch."""

    places: Sequence[int]
    features: Features

    def take(self, places: Sequence[int]) -> Features:
        """The features at some of the places."""
        if places == self.places:
            return self.features
        rows = [self.places.index(place) for place in places]
        return tuple(kind and kind.take(rows) for kind in self.features)


def _batch(items: Sequence[Mapping[str, torch.Tensor]]) -> Mapping[str, torch.Tensor]:
    """The features (1, ...) of several images as those of a batch (B, ...)."""
    if len(items) == 1:
        return items[0]
    return {name: torch.cat([item[name] for item in items]) for name in items[0]}


def _add(features: Features, others: Features) -> Features:
    """The sums of the features of CLIP and of DINO; what is None adds nothing."""
    return tuple(one + other if one and other else one or other for one, other in zip(features, others, strict=True))


def _where(chosen: Sequence[bool], features: Features, others: Features) -> Features:
    """The features of the chosen images of the batch, and the others of the rest."""
    return tuple(one and one.where(chosen, other) for one, other in zip(features, others, strict=True))
