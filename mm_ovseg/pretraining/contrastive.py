"""CLIP's contrastive training at a small scale, by open_clip."""

from itertools import islice

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from torch import nn

from mm_ovseg.pretraining.captions import write_caption
from mm_ovseg.pretraining.crops import LabelledScenes
from mm_ovseg.pretraining.training import train

__all__ = ["pretrain_clip"]


def pretrain_clip(
    name: str,
    scenes: LabelledScenes,
    *,
    pixel_mean: torch.Tensor,
    pixel_std: torch.Tensor,
    iterations: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    show_progress: bool = False,
) -> tuple[nn.Module, list[float]]:
    """Train CLIP on crops of its input size and captions that name all that is in them.

    Of crops whose captions name the same classes a batch keeps the first, since the loss takes every other caption of
    the batch for a wrong one.

    Args:
        name: a model that open_clip knows.
        scenes: where the crops come from.
        pixel_mean, pixel_std: (3,), on the 0..255 scale.
        iterations: training steps.
        batch_size: crops drawn for each.
        learning_rate: the highest; it rises over the first 5% of the steps and falls as a cosine.
        seed: of the weights, the crops and the words.
        show_progress: show a progress bar on stderr.

    Returns:
        The model, in evaluation mode, and the loss of every step.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = open_clip.create_model(name, force_custom_text=True)
    tokenizer = open_clip.get_tokenizer(name)
    contrastive_loss = ClipLoss()
    crops = scenes.crops(model.visual.image_size[0], generator)
    mean, std = (values.view(3, 1, 1) for values in (pixel_mean, pixel_std))

    def compute_loss() -> torch.Tensor:
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(100))  # as CLIP does
        batch = {}
        for crop, shares in islice(crops, batch_size):
            named, caption = write_caption(shares, scenes.classes, generator)
            batch.setdefault(frozenset(named), (crop, caption))
        images, captions = zip(*batch.values(), strict=True)
        images = (torch.stack(images).float() - mean) / std  # (B, 3, H, W)
        return contrastive_loss(*model(images, tokenizer(list(captions))))

    losses = train(
        model,
        compute_loss,
        iterations=iterations,
        learning_rate=learning_rate,
        description="contrastive training",
        show_progress=show_progress,
    )
    return model, losses
