"""Stand-ins for what teaches: a teacher of texts, and the packages of projects/sentinel/requirements.txt."""

import string
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import timm
import torch

__all__ = ["WORDS", "embed_words", "fake_imagenet", "fake_minilm", "fake_wordfreq"]

WORDS = ["river", "forest", "house", "table", "music", "bread"]


def embed_words(texts):
    """Unit vectors (N, 160) that are sums of those of the words."""
    vectors = np.stack([sum(_word_vector(word) for word in text.lower().split()) for text in texts])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@cache
def _word_vector(word):
    return np.random.default_rng(list(word.encode())).standard_normal(160)


def fake_wordfreq():
    """The package wordfreq, whose most frequent words are WORDS, and two others."""
    return SimpleNamespace(top_n_list=lambda language, n: [*WORDS, "loam", "tarn"][:n])


def fake_imagenet(folder: Path):
    """The package of EfficientNet-Lite0 with random weights, and these with timm's names; it has others, in order."""
    torch.manual_seed(0)
    weights = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    (folder / "models").mkdir(parents=True)
    torch.save({f"tensor{index}": tensor for index, tensor in enumerate(weights.values())}, folder / "models/a.pth")
    return SimpleNamespace(__spec__=SimpleNamespace(origin=str(folder / "__init__.py"))), weights


def fake_minilm(folder: Path):
    """The package of MiniLM, with one layer of random weights, whose tokens are letters."""
    from transformers import BertConfig, BertModel

    folder.mkdir()
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokens = [*special, *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=len(tokens), **sizes), add_pooling_layer=False).save_pretrained(folder)
    return SimpleNamespace(get_model_path=lambda: str(folder))
