"""The small text tower, taught to meet the projected embeddings of a sentence encoder."""

import re
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from tqdm import trange

from sentinel.words import CLASS_NAMES, NOUNS, PROMPTS, in_prompt

__all__ = ["collect_texts", "distil", "embed", "start_from_targets", "texts_without"]

PROMPTED_WORDS = 15_000
LENGTH_GROUP = 64  # texts
TOKEN_SCALE = 0.5  # length of the token embeddings at the start


def collect_texts(words: Sequence[str], captions: Sequence[str], phrases: Sequence[str]) -> dict[str, float]:
    """The texts to train with, and how often each of them is drawn; the sum is 1.

    Args:
        words: the most frequent first; all bare, and the first ones each in one prompt.
        captions: as they are.
        phrases: half of them bare, the others in one prompt each.

    The names of land cover are in all prompts.
    """
    generator = np.random.default_rng(0)

    def prompted(texts: Sequence[str]) -> list[str]:
        return [in_prompt(text, PROMPTS[generator.integers(1, len(PROMPTS))]) for text in texts]

    half = len(phrases) // 2
    groups = (  # with their shares
        (words, 0.3),
        (prompted(words[:PROMPTED_WORDS]), 0.1),
        ([in_prompt(name, prompt) for prompt in PROMPTS for name in (*CLASS_NAMES, *NOUNS)], 0.2),
        ([*phrases[:half], *prompted(phrases[half:])], 0.25),
        (captions, 0.15),
    )
    frequencies: dict[str, float] = {}
    for texts, share in groups:
        for text in texts:
            frequencies[text] = frequencies.get(text, 0.0) + share / len(texts)
    return frequencies


def texts_without(texts: Sequence[str], words: Collection[str]) -> np.ndarray:
    """The indices of the texts in which none of these words occurs, nor its plural with s."""
    excluded = {*words, *(f"{word}s" for word in words)}
    return np.flatnonzero([excluded.isdisjoint(re.findall(r"[a-z]+", text.lower())) for text in texts])


def embed(tower: TextTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """Unit vectors (N, C) of token ids (N, L)."""
    # Texts of similar lengths together, without the padding, which behind the end of a text changes nothing.
    lengths = (tokens > 0).sum(1)
    order = lengths.argsort()
    mask = tower.attn_mask
    parts = []
    try:
        for rows in order.split(LENGTH_GROUP):
            length = int(lengths[rows[-1]])
            tower.attn_mask = mask[:length, :length]
            parts.append(tower(tokens[rows, :length]))
    finally:
        tower.attn_mask = mask
    return F.normalize(torch.cat(parts)[order.argsort()], dim=-1)


def start_from_targets(
    tower: TextTransformer, tokenizer: SimpleTokenizer, targets: Callable, without: Collection[str] = ()
) -> None:
    """Set the token embeddings, which are as wide as the targets, to the targets of the tokens' own texts.

    Training then starts from what the single words mean.

    Args:
        tower: changed in place.
        tokenizer: whose last two tokens start and end a text.
        targets: texts -> unit vectors (N, C).
        without: tokens with these texts keep their random embeddings.
    """
    texts = [tokenizer.decode([index]).strip() for index in range(tokenizer.vocab_size - 2)]
    kept = [index for index, text in enumerate(texts) if text and text not in without]
    vectors = torch.from_numpy(targets([texts[index] for index in kept]))
    with torch.no_grad():
        tower.token_embedding.weight[kept] = TOKEN_SCALE * vectors


def distil(
    tower: TextTransformer,
    tokenizer: Callable,
    texts: Sequence[str],
    frequencies: np.ndarray,
    targets: np.ndarray,
    *,
    iterations: int,
    seed: int,
    batch_size: int = 512,
    learning_rate: float = 3e-3,
    temperature: float = 0.05,
    show_progress: bool = False,
) -> list[float]:
    """Teach a text tower to meet the targets, and to rank the other texts of a batch as they do.

    Args:
        tower: trained in place, left in evaluation mode.
        tokenizer: texts -> token ids (N, L).
        texts: N texts.
        frequencies: (N,) float64, how often each is drawn; their sum is 1.
        targets: (N, C) unit vectors.
        iterations: training steps.
        seed: seed of the batches.
        batch_size: texts drawn per step.
        learning_rate: the maximum; it rises over the first 5% of the steps and falls as a cosine.
        temperature: of the similarities within a batch.
        show_progress: show a progress bar on stderr.

    Returns:
        1 - cosine with the target, the mean over each step's batch.
    """
    generator = np.random.default_rng(seed)
    tokens, goals = tokenizer(list(texts)), torch.from_numpy(targets)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=iterations, pct_start=0.05, cycle_momentum=False
    )
    tower.train()
    distances = []
    for _ in trange(iterations, desc="text distillation", disable=not show_progress):
        batch = np.unique(generator.choice(len(tokens), size=batch_size, p=frequencies))
        embeddings, goal = embed(tower, tokens[batch]), goals[batch]
        distance = 1 - (embeddings * goal).sum(1).mean()
        similarities = embeddings @ goal.T / temperature
        loss = distance + F.cross_entropy(similarities, torch.arange(len(batch)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        distances.append(distance.item())
    tower.eval()
    return distances
