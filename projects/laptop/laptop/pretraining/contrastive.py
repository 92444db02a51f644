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
    """Train CLIP on crops of its input size and captions that list all classes in them.

    If several crops of a batch have captions with the same classes, only the first is kept, since the loss treats every
    other caption of the batch as wrong.

    A penalty on its variance between images keeps the class token from reading the image before the last block. Dense
    CLIP adds that token to every patch, where information about the whole image is an offset that hides the content of
    the patches. Large CLIPs gather information only in their last blocks (Gandelsman et al., ICLR 2024, "Interpreting
    CLIP's image representation via text-based decomposition"); a CLIP with few blocks does not.

    Args:
        name: name of an open_clip model.
        scenes: the source of crops.
        pixel_mean, pixel_std: (3,), on the 0..255 scale.
        iterations: training steps.
        batch_size: crops drawn per step.
        learning_rate: the maximum; it rises over the first 5% of the steps and falls as a cosine.
        seed: seed of the weights, crops and captions.
        class_token_weight: weight of that: the variance of the class token over the batch, before the last block,
            relative to that of the patches.
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

    tokens = []  # input of the last block

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
    """The variance of the class token, the first of tokens (B, 1 + N, D), between images, relative to the detached
    variance of all patches.
    """
    class_token, patches = tokens[:, 0], tokens[:, 1:].detach().flatten(0, 1)
    return class_token.var(dim=0, unbiased=False).sum() / patches.var(dim=0, unbiased=False).sum()
