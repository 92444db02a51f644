import numpy as np
import pytest
import torch

from mm_ovseg.checkpoint.weights_file import write_weights_file
from mm_ovseg.errors import CheckpointError
from sentinel.scenes import CLASS_NAMES
from sentinel.targets import read_targets
from sentinel.teacher import fit_projection, project
from tests.sentinel.teachers import embed_words


def test_classes_and_captions_are_projected(realtrain, tmp_path):
    projection = fit_projection([embed_words([name for names in CLASS_NAMES.values() for name in names.values()])], 20)
    path = tmp_path / "projection.safetensors"
    write_weights_file(path, {name: torch.from_numpy(value) for name, value in projection.items()}, {})
    targets = read_targets(realtrain, path, embed_words)
    classes, captions = targets.classes, targets.captions
    assert [tuple(of_set.shape) for of_set in classes] == [(len(names), 20) for names in CLASS_NAMES.values()]
    for of_set, names in zip(classes, CLASS_NAMES.values(), strict=True):
        torch.testing.assert_close(of_set.norm(dim=1), torch.ones(len(of_set)))
        bare = torch.from_numpy(project(embed_words(list(names.values())), projection)).float()
        assert ((of_set @ bare.T).argmax(dim=1) == torch.arange(len(names))).float().mean() > 0.9
    assert {file: len(texts) for file, texts in captions.items()} == {"Airport/000.jpg": 2, "Park/001.jpg": 1}
    expected = project(embed_words(["many planes", "a runway", "trees, a lake"]), projection)
    found = torch.stack([*captions["Airport/000.jpg"], *captions["Park/001.jpg"]])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_missing_projection(realtrain, tmp_path):
    with pytest.raises(CheckpointError, match="projection.safetensors does not exist"):
        read_targets(realtrain, tmp_path / "projection.safetensors", embed_words)
