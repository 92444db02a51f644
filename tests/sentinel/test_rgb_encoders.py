"""Stage 0 of the Sentinel model: a few steps of it, on generated scenes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sentinel import rgb_encoders
from sentinel.augmentation import augment_colors, random_views
from sentinel.rgb_encoders import ImageTower, classify, train_clip, train_dense, train_teacher
from sentinel.scenes import CLASS_NAMES, Scenes
from sentinel.targets import Targets

CHANNELS = 8


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(rgb_encoders, "BATCH", 4)
    monkeypatch.setattr(rgb_encoders, "VIEW", 64)


@pytest.fixture
def scenes():
    generator = np.random.default_rng(0)
    sets = np.arange(24) % len(CLASS_NAMES)
    return Scenes(
        images=generator.integers(0, 256, (24, 112, 112, 3), dtype=np.uint8),
        files=[f"Airport/{index}.jpg" for index in range(24)],
        sets=sets,
        labels=generator.integers(0, 7, 24),
        held_out=np.arange(24) >= 12,
    )


@pytest.fixture
def classes():
    torch.manual_seed(0)
    return [F.normalize(torch.randn(len(names), CHANNELS), dim=1) for names in CLASS_NAMES.values()]


def test_views_and_colors_keep_their_range():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 112, 112), dtype=torch.uint8, generator=generator)
    views = random_views(images, 64, generator)
    assert views.shape == (3, 3, 64, 64)
    changed = augment_colors(views, generator)
    assert changed.shape == views.shape and changed.min() >= 0 and changed.max() <= 255
    assert not torch.allclose(changed, views, atol=5)
    torch.testing.assert_close(augment_colors(views, generator, strength=0).std(), views.std(), rtol=0.05, atol=1)


def test_the_teacher_teaches_the_small_clip_and_the_dense_encoder(scenes, classes):
    targets = Targets(classes, {file: [classes[0][0]] for file in scenes.files})
    imagenet = ImageTower({}, CHANNELS).model.stages.state_dict()
    teacher = train_teacher(scenes, targets, imagenet, epochs=0.4, seed=1)
    start = teacher.model.stages.state_dict()
    assert not torch.equal(start["conv_stem.weight"], imagenet["conv_stem.weight"])
    clip = train_clip(teacher, scenes, targets, epochs=1.7, seed=1)  # a fifth of it with repeated borders
    assert any(type(module).__name__ == "BorderRepeatingConv2d" for module in clip.model.modules())
    assert clip.model.channels == (16, 24, 112)
    accuracies = classify(clip, scenes, classes)
    assert accuracies.keys() == CLASS_NAMES.keys() and all(0 <= value <= 100 for value in accuracies.values())
    satellite = torch.randint(0, 256, (6, 3, 112, 112), dtype=torch.uint8)
    dense = train_dense(teacher, scenes, satellite, iterations=1, seed=1)
    with torch.no_grad():
        features = torch.cat([dense((image[None].float() - 127.5) / 127.5)[-1] for image in satellite])
    torch.testing.assert_close(features.mean(dim=(0, 2, 3)), torch.zeros(112), rtol=0, atol=1e-2)
    torch.testing.assert_close(features.var(dim=(0, 2, 3)), torch.ones(112), rtol=0, atol=0.05)


def test_the_same_seed_gives_the_same_encoder(scenes, classes):
    imagenet = ImageTower({}, CHANNELS).model.stages.state_dict()
    first, second = (train_teacher(scenes, Targets(classes, {}), imagenet, epochs=0.4, seed=seed) for seed in (3, 3))
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, second.state_dict()[name])
