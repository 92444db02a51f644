"""FGAseg: its losses, and its evaluation by sliding windows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from mm_ovseg.baselines.fgaseg.head import FGAsegHead
from mm_ovseg.baselines.fgaseg.sliding_window import WINDOW, join_windows, split_into_windows
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.losses import at_label_sizes
from mm_ovseg.modeling.meta_arch.mm_ovseg import MMOVSeg
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem, GraphSizes, sizes_of
from mm_ovseg.modeling.modality import RGB_ALONE
from mm_ovseg.modeling.precision import at_least_float32, inference_precision
from mm_ovseg.modeling.scores import scores_of_size

__all__ = ["FGAseg"]


@META_ARCH_REGISTRY.register()
class FGAseg(MMOVSeg):
    """MMOVSeg's pipeline with CLIP on RGB alone, FGAseg's head and its losses.

    Args:
        sem_seg_head: FGAseg's.
        auxiliary_weights: of the losses of the three auxiliary heads.
        align_weight: of the loss of the alignment branch.
        sliding_window: evaluate by the windows of
            :func:`~mm_ovseg.baselines.fgaseg.sliding_window.split_into_windows`.
        arguments: those of :class:`~mm_ovseg.modeling.meta_arch.mm_ovseg.MMOVSeg`.
    """

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: FGAsegHead,
        auxiliary_weights: Sequence[float],
        align_weight: float,
        sliding_window: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(sem_seg_head=sem_seg_head, **arguments)
        if len(auxiliary_weights) != 3:
            raise ConfigError(f"MODEL.FGASEG.AUXILIARY_WEIGHTS is {list(auxiliary_weights)}; it must have 3 entries.")
        if not isinstance(sem_seg_head, FGAsegHead):
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.NAME builds a {type(sem_seg_head).__name__}; FGAseg needs FGAsegHead."
            )
        self.auxiliary_weights = tuple(auxiliary_weights)
        self.align_weight = align_weight
        self.sliding_window = sliding_window

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build CLIP and the head."""
        for key in ("CLIP_SAR", "DENSE_ENCODER", "DENSE_ENCODER_SAR"):
            if cfg.MODEL[key].ENABLED:
                raise ConfigError(f"FGAseg sees RGB through CLIP alone; set MODEL.{key}.ENABLED to False.")
        node = cfg.MODEL.FGASEG
        return {
            **super().from_config(cfg),
            "auxiliary_weights": node.AUXILIARY_WEIGHTS,
            "align_weight": node.ALIGN_WEIGHT,
            "sliding_window": node.SLIDING_WINDOW,
        }

    @property
    def graph_sizes(self) -> GraphSizes:
        """Those of MMOVSeg, but for a vocabulary small enough that no class is dropped."""
        sizes, kept = super().graph_sizes, self.sem_seg_head.kept_classes
        limits = [limit for limit in (sizes.classes, kept) if limit]
        return replace(sizes, classes=min(limits, default=None))

    @torch.no_grad()
    def encode(self, batched_inputs: Sequence[dict]) -> list[EncodedItem]:
        """The features of each image, or of its windows."""
        if not self.sliding_window:
            return super().encode(batched_inputs)
        with inference_precision(self.inference_dtype, self.device):
            return [
                EncodedItem({RGB_ALONE: self.encode_images(split_into_windows(image), None)}, {}, *sizes_of(item))
                for image, item in zip(self.images(batched_inputs), batched_inputs, strict=True)
            ]

    @torch.no_grad()
    def answer(self, encoded: Sequence[EncodedItem]) -> list[torch.Tensor]:
        """Scores (T, height, width) of each image; classes that left get 0."""
        if not self.sliding_window:
            return super().answer(encoded)
        return [self._join_windows(item) for item in encoded]

    def _join_windows(self, item: EncodedItem) -> torch.Tensor:
        """Scores (T, height, width) of an image, from the features of its windows."""
        with inference_precision(self.inference_dtype, self.device):
            logits = self.sem_seg_head(item.features[RGB_ALONE], self.embed(self.vocabulary))
        scores = join_windows(scores_of_size(logits, (WINDOW, WINDOW)))
        scores = F.interpolate(scores[None], item.size, mode="bilinear", align_corners=False)[0]
        return scores.clamp_(max=1.0)

    def losses(self, batched_inputs: Sequence[dict]) -> dict[str, torch.Tensor]:
        """The weighted losses of the logits, of the auxiliary heads and of the alignment branch."""
        features = self.encode_images(self.images(batched_inputs), None)
        output = self.sem_seg_head.predict(features, self.embed(self.train_vocabulary))
        aligned = at_least_float32(self.sem_seg_head.alignment(features["clip"], output.text))  # (B, T, 4h, 4w)
        targets = [item["sem_seg"].to(self.device) for item in batched_inputs]
        small = [_nearest(target, aligned.shape[-2:]) for target in targets]
        losses = {"loss_sem_seg": self.compute_loss(at_label_sizes(output.logits, targets))}
        for index, logits in enumerate(output.auxiliary):
            weight = self.auxiliary_weights[index]
            losses[f"loss_auxiliary_{index}"] = weight * self.compute_loss(at_label_sizes(logits, targets))
        losses["loss_align"] = self.align_weight * self.compute_loss([(aligned, torch.stack(small))])
        return losses


def _nearest(target: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A label map (H, W) int64 of another size; PyTorch resizes no integers of 64 bits."""
    return F.interpolate(target[None, None].float(), size, mode="nearest")[0, 0].long()
