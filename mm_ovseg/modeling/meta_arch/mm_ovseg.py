"""MM-OVSeg: open-vocabulary semantic segmentation of RGB-SAR pairs (stage 2)."""

from collections.abc import Sequence
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
from mm_ovseg.modeling.meta_arch.segmenter import GraphSizes, OpenVocabularySegmenter, output_size, segmenter_arguments
from mm_ovseg.modeling.precision import inference_precision
from mm_ovseg.modeling.sar_validity import WITH_SAR, WITHOUT_SAR, join_by_validity, needed_answers
from mm_ovseg.modeling.scores import scores_of_size

__all__ = ["MMOVSeg"]


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
                not needed if the config has no SAR encoder). In training also ``sem_seg`` (H, W) int64. In evaluation
                ``sar_image`` may be None, which skips the SAR encoders, and ``sar_valid`` bool (H, W) is SAR's valid
                mask, by default all True: other pixels get the scores that the model gives without SAR.
                ``image_valid`` bool (H, W) saves work for pixels without RGB. ``height`` and ``width`` are the size
                of the output in pixels, by default that of the image.

        Returns:
            In evaluation a list with ``{"sem_seg": (T, height, width) float32 scores in 0..1}`` per pair, in the order
            of :attr:`vocabulary`. In training ``{"loss_sem_seg": scalar}``.

        Raises:
            VocabularyError: no vocabulary is set.
            DataError: a pair has no ``sar_image``, images of other shapes than (3, H, W), or masks of other sizes.
        """
        return super().forward(batched_inputs)

    def predict_logits(self, batched_inputs: Sequence[dict], names: Sequence[str]) -> torch.Tensor:
        """The head's logits (B, T, 4h, 4w) for T class names, from RGB and, if the model has SAR encoders, SAR."""
        images = self.images(batched_inputs, "image")
        sar_images = self.images(batched_inputs, "sar_image") if self.needs_sar else None
        return self.compare(images, sar_images, self.embed(names))

    def compare(
        self,
        images: Sequence[torch.Tensor] | torch.Tensor,
        sar_images: Sequence[torch.Tensor] | torch.Tensor | None,
        text: torch.Tensor,
    ) -> torch.Tensor:
        """The head's logits (B, T, 4h, 4w)."""
        return self._compare_features(*self._encode(images), sar_images, text)

    def _encode(self, images: Sequence[torch.Tensor] | torch.Tensor) -> tuple[EncoderFeatures, EncoderFeatures | None]:
        """CLIP's and DINO's features of RGB."""
        return self.clip(images), self.dino(images) if self.dino is not None else None

    def _compare_features(
        self,
        clip: EncoderFeatures,
        dino: EncoderFeatures | None,
        sar_images: Sequence[torch.Tensor] | torch.Tensor | None,
        text: torch.Tensor,
    ) -> torch.Tensor:
        """Like :meth:`compare`, for RGB features."""
        if self.clip_sar is not None and sar_images is not None:
            clip = clip + self.clip_sar(sar_images)
        if self.dino_sar is not None and sar_images is not None:
            dino = dino + self.dino_sar(sar_images)
        return self.sem_seg_head(clip, dino, text)

    @torch.no_grad()
    def segment(self, batched_inputs: Sequence[dict]) -> list[torch.Tensor]:
        """Scores (T, height, width) of each pair. Text and RGB are encoded only once, whatever SAR covers."""
        images = self.images(batched_inputs, "image")
        needed = [needed_answers(item) if self.needs_sar else {WITHOUT_SAR} for item in batched_inputs]
        with inference_precision(self.inference_dtype, self.device):
            text = self.embed(self.vocabulary)
            features = self._encode(images)
        scores: list[torch.Tensor | None] = [None] * len(images)
        for answer in (WITHOUT_SAR, WITH_SAR):  # in this order: an explanation keeps the last result
            places = [place for place, answers in enumerate(needed) if answer in answers]
            if not places:
                continue
            chosen = [batched_inputs[place] for place in places]
            sar_images = self.images(chosen, "sar_image") if answer == WITH_SAR else None
            with inference_precision(self.inference_dtype, self.device):
                clip, dino = (
                    kind if kind is None or len(places) == len(images) else kind.take(places) for kind in features
                )
                logits = self._compare_features(clip, dino, sar_images, text)
            for place, item, item_logits in zip(places, chosen, logits, strict=True):
                new, other = scores_of_size(item_logits[None], output_size(item))[0], scores[place]
                scores[place] = new if other is None else join_by_validity(new, other, item["sar_valid"])
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
