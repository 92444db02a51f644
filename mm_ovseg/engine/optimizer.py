"""The optimiser: AdamW with a separate learning rate for CLIP, and no weight decay where it is harmful."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping, reduce_param_groups
from torch import nn

__all__ = ["build_optimizer", "parameter_groups"]

CLIP_PREFIXES = ("clip.encoder.", "clip_sar.encoder.", "text.")
NORM_TYPES = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
FITTED_PREFIXES = ("dino.projection.dense.", "dino_sar.projection.dense.")
DECAYED_SCALARS = ("sem_seg_head.transformer_decoder.logit_scale",)  # EBSeg's, as published
EMBEDDING_NAMES = (
    *("pos_embed", "cls_token", "reg_token"),  # timm's
    *("positional_embedding", "class_embedding"),  # CLIP's
    *("padding_token", "padding_guidance"),  # the aggregator's
)


def parameter_groups(
    model: nn.Module,
    *,
    base_lr: float,
    clip_multiplier: float,
    fit_multiplier: float,
    weight_decay: float,
    weight_decay_norm: float,
    weight_decay_embed: float,
    bias_lr_factor: float = 1.0,
    weight_decay_bias: float | None = None,
) -> list[dict[str, Any]]:
    """Group the trainable parameters by learning rate and weight decay.

    Args:
        model: frozen parameters are left out.
        base_lr: learning rate of everything else.
        clip_multiplier: CLIP's learning rate as a share of ``base_lr``.
        fit_multiplier: that of DINO's projections into the text space.
        weight_decay: of weights and biases; scalars have none, but for EBSeg's.
        weight_decay_norm: of normalisation layers.
        weight_decay_embed: of learned tokens and positional embeddings.
        bias_lr_factor: learning rate of biases relative to that of the weights beside them.
        weight_decay_bias: of biases, those of normalisation layers included; None: like other parameters.
    """
    groups = []
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            full_name = f"{module_name}.{name}" if module_name else name
            decay = weight_decay
            if isinstance(module, NORM_TYPES):
                decay = weight_decay_norm
            elif parameter.dim() == 0 and full_name not in DECAYED_SCALARS:
                decay = 0.0  # a learned temperature, for which 0 is not simpler
            elif name in EMBEDDING_NAMES or isinstance(module, nn.Embedding):
                decay = weight_decay_embed
            rate = base_lr
            if full_name.startswith(CLIP_PREFIXES):
                rate *= clip_multiplier
            elif full_name.startswith(FITTED_PREFIXES):
                rate *= fit_multiplier
            if name == "bias":
                rate *= bias_lr_factor
                decay = decay if weight_decay_bias is None else weight_decay_bias
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    return reduce_param_groups(groups)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser that ``SOLVER`` describes.

    The training step clips by the norm of the full model, after unscaling the gradients; Detectron2's other kinds of
    clipping (``"value"``, ``"norm"``) are added here.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        base_lr=solver.BASE_LR,
        clip_multiplier=solver.CLIP_MULTIPLIER,
        fit_multiplier=solver.FIT_MULTIPLIER if cfg.MODEL.DENSE_ENCODER.FIT_DATASET else 1.0,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_embed=solver.WEIGHT_DECAY_EMBED,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    kind, arguments = torch.optim.AdamW, {}
    if solver.OPTIMIZER == "SGD":
        kind, arguments = torch.optim.SGD, {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    if solver.CLIP_GRADIENTS.ENABLED and solver.CLIP_GRADIENTS.CLIP_TYPE != "full_model":
        kind = maybe_add_gradient_clipping(cfg, kind)
    return kind(groups, lr=solver.BASE_LR, **arguments)
