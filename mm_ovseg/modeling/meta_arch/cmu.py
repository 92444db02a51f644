"""Cross-modal unification (stage 1): a SAR encoder learns the features of its RGB teacher."""

import inspect
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mm_ovseg.choices import check_choice, check_registered
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.modeling.backbone.image_encoder import ImageEncoder, build_image_encoder, build_sar_twin
from mm_ovseg.modeling.precision import at_least_float32, inference_precision, read_inference_dtype
from mm_ovseg.modeling.unification_losses import NEGATIVES, UNIFICATION_LOSS_REGISTRY, unification_loss

__all__ = ["CrossModalUnification"]

ROLES = {"dense": "DENSE_ENCODER", "clip": "CLIP"}
MAX_SCALE = 100.0  # of similarities, if the temperature is learned; as in CLIP


@META_ARCH_REGISTRY.register()
class CrossModalUnification(nn.Module):
    """A frozen RGB teacher and a SAR student that starts as its copy (paper, stage 1).

    Args:
        teacher: the frozen encoder of RGB.
        student: the encoder of SAR, of the same shape.
        loss_name: a key of :data:`~mm_ovseg.modeling.unification_losses.UNIFICATION_LOSS_REGISTRY`.
        temperature: temperature of InfoNCE.
        learned_temperature: start at ``temperature`` and learn it: the logarithm of its inverse, which stays between 0
            and log(100), is the parameter ``log_scale``.
        negatives, symmetric: see :func:`~mm_ovseg.modeling.unification_losses.infonce`.
        tokens_per_image: positions sampled per image and block.
        ema_decay: if > 0, ``student_average`` is an exponential moving average of the student with this decay, which
            evaluation uses instead of the student. Training calls :meth:`after_optimizer_step` to update it.
        inference_dtype: ``"float32"``, or ``"bfloat16"`` or ``"float16"`` for mixed precision in evaluation mode.
        compile_blocks: compile the blocks of all encoders with ``torch.compile``.
    """

    task = "retrieval"  # selects the evaluator, see mm_ovseg.evaluation.build

    @configurable
    def __init__(
        self,
        *,
        teacher: ImageEncoder,
        student: ImageEncoder,
        loss_name: str,
        temperature: float,
        learned_temperature: bool,
        negatives: str,
        symmetric: bool,
        tokens_per_image: int,
        ema_decay: float,
        inference_dtype: str,
        compile_blocks: bool,
    ) -> None:
        super().__init__()
        check_registered("CMU.LOSS", loss_name, UNIFICATION_LOSS_REGISTRY)
        check_choice("CMU.NEGATIVES", negatives, NEGATIVES)
        if not 1 / MAX_SCALE <= temperature <= 1:
            raise ConfigError(f"CMU.TEMPERATURE is {temperature}; choose one from {1 / MAX_SCALE} to 1.")
        takes = inspect.signature(UNIFICATION_LOSS_REGISTRY.get(loss_name)).parameters
        if learned_temperature and "temperature" not in takes:
            raise ConfigError(f"CMU.LEARNED_TEMPERATURE needs a CMU.LOSS with one; {loss_name} has no temperature.")
        if not 0 <= ema_decay < 1:
            raise ConfigError(f"CMU.EMA_DECAY is {ema_decay}; choose one from 0 (no average) to below 1.")
        if tokens_per_image < 1:
            raise ConfigError(f"CMU.TOKENS_PER_IMAGE is {tokens_per_image}; it must be at least 1.")
        self.teacher = teacher
        self.student = student
        self.loss_name = loss_name
        self.temperature = temperature
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature))) if learned_temperature else None
        self.negatives = negatives
        self.symmetric = symmetric
        self.tokens_per_image = tokens_per_image
        self.student_average = None
        if ema_decay > 0:
            self.student_average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))
            self.student_average.requires_grad_(False)
        self.inference_dtype = read_inference_dtype(inference_dtype)
        if compile_blocks:  # here, since a copy of a compiled block is not compiled
            for encoder in {self.teacher, self.student, self._evaluated_student}:
                encoder.compile_blocks()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the teacher from MODEL.DENSE_ENCODER or MODEL.CLIP, and the student as its SAR twin.

        Raises:
            ConfigError: CMU.ENCODER is unknown, or CMU.BLOCKS does not suit it.
        """
        check_choice("CMU.ENCODER", cfg.CMU.ENCODER, ROLES)
        if not cfg.CMU.BLOCKS:
            raise ConfigError("CMU.BLOCKS is empty; name at least one block whose tokens are compared.")
        role = ROLES[cfg.CMU.ENCODER]
        teacher = build_image_encoder(cfg, role, blocks=cfg.CMU.BLOCKS)
        student = build_sar_twin(cfg, role, teacher)
        teacher.freeze()
        if cfg.MODEL.ACTIVATION_CHECKPOINTING:
            student.recompute_activations()
        return {
            "teacher": teacher,
            "student": student,
            "loss_name": cfg.CMU.LOSS,
            "temperature": cfg.CMU.TEMPERATURE,
            "learned_temperature": cfg.CMU.LEARNED_TEMPERATURE,
            "negatives": cfg.CMU.NEGATIVES,
            "symmetric": cfg.CMU.SYMMETRIC,
            "tokens_per_image": cfg.CMU.TOKENS_PER_IMAGE,
            "ema_decay": cfg.CMU.EMA_DECAY,
            "inference_dtype": cfg.MODEL.INFERENCE_DTYPE,
            "compile_blocks": cfg.MODEL.COMPILE,
        }

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.teacher.pixel_mean.device

    def forward(self, batched_inputs: Sequence[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Compute the unification loss, or, in evaluation mode, the tokens of both encoders.

        Args:
            batched_inputs: one dict per pair with ``image`` and ``sar_image`` (3, H, W) 0..255 and, if parts have no
                data, ``image_valid`` and ``sar_valid`` (H, W) bool.

        Returns:
            In training ``{"loss_alignment": scalar}``, the average over blocks. In evaluation a list with
            ``{"image_tokens", "sar_tokens", "valid"}`` per pair: lists with the L2-normalised tokens (h * w, D) of each
            block, and (h * w,) bool, False where RGB or SAR has no data in a part of the token's patch.
        """
        if not batched_inputs:
            return []
        images, sar_images = (
            [_require(item, key).to(self.device) for item in batched_inputs] for key in ("image", "sar_image")
        )
        valid = self._valid_tokens(batched_inputs)  # (B, h * w)
        if not self.training:
            with torch.no_grad(), inference_precision(self.inference_dtype, self.device):
                teacher_tokens = _tokens(self.teacher, images)
                student_tokens = _tokens(self._evaluated_student, sar_images)
            return [
                {
                    "image_tokens": [tokens[index] for tokens in teacher_tokens],
                    "sar_tokens": [tokens[index] for tokens in student_tokens],
                    "valid": valid[index],
                }
                for index in range(len(batched_inputs))
            ]
        with torch.no_grad():
            teacher_tokens = _tokens(self.teacher, images)
        student_tokens = _tokens(self.student, sar_images)
        temperature = self._current_temperature()
        losses = []
        for teacher_map, student_map in zip(teacher_tokens, student_tokens, strict=True):
            places = self._sample_places(valid)  # (B, K)
            teacher_sample, student_sample = (
                tokens.take_along_dim(places[..., None], dim=1) for tokens in (teacher_map, student_map)
            )  # (B, K, D)
            losses.append(
                unification_loss(
                    student_sample,
                    teacher_sample,
                    valid.take_along_dim(places, dim=1),
                    name=self.loss_name,
                    temperature=temperature,
                    negatives=self.negatives,
                    symmetric=self.symmetric,
                )
            )
        return {"loss_alignment": torch.stack(losses).mean()}

    def after_optimizer_step(self) -> None:
        """Update the moving average of the student, if any."""
        if self.student_average is not None:
            self.student_average.update_parameters(self.student)

    @property
    def _evaluated_student(self) -> ImageEncoder:
        return self.student if self.student_average is None else self.student_average.module

    def _current_temperature(self) -> torch.Tensor | float:
        if self.log_scale is None:
            return self.temperature
        with torch.no_grad():
            self.log_scale.clamp_(0.0, math.log(MAX_SCALE))
        return (-self.log_scale).exp()

    def _valid_tokens(self, batched_inputs: Sequence[dict]) -> torch.Tensor:
        """Tokens whose patch is fully valid in both images, bool (B, h * w)."""
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
        """Draw distinct positions in each image, valid ones first: (B, h * w) -> (B, K)."""
        priority = torch.rand(valid.shape, device=valid.device) + valid
        return priority.topk(min(self.tokens_per_image, valid.shape[1]), dim=1).indices


def _tokens(encoder: ImageEncoder, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """L2-normalised tokens (B, h * w, D) of each block; those of a finer grid are averaged over each dense token."""
    features = encoder(encoder.preprocess(images))
    grid = features.dense.shape[-2:]
    maps = (*(F.adaptive_avg_pool2d(guidance, grid) for guidance in features.guidance), features.dense)
    return [F.normalize(at_least_float32(block_map).flatten(2).transpose(1, 2), dim=-1) for block_map in maps]


def _require(item: dict, key: str) -> torch.Tensor:
    if key not in item:
        raise DataError(f"{item.get('file_name', 'A pair')} has no '{key}'; stage 1 needs RGB and SAR for every pair.")
    return item[key]
