"""The segmentation head: from encoder features and an embedded vocabulary to one logit map per class.

A head has two parts: ``prepare``, which depends on the images alone, and ``forward``, which compares with the names.
"""

from collections.abc import Mapping

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from mm_ovseg.modeling.aggregator import CostVolumeAggregator
from mm_ovseg.modeling.backbone.image_encoder import EncoderFeatures
from mm_ovseg.modeling.class_selection import most_similar_classes, restore_classes, take_classes
from mm_ovseg.modeling.decoder import GuidedDecoder
from mm_ovseg.modeling.fusion import build_fusion, cost_volume

__all__ = ["MMOVSegHead", "prepare_features"]


@SEM_SEG_HEADS_REGISTRY.register()
class MMOVSegHead(nn.Module):
    """Cost volumes, their fusion, aggregation and decoding.

    Args:
        cost_volume_embedding: (B, P, T, h, w) cost volumes -> (B, T, D, h, w).
        aggregator: refines the embedding over space and classes.
        decoder: upsamples it to logits.
        max_classes: if > 0 and the vocabulary is larger, only this number of classes, those with the highest similarity
            anywhere in the image, are aggregated; the others get a logit of -100.
    """

    @configurable
    def __init__(
        self,
        *,
        cost_volume_embedding: nn.Module,
        aggregator: CostVolumeAggregator,
        decoder: GuidedDecoder,
        max_classes: int,
    ) -> None:
        super().__init__()
        self.cost_volume_embedding = cost_volume_embedding
        self.aggregator = aggregator
        self.decoder = decoder
        self.max_classes = max_classes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        """Build from a config.

        Args:
            cfg: the config.
            input_shape: ``"dense"`` with the text's channels and the dense grid's height; and ``"dino"`` if there is a
                DINO encoder.
        """
        dense = input_shape["dense"]
        with_dino = "dino" in input_shape
        return {
            "cost_volume_embedding": build_fusion(cfg, input_shape),
            "aggregator": CostVolumeAggregator(cfg, dense),
            "decoder": GuidedDecoder(cfg, 2 if with_dino else 1),
            "max_classes": cfg.MODEL.AGGREGATOR.MAX_CLASSES,
        }

    def prepare(self, clip: EncoderFeatures, dino: EncoderFeatures | None) -> dict[str, torch.Tensor]:
        """Everything that :meth:`forward` needs of the images, whatever the names.

        Args:
            clip: CLIP's features.
            dino: DINO's features, or None if the config has no DINO encoder.

        Returns:
            Tensors (B, ...) by name.
        """
        return prepare_features(self.aggregator, self.decoder, clip, dino)

    def forward(self, features: Mapping[str, torch.Tensor], text: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            features: from :meth:`prepare`.
            text: (P, T, C), L2-normalised.

        Returns:
            Logits (B, T, 4h, 4w).
        """
        clip_cost = cost_volume(features["clip"], text)  # (B, P, T, h, w)
        dino_cost = cost_volume(features["dino"], text) if "dino" in features else None
        class_text = nn.functional.normalize(text.mean(dim=0), dim=-1).expand(clip_cost.shape[0], -1, -1)  # (B, T, C)
        classes = text.shape[1]
        selected = None
        if 0 < self.max_classes < classes:
            selected = most_similar_classes(clip_cost, self.max_classes)  # (B, max_classes)
            clip_cost = take_classes(clip_cost, selected, dim=2)
            dino_cost = take_classes(dino_cost, selected, dim=2) if dino_cost is not None else None
            class_text = take_classes(class_text, selected, dim=1)

        x = self.cost_volume_embedding(clip_cost, dino_cost)
        x = self.aggregator(x, features["appearance"], class_text)
        logits = self.decoder(x, [features["coarse_guidance"], features["fine_guidance"]])
        return logits if selected is None else restore_classes(logits, selected, classes)


def prepare_features(
    aggregator: CostVolumeAggregator, decoder: GuidedDecoder, clip: EncoderFeatures, dino: EncoderFeatures | None
) -> dict[str, torch.Tensor]:
    """What an aggregator and a decoder need of the images; see :meth:`MMOVSegHead.prepare`."""
    coarse, fine = decoder.project_guidance([clip.guidance] + ([dino.guidance] if dino else []))
    features = {
        "clip": clip.dense,  # (B, C, h, w)
        "appearance": aggregator.project_appearance(clip.dense),  # (B, G, h, w)
        "coarse_guidance": coarse,  # (B, G', 2h, 2w)
        "fine_guidance": fine,  # (B, G", 4h, 4w)
    }
    return features | {"dino": dino.dense} if dino else features  # (B, C, h, w)
