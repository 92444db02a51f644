"""CLIP's contrastive training at a small scale, by open_clip."""

from itertools import islice

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from torch import nn

from laptop.pretraining.captions import write_caption
from laptop.pretraining.crops import LabelledScenes
from laptop.pretraining.training import train

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
    class_token_weight: float = 10.0,
    show_progress: bool = False,
) -> tuple[nn.Module, list[float]]:
    """Train CLIP on crops of its input size and captions that name all that is in them.

    Of crops whose captions name the same classes a batch keeps the first, since the loss takes every other caption of
    the batch for a wrong one.

    The class token is kept from reading the image before the last block, by a penalty on how much it differs between
    images there. Read densely, CLIP adds that token to every patch; what it already knows of the image as a whole is an
    offset that hides what the patches show. Large CLIPs gather in their last blocks by themselves (Gandelsman et al.,
    ICLR 2024, "Interpreting CLIP's image representation via text-based decomposition"); one of few blocks does not.

    Args:
        name: a model that open_clip knows.
        scenes: where the crops come from.
        pixel_mean, pixel_std: (3,), on the 0..255 scale.
        iterations: training steps.
        batch_size: crops drawn for each.
        learning_rate: the highest; it rises over the first 5% of the steps and falls as a cosine.
        seed: of the weights, the crops and the words.
        class_token_weight: weight of that penalty: the class token's variance over the batch where the last block
            begins, as a share of the patches' variance.
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

    tokens = []  # what enters the last block

    def keep_tokens(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        tokens.append(inputs[0] if model.visual.transformer.batch_first else inputs[0].transpose(0, 1))  # (B, 1 + N, D)

    def compute_loss() -> torch.Tensor:
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(100))  # as CLIP does
        batch = {}
        for crop, shares in islice(crops, batch_size):
            named, caption = write_caption(shares, scenes.classes, generator)
            batch.setdefault(frozenset(named), (crop, caption))
        images, captions = zip(*batch.values(), strict=True)
        images = (torch.stack(images).float() - mean) / std  # (B, 3, H, W)
        loss = contrastive_loss(*model(images, tokenizer(list(captions))))
        return loss + class_token_weight * class_token_variance(tokens.pop())

    hook = model.visual.transformer.resblocks[-1].register_forward_pre_hook(keep_tokens)
    losses = train(
        model,
        compute_loss,
        iterations=iterations,
        learning_rate=learning_rate,
        description="contrastive training",
        show_progress=show_progress,
    )
    hook.remove()
    return model, losses


def class_token_variance(tokens: torch.Tensor) -> torch.Tensor:
    """How much the class token, the first of tokens (B, 1 + N, D), differs between images, as a share of what all
    patches differ by, whose gradient is left out.
    """
    class_token, patches = tokens[:, 0], tokens[:, 1:].detach().flatten(0, 1)
    return class_token.var(dim=0, unbiased=False).sum() / patches.var(dim=0, unbiased=False).sum()
