"""How well the text tower meets its teacher, on texts that it was not trained with."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from open_clip.transformer import TextTransformer

from sentinel.teacher import Teacher, project
from sentinel.text import embed
from sentinel.words import ADJECTIVES, CLASS_NAMES, LINKS, NOUNS, PROMPTS, split

__all__ = ["HELD_OUT_NAMES", "held_out_words", "measure_text"]

# Names of land cover by their meaning. A model trained to be measured sees none of them, in any text.
HELD_OUT_NAMES = {
    "water": split("reservoir; lagoon; fjord; brook; creek; estuary; harbour; tarn; loch; waterway"),
    "forest": split("jungle; timber; spruce; taiga; birch; grove; eucalyptus; conifers; copse; thicket; larch"),
    "farmland": split("wheat; barley; maize; soybean; rapeseed; sunflower; sugarcane; cabbage; cornfield; ploughland"),
    "grassland": split("savanna; prairie; steppe; lawn; turf; hay; pampas"),
    "city": split("suburb; metropolis; slum; skyscraper; apartment; dwelling; hamlet; township"),
    "wetland": split("mangrove; bog; fen; peatland; mire; bayou; quagmire"),
    "bare ground": split("dune; gravel; scree; badlands; mud; wasteland; clay"),
    "road": split("motorway; avenue; asphalt; expressway; freeway; boulevard"),
    "airport": split("hangar; tarmac; taxiway; airstrip; aerodrome"),
    "snow and ice": split("glacier; iceberg; permafrost; frost; avalanche"),
    "industrial area": split("refinery; warehouse; steelworks; chimney; sawmill; smelter"),
}


def held_out_words(words: Sequence[str], number: int = 500) -> list[str]:
    """The held-out names, and frequent words that are in no name, adjective or prompt, ``number`` in all.

    Args:
        words: the most frequent first; the first thousand are not held out.
        number: of words.
    """
    names = [name for group in HELD_OUT_NAMES.values() for name in group]
    used = set(" ".join((*CLASS_NAMES, *NOUNS, *ADJECTIVES, *LINKS, *PROMPTS, *HELD_OUT_NAMES)).lower().split())
    others = [word for word in words[1000:20000] if word not in used and word not in names]
    chosen = np.random.default_rng(1).permutation(len(others))[: number - len(names)]
    return names + [others[index] for index in chosen]


@torch.inference_mode()
def measure_text(
    tower: TextTransformer,
    tokenizer: Callable,
    teacher: Teacher,
    projection: dict[str, np.ndarray],
    groups: dict[str, Sequence[str]],
) -> dict[str, float]:
    """Compare the embeddings of a text tower with its teacher's.

    Args:
        tower, tokenizer: as trained.
        teacher, projection: that gave the targets.
        groups: texts by the name under which they are measured.

    Returns:
        For every group the mean cosine with the teacher, ``GROUP cosine``, and how often the class name, of
        ``CLASS_NAMES``, that is nearest for the teacher is the tower's nearest, or one of its nearest five:
        ``GROUP top-1`` and ``GROUP top-5``. Also how often the nearest key of ``HELD_OUT_NAMES`` has the meaning of its
        names: ``meaning`` and ``teacher's meaning``. All between 0 and 1, but cosines from -1.
    """

    def both(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        student = torch.cat([embed(tower, tokens) for tokens in tokenizer(list(texts)).split(256)])
        return student, torch.from_numpy(project(teacher(texts), projection))

    measures = {}
    names = both(CLASS_NAMES)
    for group, texts in groups.items():
        embeddings = both(texts)
        itself = torch.tensor([[text == name for name in CLASS_NAMES] for text in texts])
        ours, theirs = ((text @ name.T).masked_fill(itself, -2.0) for text, name in zip(embeddings, names, strict=True))
        hits = ours.topk(5).indices == theirs.argmax(1, keepdim=True)
        measures[f"{group} cosine"] = (embeddings[0] * embeddings[1]).sum(1).mean().item()
        measures[f"{group} top-1"] = hits[:, 0].float().mean().item()
        measures[f"{group} top-5"] = hits.any(1).float().mean().item()
    meanings = both(list(HELD_OUT_NAMES))
    held_out = both([name for group in HELD_OUT_NAMES.values() for name in group])
    truth = torch.tensor([index for index, group in enumerate(HELD_OUT_NAMES.values()) for _ in group])
    for whose, name, meaning in zip(("meaning", "teacher's meaning"), held_out, meanings, strict=True):
        measures[whose] = ((name @ meaning.T).argmax(1) == truth).float().mean().item()
    return measures
