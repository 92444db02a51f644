"""Cross-modal unification (stage 1): a SAR encoder learns to see as its RGB teacher does."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mm_ovseg.errors import DataError
from mm_ovseg.modeling.backbone.dino import DINOEncoder
from mm_ovseg.modeling.losses import ALIGNMENT_LOSSES, alignment_loss, check_loss_name

__all__ = ["CrossModalUnification"]


@META_ARCH_REGISTRY.register()
class CrossModalUnification(nn.Module):
    """A frozen RGB teacher and a SAR student that starts as its copy (paper, stage 1; design §5).

    Args:
        teacher: the frozen encoder of RGB.
        student: the encoder of SAR, of the same shape.
        loss_name: ``"infonce"``, ``"mse"`` or ``"l1"``.
        temperature: of InfoNCE.
        tokens_per_image: places sampled in each image and block.
    """

    @configurable
    def __init__(
        self,
        *,
        teacher: DINOEncoder,
        student: DINOEncoder,
        loss_name: str,
        temperature: float,
        tokens_per_image: int,
    ) -> None:
        super().__init__()
        check_loss_name("CMU.LOSS", loss_name, ALIGNMENT_LOSSES)
        self.teacher = teacher
        self.student = student
        self.loss_name = loss_name
        self.temperature = temperature
        self.tokens_per_image = tokens_per_image

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build teacher and student from MODEL.DINO; the student's statistics and weights are MODEL.DINO_SAR's."""

        def build(statistics: CfgNode, weights: str, frozen: bool) -> DINOEncoder:
            return DINOEncoder(
                name=cfg.MODEL.DINO.NAME,
                arguments=cfg.MODEL.DINO.ARGUMENTS,
                weights=weights,
                image_size=cfg.MODEL.DINO.IMAGE_SIZE,
                blocks=cfg.CMU.BLOCKS,
                frozen=frozen,
                pixel_mean=statistics.PIXEL_MEAN,
                pixel_std=statistics.PIXEL_STD,
            )

        teacher = build(cfg.MODEL.DINO, cfg.MODEL.DINO.PRETRAINED, frozen=True)
        student = build(cfg.MODEL.DINO_SAR, cfg.MODEL.DINO_SAR.WEIGHTS, frozen=False)
        if not cfg.MODEL.DINO_SAR.WEIGHTS:
            student.load_state_dict(teacher.state_dict())
        for block in student.model.blocks[max(cfg.CMU.BLOCKS) :]:
            block.requires_grad_(False)  # no loss sees them, and processes wait for gradients of what learns
        return {
            "teacher": teacher,
            "student": student,
            "loss_name": cfg.CMU.LOSS,
            "temperature": cfg.CMU.TEMPERATURE,
            "tokens_per_image": cfg.CMU.TOKENS_PER_IMAGE,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.teacher.pixel_mean.device

    def forward(self, batched_inputs: Sequence[dict]) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """Compute the alignment loss, or, in evaluation mode, the tokens of both encoders.

        Args:
            batched_inputs: one dict a pair with ``image`` and ``sar_image`` (3, H, W) 0..255 and, where parts have no
                data, ``image_valid`` and ``sar_valid`` (H, W) bool.

        Returns:
            In training ``{"loss_alignment": scalar}``, the average over blocks. In evaluation a list with
            ``{"image_tokens", "sar_tokens"}`` a pair: L2-normalised tokens (blocks, h * w, D).
        """
        if not batched_inputs:
            return []
        images, sar_images = (
            [_require(item, key).to(self.device) for item in batched_inputs] for key in ("image", "sar_image")
        )
        teacher_tokens = self._tokens(self.teacher, images)
        student_tokens = self._tokens(self.student, sar_images)
        if not self.training:
            return [
                {"image_tokens": image_tokens, "sar_tokens": sar_tokens}
                for image_tokens, sar_tokens in zip(
                    torch.stack(teacher_tokens, 1), torch.stack(student_tokens, 1), strict=True
                )
            ]
        valid = self._valid_tokens(batched_inputs)  # (B, h * w)
        losses = []
        for teacher_map, student_map in zip(teacher_tokens, student_tokens, strict=True):
            places = self._sample_places(valid)  # (B, K)
            teacher_sample, student_sample = (
                tokens.take_along_dim(places[..., None], dim=1).flatten(0, 1) for tokens in (teacher_map, student_map)
            )  # (B * K, D)
            sample_valid = valid.take_along_dim(places, dim=1).flatten()
            losses.append(
                alignment_loss(
                    student_sample,
                    teacher_sample,
                    sample_valid,
                    name=self.loss_name,
                    temperature=self.temperature,
                )
            )
        return {"loss_alignment": torch.stack(losses).mean()}

    @staticmethod
    def _tokens(encoder: DINOEncoder, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One (B, h * w, D) of L2-normalised tokens a block."""
        maps = encoder(encoder.preprocess(images))
        return [F.normalize(block_map.flatten(2).transpose(1, 2), dim=-1) for block_map in maps]

    def _valid_tokens(self, batched_inputs: Sequence[dict]) -> torch.Tensor:
        """(B, h * w) bool: tokens whose patch has data in both images in every pixel."""
        grid = self.teacher.grid_size
        rows = []
        for item in batched_inputs:
            valid = torch.ones(item["image"].shape[1:], dtype=torch.bool)
            for key in ("image_valid", "sar_valid"):
                if key in item:
                    valid = valid & item[key].cpu()
            missing = (~valid).to(torch.float32)[None]
            rows.append(F.adaptive_max_pool2d(missing, (grid, grid)).flatten() == 0)
        return torch.stack(rows).to(self.device)

    def _sample_places(self, valid: torch.Tensor) -> torch.Tensor:
        """Draw distinct places in each image, valid ones first: (B, h * w) -> (B, K)."""
        priority = torch.rand(valid.shape, device=valid.device) + valid
        return priority.topk(min(self.tokens_per_image, valid.shape[1]), dim=1).indices


def _require(item: dict, key: str) -> torch.Tensor:
    if key not in item:
        raise DataError(f"{item.get('file_name', 'A pair')} has no '{key}'; stage 1 needs RGB and SAR for every pair.")
    return item[key]
