import json

import open_clip
import pytest
import torch

from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone.text_tower import build_text_tower
from mm_ovseg.modeling.backbone.tokenizer import build_tokenizer

CLIP = "ViT-quickstart-16"
SMALL = "EfficientNet-Lite0-sentinel"
TEXTS = ["a photo of a mangrove in the scene", "ÜBER 12 Straßen & pont-neuf", "森林 🌲", "x" * 40, "don't", ""]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(SMALL)


def small_config(folder, vocab_size):
    text = {"context_length": 16, "vocab_size": vocab_size, "width": 32, "heads": 2, "layers": 1}
    path = folder / f"vocabulary-{vocab_size}.json"
    path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": {}, "text_cfg": text}))
    open_clip.add_model_config(path)
    return path.stem


def test_clips_own_vocabulary_is_unchanged():
    ours, theirs = build_tokenizer(CLIP), open_clip.get_tokenizer(CLIP)
    assert ours.encoder == theirs.encoder
    assert torch.equal(ours(TEXTS), theirs(TEXTS))


@pytest.mark.parametrize("text", TEXTS)
def test_ids_of_any_text_are_in_the_vocabulary_and_decode_to_it(tokenizer, text):
    ids = tokenizer.encode(text)
    assert all(0 <= index < 14334 for index in ids)
    assert tokenizer.decode(ids).replace(" ", "") == text.lower().replace(" ", "")


def test_the_last_two_ids_start_and_end_a_text(tokenizer):
    (row,) = tokenizer(["river"]).tolist()
    assert row == [14334, *tokenizer.encode("river"), 14335, *[0] * (32 - 3)]
    (cut,) = tokenizer(["river " * 40]).tolist()
    assert cut[0] == 14334 and cut[-1] == 14335


def test_frequent_words_keep_their_token_and_others_become_more(tokenizer):
    clip = build_tokenizer(CLIP)
    assert tokenizer.encode("river forest") == clip.encode("river forest")
    assert len(clip.encode("mangrove")) < len(tokenizer.encode("mangrove"))


def test_without_merges_each_byte_is_a_token(tmp_path):
    tokenizer = build_tokenizer(small_config(tmp_path, 514))
    assert len(tokenizer.encode("lake é")) == 4 + 2
    assert tokenizer.decode(tokenizer.encode("lake é")) == "lake é "


@pytest.mark.parametrize("vocab_size", [0, 513])
def test_a_vocabulary_without_room_for_all_bytes_is_refused(tmp_path, vocab_size):
    name = small_config(tmp_path, vocab_size)
    with pytest.raises(ConfigError, match=f"vocab_size of the config '{name}' is {vocab_size}; give at least 514"):
        build_text_tower(name)


@torch.no_grad()
def test_the_text_tower_is_that_of_the_whole_model():
    torch.manual_seed(0)
    whole = open_clip.create_model(CLIP, force_custom_text=True).eval()
    tower, tokenizer = build_text_tower(CLIP)
    tower.load_state_dict(whole.text.state_dict())
    tokens = tokenizer(["water", "a photo of a road"])
    torch.testing.assert_close(tower.eval()(tokens), whole.encode_text(tokens))


@torch.no_grad()
def test_the_small_tower_reads_up_to_the_end_of_the_text():
    torch.manual_seed(0)
    tower, tokenizer = build_text_tower(SMALL)
    assert sum(parameter.numel() for parameter in tower.parameters()) < 2.6e6
    tokens = tokenizer(["a lake", "a lake"])
    tokens[1, 10:] = 5  # behind the end, which has the highest id
    first, second = tower.eval()(tokens)
    assert first.shape == (128,)
    torch.testing.assert_close(first, second)
