"""FGAseg's head: refined text, a global and a local correlation, and a decoder with auxiliary heads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from mm_ovseg.baselines.fgaseg.map_fusion import FUSIONS
from mm_ovseg.baselines.fgaseg.pruning import Candidates
from mm_ovseg.baselines.fgaseg.text_convolution import AlignmentBranch, TextConvolution
from mm_ovseg.baselines.fgaseg.text_refinement import TextRefinement
from mm_ovseg.choices import check_choice
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.aggregator import CostVolumeAggregator
from mm_ovseg.modeling.backbone.image_encoder import EncoderFeatures
from mm_ovseg.modeling.class_selection import most_similar_classes, restore_classes, take_classes
from mm_ovseg.modeling.decoder import GuidedDecoder, GuidedUpsampling, class_logits
from mm_ovseg.modeling.fusion import CostVolumeEmbedding, cost_volume
from mm_ovseg.modeling.head import prepare_features
from mm_ovseg.modeling.memory import by_class_chunks, recomputed

__all__ = ["FGAsegHead", "FGAsegOutput"]


@dataclass(frozen=True)
class FGAsegOutput:
    """What the head computes.

    Attributes:
        logits: (B, T, 4h, 4w).
        auxiliary: those of the auxiliary heads, (B, T, h, w) twice and (B, T, 2h, 2w); empty in evaluation.
        text: the refined text (B, T, C), not normalised.
    """

    logits: torch.Tensor
    auxiliary: tuple[torch.Tensor, ...]
    text: torch.Tensor


@SEM_SEG_HEADS_REGISTRY.register()
class FGAsegHead(nn.Module):
    """CAT-Seg's head with text refined by the image, a local correlation, and heads that find unlikely classes.

    Args:
        text_refinement: text (T, C) and dense feature -> (B, T, C).
        local_correlation: dense feature and text (B, T, C) -> (B, T, h, w).
        cost_volume_embedding, local_embedding: of the global and the local correlation.
        aggregator, decoder: those of CAT-Seg.
        local_upsampling: of the embedded local correlation, to the size of the first upsampling.
        alignment: dense feature and text (B, T, C) -> logits (B, T, 4h, 4w), for the loss only.
        fusion: a key of :data:`~mm_ovseg.baselines.fgaseg.map_fusion.FUSIONS`.
        widths: channels of the maps that are joined: twice those of the aggregator, then those of the first upsampling.
        with_auxiliary: whether there are auxiliary heads.
        kept_classes: in evaluation, of a larger vocabulary, classes leave that an auxiliary head sees nowhere in the
            image among this number of best classes; 0, or without auxiliary heads: none.
        max_classes: as in :class:`~mm_ovseg.modeling.head.MMOVSegHead`.
        class_chunk: classes at a time, to save memory; 0 for all.
        recompute: store only the inputs of the decoder for the backward pass, and recompute the rest.
    """

    @configurable
    def __init__(
        self,
        *,
        text_refinement: nn.Module,
        local_correlation: nn.Module,
        cost_volume_embedding: nn.Module,
        local_embedding: nn.Module,
        aggregator: CostVolumeAggregator,
        decoder: GuidedDecoder,
        local_upsampling: GuidedUpsampling,
        alignment: nn.Module,
        fusion: str,
        widths: tuple[int, int, int],
        with_auxiliary: bool,
        kept_classes: int,
        max_classes: int,
        class_chunk: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_choice("MODEL.FGASEG.FUSION", fusion, FUSIONS)
        if kept_classes < 0:
            raise ConfigError(f"MODEL.FGASEG.KEPT_CLASSES is {kept_classes}; give a number of classes, or 0 for all.")
        self.text_refinement = text_refinement
        self.local_correlation = local_correlation
        self.cost_volume_embedding = cost_volume_embedding
        self.local_embedding = local_embedding
        self.fusions = nn.ModuleList(FUSIONS[fusion](width) for width in widths)
        self.aggregator = aggregator
        self.decoder = decoder
        self.local_upsampling = local_upsampling
        self.auxiliary = nn.ModuleList(
            nn.Conv2d(width, 1, kernel_size=3, padding=1) for width in widths if with_auxiliary
        )
        self.alignment = alignment
        self.kept_classes = kept_classes if with_auxiliary else 0
        self.max_classes = max_classes
        self.class_chunk = class_chunk
        self.recompute = recompute

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        """Build from a config; ``input_shape`` has ``"dense"`` with the text's channels and the dense grid's height."""
        node, dense, width = cfg.MODEL.FGASEG, input_shape["dense"], cfg.MODEL.COST_VOLUME.WIDTH
        upsampled, chunk = cfg.MODEL.DECODER.WIDTHS[0], cfg.MODEL.AGGREGATOR.CLASS_CHUNK

        def embedding() -> nn.Module:
            return CostVolumeEmbedding(
                templates=1,
                width=width,
                kernel_size=cfg.MODEL.COST_VOLUME.KERNEL_SIZE,
                with_dino=False,
                class_chunk=chunk,
            )

        return {
            "text_refinement": TextRefinement(
                channels=dense.channels,
                heads=node.REFINEMENT_HEADS,
                layers=node.REFINEMENT_LAYERS,
                grid_size=dense.height,
            ),
            "local_correlation": TextConvolution(
                text_channels=dense.channels,
                channels=dense.channels,
                kernel_size=node.KERNEL_SIZE,
                weighs_places=True,
            ),
            "cost_volume_embedding": embedding(),
            "local_embedding": embedding(),
            "aggregator": CostVolumeAggregator(cfg, dense),
            "decoder": GuidedDecoder(cfg, 1),
            "local_upsampling": GuidedUpsampling(
                in_channels=width, guidance_channels=0, up_channels=upsampled, out_channels=upsampled
            ),
            "alignment": AlignmentBranch(channels=dense.channels, norm=node.NORM),
            "fusion": node.FUSION,
            "widths": (width, width, upsampled),
            "with_auxiliary": node.AUXILIARY_HEADS,
            "kept_classes": node.KEPT_CLASSES,
            "max_classes": cfg.MODEL.AGGREGATOR.MAX_CLASSES,
            "class_chunk": chunk,
            "recompute": cfg.MODEL.ACTIVATION_CHECKPOINTING,
        }

    def prepare(self, clip: EncoderFeatures, _dino: None = None) -> dict[str, torch.Tensor]:
        """What :meth:`forward` needs of the images, as in :class:`~mm_ovseg.modeling.head.MMOVSegHead`."""
        return prepare_features(self.aggregator, self.decoder, clip, None)

    def forward(self, features: Mapping[str, torch.Tensor], text: torch.Tensor) -> torch.Tensor:
        """The logits (B, T, 4h, 4w) of :meth:`predict`."""
        return self.predict(features, text).logits

    def predict(self, features: Mapping[str, torch.Tensor], text: torch.Tensor) -> FGAsegOutput:
        """Compute logits.

        Args:
            features: from :meth:`prepare`.
            text: (P, T, C), L2-normalised; the mean of the P templates is used.
        """
        text = F.normalize(text.mean(dim=0), dim=-1)
        refined = self.text_refinement(text, features["clip"])  # (B, T, C)
        text = F.normalize(refined, dim=-1)
        cost = cost_volume(features["clip"], text[:, None])  # (B, 1, T, h, w)
        classes, selected = text.shape[1], None
        if 0 < self.max_classes < classes:
            selected = most_similar_classes(cost, self.max_classes)  # (B, max_classes)
            cost, text = take_classes(cost, selected, dim=2), take_classes(text, selected, dim=1)
        if not self.training and 0 < self.kept_classes < text.shape[1]:
            # One by one: each image keeps its own number of classes.
            images = (
                ({name: some[index, None] for name, some in features.items()}, cost[index, None], text[index, None])
                for index in range(len(text))
            )
            logits, auxiliary = torch.cat([self._decode(*image, keep=self.kept_classes)[0] for image in images]), ()
        else:
            logits, auxiliary = self._decode(features, cost, text)
        if selected is not None:
            logits, *auxiliary = (restore_classes(some, selected, classes) for some in (logits, *auxiliary))
        return FGAsegOutput(logits, tuple(auxiliary), refined)

    def _decode(
        self, features: Mapping[str, torch.Tensor], cost: torch.Tensor, text: torch.Tensor, *, keep: int = 0
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """From the global correlation (B, 1, T, h, w) and normalised text (B, T, C) to logits.

        Args:
            features: from :meth:`prepare`.
            cost, text: see above.
            keep: see :class:`~mm_ovseg.baselines.fgaseg.pruning.Candidates`; if not 0, for a single image.

        Returns:
            The final logits, and those of the auxiliary heads, if they are needed.
        """
        candidates = Candidates(text.shape[1], keep)
        heads = list(self.auxiliary) if self.training or keep else []

        def judge(stage: int, x: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return candidates.narrow(class_logits(heads[stage], x), x, *others) if heads else (x, *others)

        local_cost = self.local_correlation(F.normalize(features["clip"], dim=1), text)  # (B, T, h, w)
        local = self.local_embedding(local_cost[:, None], None)  # (B, T, D, h, w)
        x = self._join(0, self.cost_volume_embedding(cost, None), local)
        x, local, text = judge(0, x, local, text)
        x = self._join(1, self.aggregator(x, features["appearance"], text), local)
        x, local = judge(1, x, local)
        x = self._upsample(self.decoder.upsamplings[0], x, features["coarse_guidance"])  # (B, T, D', 2h, 2w)
        x = self._join(2, x, self._upsample(self.local_upsampling, local, None))
        (x,) = judge(2, x)
        return candidates.restore(self._upsample(self._to_logits, x, features["fine_guidance"])), candidates.logits

    def _join(self, stage: int, x: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        return by_class_chunks(self.class_chunk, self.fusions[stage], x, local)

    def _upsample(
        self, upsampling: Callable[..., torch.Tensor], x: torch.Tensor, guidance: torch.Tensor | None
    ) -> torch.Tensor:
        return by_class_chunks(self.class_chunk, partial(recomputed, self.recompute, upsampling, guidance=guidance), x)

    def _to_logits(self, x: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        return class_logits(self.decoder.logits, self.decoder.upsamplings[1](x, guidance))
