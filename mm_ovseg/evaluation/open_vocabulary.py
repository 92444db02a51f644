"""Two tests of an open vocabulary: names of what is not there, and each name asked for alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from mm_ovseg.decision import MAX_CLASSES, NONE_CLASS, Decision
from mm_ovseg.errors import ConfigError
from mm_ovseg.evaluation.metrics import intersection_over_union
from mm_ovseg.plain_data import parse_json, read_text
from mm_ovseg.vocabulary import split_synonyms

__all__ = ["CALIBRATION_NAMES", "AbsentNames", "Decide", "SingleNames", "absent_names", "choose_absent_names"]

# Name -> words of classes that it may belong to; calibrations are fitted with other names than those of the test.
ABSENT_NAMES, CALIBRATION_NAMES = map(Path(__file__).with_name, ("absent_names.json", "calibration_names.json"))
Decide = Callable[[Sequence[str]], Decision]
PARTS = ("right", "wrong", "absent-classes", "distractors", "none")


def choose_absent_names(count: int, names: Sequence[str]) -> tuple[str, ...]:
    """The first names of :func:`absent_names`.

    Args:
        count: how many; ``TEST.ABSENT_NAMES``.
        names: the dataset's.

    Raises:
        ConfigError: there are fewer.
    """
    suitable = absent_names(names)[: max(0, MAX_CLASSES - len(names))]
    if not 0 < count <= len(suitable):
        raise ConfigError(
            f"TEST.ABSENT_NAMES is {count}; give 1 to {len(suitable)}, the number of names in {ABSENT_NAMES} that have "
            f"nothing to do with {', '.join(names)}, or 0 to leave out this test."
        )
    return suitable[:count]


def absent_names(names: Sequence[str], path: Path = ABSENT_NAMES) -> tuple[str, ...]:
    """The names of a shipped list that share no word with some names, nor do the words related to them."""
    related = parse_json(read_text(path))
    words = {word.casefold() for name in names for synonym in split_synonyms(name) for word in synonym.split()}
    return tuple(name for name, others in related.items() if not words & {*name.split(), *others})


class AbsentNames:
    """Asks for names of what is not there beside those of the dataset, and counts the pixels that they get.

    Args:
        names: T names of the dataset's classes, as the model is asked for them.
        distractors: names of what is nowhere in the dataset.
        decide: names -> the decision that users get.

    Attributes:
        counts: int64 (2, 5): pixels by the plain argmax and by the decision that users get, which are right; of
            another class of the image; of a class of the dataset that has no labelled pixel in the image; of a
            distractor; of none.
    """

    name = "absent_names"

    def __init__(self, names: Sequence[str], distractors: Sequence[str], decide: Decide) -> None:
        self._num_classes = len(names)
        decision = decide((*names, *distractors))
        self._decisions = {"argmax": Decision(decision.classes, min_score=0.0), "decision": decision}
        # The decision may ask for a background too.
        self.vocabularies = tuple(dict.fromkeys(decision.names for decision in self._decisions.values()))
        self.counts = np.zeros((len(self._decisions), len(PARTS)), np.int64)

    def add(self, label: np.ndarray, counted: np.ndarray, output: Mapping[str, torch.Tensor]) -> None:
        """Count the pixels of one image; arguments as of :class:`~mm_ovseg.evaluation.pixel_test.PixelTest`."""
        label = label[counted]
        part_of = np.full(256, PARTS.index("distractors"))
        part_of[: self._num_classes] = PARTS.index("absent-classes")
        part_of[np.unique(label)] = PARTS.index("wrong")
        part_of[NONE_CLASS] = PARTS.index("none")
        answers = split_answers(output[self.name], self.vocabularies)
        for counts, decision in zip(self.counts, self._decisions.values(), strict=True):
            class_map = decision(answers[decision.names])[0].cpu().numpy()[counted]
            parts = np.where(class_map == label, PARTS.index("right"), part_of[class_map])
            counts += np.bincount(parts, minlength=len(PARTS))

    def results(self, counts: np.ndarray) -> dict[str, float]:
        """Shares of the labelled pixels in percent; "absent" is the sum of the absent classes and the distractors."""
        results = {}
        for kind, shares in zip(self._decisions, 100 * counts / counts.sum(axis=1, keepdims=True), strict=True):
            of_kind = dict(zip(PARTS, shares.tolist(), strict=True))
            of_kind["absent"] = of_kind["absent-classes"] + of_kind["distractors"]
            results |= {f"{kind}-{part}": share for part, share in of_kind.items()}
        return results


class SingleNames:
    """Asks for each name alone: where is it, and where not?

    Args:
        names: T names of the dataset's classes, as the model is asked for them.
        classes: what they are called in the results.
        unseen_classes: those of them whose labels training did not see.
        decide: names -> the decision that users get.

    Attributes:
        counts: int64 (T, 3): pixels of a class that are mapped, that are mapped at all, that are of the class at all.
    """

    name = "single_names"

    def __init__(
        self, names: Sequence[str], classes: Sequence[str], unseen_classes: Sequence[str], decide: Decide
    ) -> None:
        self._classes, self._unseen_classes = classes, unseen_classes
        self._decisions = [decide([name]) for name in names]
        self.vocabularies = tuple(dict.fromkeys(decision.names for decision in self._decisions))
        self.counts = np.zeros((len(names), 3), np.int64)

    def add(self, label: np.ndarray, counted: np.ndarray, output: Mapping[str, torch.Tensor]) -> None:
        """Count the pixels of one image; arguments as of :class:`~mm_ovseg.evaluation.pixel_test.PixelTest`."""
        label = label[counted]
        answers = split_answers(output[self.name], self.vocabularies)
        for index, decision in enumerate(self._decisions):
            mapped = decision(answers[decision.names])[0].cpu().numpy()[counted] != NONE_CLASS
            of_class = label == index
            self.counts[index] += [(mapped & of_class).sum(), mapped.sum(), of_class.sum()]

    def results(self, counts: np.ndarray) -> dict[str, float]:
        """IoU of each class, and its means; as of :func:`~mm_ovseg.evaluation.segmentation_metrics`."""
        both, mapped, of_class = counts.T.astype(np.float64)
        return intersection_over_union(both, of_class, mapped, self._classes, self._unseen_classes)


def split_answers(scores: torch.Tensor, vocabularies: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], torch.Tensor]:
    """Vocabulary -> its scores (names, H, W), of the scores of all (all their names, H, W)."""
    parts = scores.split([len(vocabulary) for vocabulary in vocabularies])
    return dict(zip(vocabularies, parts, strict=True))
