"""From scores to a map: which class a pixel gets, or none of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from mm_ovseg.errors import ConfigError, VocabularyError
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["MAX_CLASSES", "NODATA_CLASS", "NONE_CLASS", "NONE_NAME", "Calibration", "Decision"]

NODATA_CLASS = 255  # nothing is known of the pixel
NONE_CLASS = 254  # it is none of the classes
NONE_NAME = "none"
MAX_CLASSES = NONE_CLASS  # of a uint8 map

SINGLE_NAME_MIN_SCORE = 0.5  # of one name alone that training saw, without a calibration
EPSILON = 1e-6  # keeps logits finite
# The more names that training never saw are asked for, the more often one of them wins by chance. A few are taken at
# their word; the margin that more of them need grows with the logarithm of their number.
TRUSTED_NAMES, CALIBRATED_NAMES = 5, 20


@dataclass(frozen=True)
class Calibration:
    """The numbers that make a model's scores probabilities: sigmoid(scale * logit(score) + bias).

    Attributes:
        scale: above 0, so that the order of scores stays.
        bias: of the logit.
        min_score: probability, 0..1, below which a name that is not in ``min_scores`` is not mapped.
        min_scores: the same for the classes that it was fitted on, those that training saw.
        margin: logit by which 20 names that training never saw must exceed those that it saw.
    """

    scale: float = 1.0
    bias: float = 0.0
    min_score: float = 0.0
    min_scores: Mapping[str, float] = field(default_factory=dict)
    margin: float = 0.0

    def margin_of(self, count: int) -> float:
        """The margin for this number of names that training never saw; 0 for up to 5."""
        if count <= TRUSTED_NAMES:
            return 0.0
        return self.margin * math.log(count / TRUSTED_NAMES) / math.log(CALIBRATED_NAMES / TRUSTED_NAMES)

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Probabilities of scores of any shape, 0..1."""
        return (self.scale * _logits(scores) + self.bias).sigmoid()


class Decision:
    """How the scores of some names become a map of some classes.

    The name with the highest score wins, the earlier one in a tie. The pixel is "none" if that is a background name, or
    if the score of the class is below its minimum. Without background and minimum this is the plain argmax.

    Args:
        classes: T names, the classes of the map, at most 254.
        background: K names that compete with the classes, and are mapped to "none"; None: the ``rivals`` if there is
            one class only, or a calibration, and otherwise nothing.
        min_score: minimum score, 0..1: of all classes, or by name; 0: none. By default, and for names that are not
            in it, the calibration's. Without one, several classes need none, and a class alone needs 0.5 if training
            saw it or nothing competes with it.
        calibration: turns scores into probabilities, which minimums and confidences then are.
        seen: names, of the classes and the background, that training saw -> the classes that they mean.
        rivals: the classes of the training that none of the classes means.

    Attributes:
        names: the T + K names to ask the model for, classes first.
        min_scores: the minimum score of each class.
        margin: by which the logits of names that training never saw must exceed the others to win.

    Raises:
        VocabularyError: names are empty, repeated, or too many, or a class is called "none" in a map with such pixels.
        ConfigError: a minimum is not within 0..1, or is that of an unknown class.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        background: Sequence[str] | None = None,
        min_score: float | Mapping[str, float] | None = None,
        calibration: Calibration | None = None,
        seen: Mapping[str, Sequence[str]] = {},  # noqa: B006 (never changed)
        rivals: Sequence[str] = (),
    ) -> None:
        self.classes = validate_class_names(classes)
        if len(self.classes) > MAX_CLASSES:
            raise VocabularyError(f"There are {len(classes)} class names; a uint8 map holds at most {MAX_CLASSES}.")
        if background is None:
            background = rivals if len(self.classes) == 1 or calibration is not None else ()
        self.background = validate_class_names(background) if background else ()
        self.names = validate_class_names([*self.classes, *self.background])
        self.calibration = calibration
        self.min_scores = self._min_scores(min_score, seen)
        self._unseen = [place for place, name in enumerate(self.names) if name not in {**seen, **dict.fromkeys(rivals)}]
        self.margin = 0.0 if calibration is None else calibration.margin_of(len(self._unseen))
        if self.has_none and any(name.casefold() == NONE_NAME for name in self.classes):
            raise VocabularyError(f'A class is called "{NONE_NAME}", which means none of the classes; rename it.')

    @property
    def has_none(self) -> bool:
        """Whether a pixel may be none of the classes."""
        return bool(self.background) or any(minimum > 0 for minimum in self.min_scores)

    def __call__(self, scores: torch.Tensor, valid: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Decide.

        Args:
            scores: (T + K, H, W), as of the model for :attr:`names`.
            valid: bool (H, W), where there is something to decide on; None: everywhere.

        Returns:
            The map, uint8 (H, W): a class 0..T-1, :data:`NONE_CLASS`, or :data:`NODATA_CLASS`. And the confidence,
            float32 (H, W): the (calibrated) score of the pixel's class, or, where it is "none", 1 minus that of its
            best class, and 0 without data.
        """
        scores = self.calibrated(scores)
        count = len(self.classes)
        strengths = self._strengths(scores)
        best, indices = strengths[:count].max(dim=0)
        confidence = scores[:count].gather(0, indices[None])[0]
        class_map = indices.to(torch.uint8)
        if self.has_none:
            minimums = torch.tensor(self.min_scores, dtype=scores.dtype, device=scores.device)
            none = confidence < minimums[indices]
            if self.background:
                none |= strengths[count:].amax(dim=0) > best
            confidence = torch.where(none, (1 - confidence).clamp_(min=0), confidence)
            class_map.masked_fill_(none, NONE_CLASS)
        if valid is not None:
            class_map.masked_fill_(~valid, NODATA_CLASS)
            confidence = confidence.masked_fill(~valid, 0)
        return class_map, confidence

    def settings(self) -> dict[str, Any]:
        """Everything that the map depends on besides the scores, for JSON."""
        return {
            "classes": list(self.classes),
            "background": list(self.background),
            "min_scores": list(self.min_scores),
            "margin": self.margin,
            "calibration": None if self.calibration is None else asdict(self.calibration),
        }

    def calibrated(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores of any shape as probabilities, or as they are without a calibration."""
        return scores if self.calibration is None else self.calibration(scores)

    def _strengths(self, scores: torch.Tensor) -> torch.Tensor:
        """What is compared: the scores (N, H, W), those of names that training never saw less the margin."""
        if not self.margin:
            return scores
        strengths = scores.clone()
        strengths[self._unseen] = (_logits(scores[self._unseen]) - self.margin).sigmoid()
        return strengths

    def _min_scores(
        self, given: float | Mapping[str, float] | None, seen: Mapping[str, Sequence[str]]
    ) -> tuple[float, ...]:
        by_class: Mapping[str, float] = {}
        default = 0.0
        if self.calibration is not None:
            by_class, default = self.calibration.min_scores, self.calibration.min_score
        elif len(self.names) == 1 or (len(self.classes) == 1 and self.classes[0] in seen):
            default = SINGLE_NAME_MIN_SCORE
        fitted = {name: [by_class[other] for other in seen.get(name, ()) if other in by_class] for name in self.classes}
        by_name = {name: min(minimums) for name, minimums in fitted.items() if minimums}
        if isinstance(given, Mapping):
            if unknown := [name for name in given if name not in self.classes]:
                raise ConfigError(
                    f"There is a minimum score for {', '.join(unknown)}, but the classes are "
                    f"{', '.join(self.classes)}; spell it like the class."
                )
            by_name |= given
        elif given is not None:
            by_name, default = {}, given
        minimums = tuple(float(by_name.get(name, default)) for name in self.classes)
        if wrong := [minimum for minimum in minimums if not 0 <= minimum <= 1]:
            raise ConfigError(f"A minimum score is {wrong[0]:g}; give a number from 0 to 1.")
        return minimums


def _logits(scores: torch.Tensor) -> torch.Tensor:
    return scores.clamp(EPSILON, 1 - EPSILON).logit()
