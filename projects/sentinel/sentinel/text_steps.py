"""The steps that make the text tower: the teacher's targets, once, and the tower of a seed."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mm_ovseg.checkpoint.weights_file import load_weights_file, write_weights_file
from mm_ovseg.csv_table import read_table
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import write_json
from mm_ovseg.modeling.backbone.text_tower import build_text_tower
from sentinel.teacher import Teacher, fit_projection, project
from sentinel.text import collect_texts, distil, start_from_targets, texts_without
from sentinel.text_measure import held_out_words, measure_text
from sentinel.words import CLASS_NAMES, NOUNS, combine

__all__ = ["ITERATIONS", "frequent_words", "make_text", "read_captions", "teach_texts"]

ITERATIONS = 1000
WORDS = 60_000
PHRASES = 24_000
HELD_OUT_PHRASES = 500
COMMON = 4_000  # of the words and of the phrases, for the projection


def frequent_words(start: int, stop: int) -> list[str]:
    """English words of Latin letters, by their rank in wordfreq's list.

    Raises:
        ConfigError: wordfreq is missing.
    """
    try:
        from wordfreq import top_n_list
    except ImportError as error:
        raise ConfigError(
            f"The list of words is missing ({error}); run: pip install -r projects/sentinel/requirements.txt"
        ) from error
    return [word for word in top_n_list("en", stop)[start:] if word.isascii() and word.isalpha() and len(word) > 2]


def read_captions(path: Path) -> dict[str, list[str]]:
    """The captions of every image file, from a CSV file with the columns ``file`` and ``caption``.

    Raises:
        DataError: the file is missing, not such a table, or has no captions.
    """
    captions: dict[str, list[str]] = {}
    for _, row in read_table(path, required=("file", "caption"), optional=()):
        captions.setdefault(row["file"], []).append(row["caption"])
    if not captions:
        raise DataError(f"{path} has no captions; copy it again.")
    return captions


def phrases() -> tuple[list[str], list[str]]:
    """Phrases to train with, and others that are held out."""
    made = combine(PHRASES + HELD_OUT_PHRASES, np.random.default_rng(0))
    return made[:PHRASES], made[PHRASES:]


def teach_texts(
    folder: Path, words: Sequence[str], captions: Sequence[str], teacher: Teacher, channels: int
) -> tuple[dict[str, float], np.ndarray, dict[str, np.ndarray]]:
    """The texts to train with and their targets, from ``targets.safetensors`` if it is of these texts.

    Args:
        folder: where ``projection.safetensors`` (``mean`` (C,) and ``projection`` (C, D)) and ``targets.safetensors``
            are written.
        words: the most frequent first.
        captions: different ones.
        teacher: texts -> (N, C) unit vectors.
        channels: the number D of the targets' channels.

    Returns:
        The N texts with their frequencies, their targets (N, D), float32 unit vectors, and the projection from the
        teacher's embeddings.
    """
    known_phrases = phrases()[0]
    texts = collect_texts(words, captions, known_phrases)
    digest = hashlib.sha256("\n".join([str(channels), *texts]).encode()).digest()
    files = {name: folder / f"{name}.safetensors" for name in ("projection", "targets")}
    if all(path.is_file() for path in files.values()):
        targets = load_weights_file(files["targets"])
        if targets["texts"].numpy().tobytes() == digest:
            projection = {name: value.numpy() for name, value in load_weights_file(files["projection"]).items()}
            return texts, targets["targets"].numpy(), projection
    embeddings = teacher(list(texts))
    rows = {text: row for row, text in enumerate(texts)}
    groups = (captions, words[:COMMON], [*NOUNS, *known_phrases[:COMMON]])
    projection = fit_projection([embeddings[[rows[text] for text in group]] for group in groups], channels)
    targets = project(embeddings, projection)
    origin = {"origin": "all-MiniLM-L6-v2"}
    write_weights_file(files["projection"], {name: torch.from_numpy(v) for name, v in projection.items()}, origin)
    tensors = {"targets": torch.from_numpy(targets), "texts": torch.frombuffer(bytearray(digest), dtype=torch.uint8)}
    write_weights_file(files["targets"], tensors, origin)
    return texts, targets, projection


def make_text(
    folder: Path,
    captions: Sequence[str],
    *,
    name: str,
    teacher: Teacher,
    seed: int,
    iterations: int = ITERATIONS,
    hold_out: bool = False,
    show_progress: bool = False,
) -> dict[str, float]:
    """Train a text tower and measure it.

    Args:
        folder: where ``text_seedN.safetensors``, float16 with open_clip's names of a text tower, and
            ``text_seedN.json``, the measures, are written, and the files of :func:`teach_texts`; with ``hold_out`` the
            first two are ``text_seedN_held_out``.
        captions: of the images that will be trained with.
        name: a model config of open_clip.
        teacher: see :func:`teach_texts`.
        seed: of the weights and batches; the texts are always the same.
        iterations: training steps.
        hold_out: train without the words of :func:`held_out_words`, to measure them.
        show_progress: show a progress bar on stderr.

    Returns:
        The measures, see :func:`measure_text`.

    Raises:
        ConfigError: wordfreq is missing.
    """
    torch.manual_seed(seed)
    tower, tokenizer = build_text_tower(name)
    words = frequent_words(0, WORDS)
    texts, targets, projection = teach_texts(folder, words, sorted(set(captions)), teacher, tower.output_dim)
    held_out = held_out_words(words)
    excluded = held_out if hold_out else ()
    all_texts = list(texts)
    kept = texts_without(all_texts, excluded)
    frequencies = np.array(list(texts.values()))[kept]
    start_from_targets(
        tower, tokenizer, lambda texts: project(teacher(texts), projection), {*excluded, *(f"{w}s" for w in excluded)}
    )
    distil(
        tower,
        tokenizer,
        [all_texts[index] for index in kept],
        frequencies / frequencies.sum(),
        targets[kept],
        iterations=iterations,
        seed=seed,
        show_progress=show_progress,
    )
    tower.half().float()  # measured as it is stored
    rare = frequent_words(WORDS, 2 * WORDS)[:: max(1, WORDS // 1000)]
    groups = {
        "held-out words": held_out,
        "rare words": rare,
        "held-out phrases": phrases()[1],
        "class names": CLASS_NAMES,
    }
    measures = measure_text(tower, tokenizer, teacher, projection, groups)
    stem = f"text_seed{seed}" + ("_held_out" if hold_out else "")
    state_dict = {key: value.half() for key, value in tower.state_dict().items()}
    write_weights_file(folder / f"{stem}.safetensors", state_dict, {"origin": f"distilled from MiniLM, seed {seed}"})
    write_json(folder / f"{stem}.json", measures)
    return measures
