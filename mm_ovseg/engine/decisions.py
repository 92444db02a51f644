"""The decision for a model and some class names, as users get it."""

from collections.abc import Mapping, Sequence

from mm_ovseg.decision import Calibration, Decision
from mm_ovseg.modeling.meta_arch.segmenter import OpenVocabularySegmenter
from mm_ovseg.modeling.same_names import find_same_names
from mm_ovseg.vocabulary import GENERIC_CLASSES

__all__ = ["build_decision"]


def build_decision(
    model: OpenVocabularySegmenter,
    calibration: Calibration | None,
    class_names: Sequence[str],
    *,
    background: Sequence[str] | None = None,
    min_score: float | Mapping[str, float] | None = None,
) -> Decision:
    """The decision for a vocabulary, with what training saw of it where that matters.

    Args:
        model: says what training saw, if the calibration does not.
        calibration: of its scores.
        class_names, background, min_score: see :class:`~mm_ovseg.decision.Decision`, with its errors.

    Raises:
        VocabularyError: a name is too long for the text encoder.
    """
    options = {"background": background, "min_score": min_score, "calibration": calibration}
    decision = Decision(class_names, **options)
    if calibration is None and len(decision.classes) > 1:
        return decision
    model.text.check_length(decision.names)
    trained = tuple(calibration.min_scores) if calibration else model.train_vocabulary
    others = trained or (GENERIC_CLASSES if model.relative_scores else ())
    same = find_same_names(model.text, decision.names, others)
    asked = {other for name in decision.classes for other in same.get(name, ())}
    rivals = [name for name in others if name not in asked]
    return Decision(class_names, seen=same if trained else {}, rivals=rivals, **options)
