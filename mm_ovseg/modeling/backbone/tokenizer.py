"""CLIP's tokenizer, also for text towers with a smaller vocabulary."""

from collections.abc import Callable

import open_clip
from open_clip.tokenizer import SimpleTokenizer

from mm_ovseg.errors import ConfigError

__all__ = ["build_tokenizer"]


def build_tokenizer(name: str) -> Callable:
    """The tokenizer of open_clip's model ``name``: texts -> token ids (N, L), below the config's ``vocab_size``.

    A config with a smaller ``vocab_size`` than CLIP's 49408 gets CLIP's tokenizer with as many of its merges, which are
    in the order of their frequency; rarer words become more tokens.

    Raises:
        ConfigError: ``vocab_size`` is smaller than the number of tokens that are not merges, 514.
    """
    tokenizer = open_clip.get_tokenizer(name)
    if isinstance(tokenizer, SimpleTokenizer):
        vocab_size = open_clip.get_model_config(name)["text_cfg"].get("vocab_size", tokenizer.vocab_size)
        min_size = tokenizer.vocab_size - len(tokenizer.bpe_ranks)  # bytes, bytes at the end of a word, special tokens
        if vocab_size < min_size:
            raise ConfigError(f"text_cfg.vocab_size of the config '{name}' is {vocab_size}; give at least {min_size}.")
        if vocab_size < tokenizer.vocab_size:
            _remove_merges(tokenizer, tokenizer.vocab_size - vocab_size)
    return tokenizer


def _remove_merges(tokenizer: SimpleTokenizer, number: int) -> None:
    """Remove the ``number`` rarest merges and their tokens; the special tokens keep the last ids."""
    merges = len(tokenizer.bpe_ranks) - number
    tokens = list(tokenizer.encoder)  # bytes, bytes at the end of a word, merges, special tokens
    special = tokens[-len(tokenizer.all_special_ids) :]
    tokens = tokens[: len(tokens) - len(special) - number] + special
    tokenizer.encoder = {token: index for index, token in enumerate(tokens)}
    tokenizer.decoder = dict(enumerate(tokens))
    tokenizer.bpe_ranks = dict(list(tokenizer.bpe_ranks.items())[:merges])
    tokenizer.vocab_size = len(tokens)
    tokenizer.all_special_ids = [tokenizer.encoder[token] for token in special]
    tokenizer.sot_token_id, tokenizer.eot_token_id = tokenizer.all_special_ids[:2]
