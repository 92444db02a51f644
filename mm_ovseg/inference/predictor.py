"""From pairs of images, in files or in memory, to class maps."""

import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.data.augmentation import PairSample, build_augmentations
from mm_ovseg.data.mappers import model_item
from mm_ovseg.data.pair_reader import PairReader, Raster
from mm_ovseg.decision import Decision
from mm_ovseg.engine.calibration import load_calibration
from mm_ovseg.engine.decisions import build_decision
from mm_ovseg.errors import ConfigError, DataError, VocabularyError
from mm_ovseg.inference.batches import BatchRunner, check_batch_size
from mm_ovseg.inference.model_lock import ModelLock
from mm_ovseg.modeling.meta_arch.segmenter import EncodedItem, OpenVocabularySegmenter, needed_weights
from mm_ovseg.modeling.precision import allow_tf32
from mm_ovseg.modeling.weight_versions import weight_versions

__all__ = ["EncodedPair", "Prediction", "Predictor"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of a model for one pair.

    Attributes:
        class_map: uint8 (H, W), an index into ``classes``, 254 for none of them, or 255 where no image that the model
            can use has data.
        classes: T class names.
        confidence: float32 (H, W), the (calibrated) score 0..1 of the class in ``class_map``; where it is none of them,
            1 minus the highest score of a class; 0 without data. Scores of all classes do not sum to 1. EBSeg's are
            sums over queries, and may be above 1.
        scores: float32 (T, H, W), the (calibrated) scores of all classes; None unless requested.
        image: uint8 (H, W, 3), the RGB as the model saw it, 0..255; zeros for SAR alone.
        sar_image: uint8 (H, W, 3), the SAR as the model saw it, 0..255; None for a pair without SAR.
    """

    class_map: np.ndarray
    classes: tuple[str, ...]
    confidence: np.ndarray
    scores: np.ndarray | None
    image: np.ndarray
    sar_image: np.ndarray | None


@dataclass(frozen=True, eq=False)
class EncodedPair:
    """A pair that a predictor has read and encoded, to be asked for any names.

    It keeps the images and, on the model's device, its features: 4.4 MB for ViT-B/16 in float32, up to three times as
    much where RGB or SAR has gaps; EBSeg's, with the masks of its queries, take 11 MB for 640 pixels.

    Attributes:
        sample: the pair as read.
        encoded: all that the answers depend on but the names.
        model: the one that encoded the pair.
        versions: of its weights then, see :func:`~mm_ovseg.modeling.weight_versions.weight_versions`.
    """

    sample: PairSample
    encoded: EncodedItem
    model: weakref.ref[OpenVocabularySegmenter]
    versions: tuple


class Predictor:
    """A model with its weights and its vocabulary, ready to segment pairs.

    Encoding does not depend on the names. It takes nearly all of the time for a few of them; comparing grows with their
    number. So a pair can be encoded once and asked for other names, with other thresholds, again and again::

        pair = predictor.encode(rgb, sar)
        prediction = predictor.ask(pair)  # what predictor(rgb, sar) gives
        predictor.set_vocabulary(["water", "burnt forest"])
        prediction = predictor.ask(pair)

    Threads may share one: calls run one after another, and the names and scores of a result belong together. A thread
    that sets the vocabulary holds :attr:`lock`, so that no other thread changes it in between::

        with predictor.lock:
            predictor.set_vocabulary(["water", "road"])
            prediction = predictor(rgb, sar)

    Processes may not: in a fork, PyTorch could wait forever for threads that were not copied, so calls raise a
    :class:`~mm_ovseg.errors.ProcessError` there. Build a predictor in each process (gunicorn: without ``--preload``).

    Args:
        cfg: a config of a model that segments; ``INPUT.RGB`` and ``INPUT.SAR`` say how images (files or arrays) are
            read, ``INPUT.MIN_SIZE_TEST`` and ``MAX_SIZE_TEST`` how large the model sees them.
        class_names: at most 254 names; "water, river" is one class with two synonyms.
        background: names that compete with the classes, and are mapped to "none" (254); None: for one name alone, or
            with a calibration, the other classes that training saw; (): nothing.
        min_score: score 0..1, of all classes or by name, below which a pixel is "none"; None: as
            :class:`~mm_ovseg.decision.Decision` says.
        any_format: allow every local format that GDAL reads; False for untrusted files.

    Attributes:
        lock: held by each call and each change of the vocabulary; reentrant.
        calibration: of the weights, if there is one.
        decision: from the scores of the current vocabulary to the map.

    Raises:
        ConfigError: the model does not segment, the config moves pixels, or a minimum score or an ``INPUT`` setting is
            invalid.
        VocabularyError: the names are empty, repeated, too many, or, for SegEarth-OV, only one.
        CheckpointError: ``MODEL.WEIGHTS`` or their calibration cannot be loaded.
    """

    @torch.inference_mode(False)  # whatever the caller's mode: weights made in it could never change again
    def __init__(
        self,
        cfg: CfgNode,
        class_names: Sequence[str],
        *,
        background: Sequence[str] | None = None,
        min_score: float | Mapping[str, float] | None = None,
        any_format: bool = True,
    ) -> None:
        name = cfg.MODEL.META_ARCHITECTURE
        if getattr(META_ARCH_REGISTRY.get(name), "task", None) != "sem_seg":
            raise ConfigError(f"This config builds {name}, which cannot segment; give a config of MMOVSeg, for one.")
        if cfg.INPUT.RELEASED_GEOMETRY:
            raise ConfigError(
                "INPUT.RELEASED_GEOMETRY is on, but in maps SAR must lie on RGB: it is for evaluation only; set it to "
                "False."
            )
        if cfg.INPUT.DATASET_MAPPER_NAME not in ("rgb_sar_semantic", "rgb_sar_pair"):
            logger.warning(
                "INPUT.DATASET_MAPPER_NAME %s is not used here; images are read as INPUT.RGB and INPUT.SAR say.",
                cfg.INPUT.DATASET_MAPPER_NAME,
            )
        self.lock = ModelLock()
        self._resize = build_augmentations(cfg, is_train=False)
        self.skip_corrupt = cfg.INPUT.SKIP_CORRUPT
        allow_tf32(cfg.MODEL.ALLOW_TF32)
        self.model = build_model(cfg)
        self.reader = PairReader.from_config(cfg, any_format=any_format, warn=True, may_lack_one=self.model.needs_sar)
        self.calibration = load_calibration(cfg)
        self.model.eval()
        self.model.text.check_length(Decision(class_names).names)  # before loading weights, which takes longer
        if cfg.MODEL.WEIGHTS:
            StrictCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        self.set_vocabulary(class_names, background=background, min_score=min_score)
        key, weights = needed_weights(cfg)
        if not weights:
            logger.warning("%s is empty: weights are random, and so are the maps.", key)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the map."""
        return self.decision.classes

    def set_vocabulary(
        self,
        class_names: Sequence[str],
        *,
        background: Sequence[str] | None = None,
        min_score: float | Mapping[str, float] | None = None,
    ) -> None:
        """Change the vocabulary; its text embeddings are computed once, for the next pair.

        Args:
            class_names, background, min_score: as in the class.

        Raises:
            ConfigError: a minimum score is invalid.
            VocabularyError: the names are empty, repeated, too many, or, for SegEarth-OV, only one.
        """
        with self.lock:
            options = {"background": background, "min_score": min_score}
            decision = build_decision(self.model, self.calibration, class_names, **options)
            if self.model.relative_scores and len(decision.names) == 1:
                raise VocabularyError(
                    f"{type(self.model).__name__} only compares names with each other, and would find "
                    f"'{decision.names[0]}' everywhere; give other classes too, or --background names."
                )
            self.model.set_vocabulary(decision.names)
            self.decision = decision
        if background is None and decision.background:
            logger.info(
                'Pixels that look more like %s than like what is asked for are "none"; --background names others.',
                ", ".join(decision.background),
            )

    def __call__(self, rgb: Raster | None, sar: Raster | None, *, with_scores: bool = False) -> Prediction | None:
        """Segment one pair.

        Args:
            rgb, sar: as in :meth:`encode`.
            with_scores: also return the scores of all classes.

        Returns:
            The prediction; None if an image cannot be used and ``INPUT.SKIP_CORRUPT`` is on.

        Raises:
            ConfigError: memory does not hold the pair.
            DataError, ProcessError: as in :meth:`encode`.
        """
        sample = self._read(rgb, sar, "")
        if sample is None:
            return None
        with self.lock:
            return self._answer(sample, self._encode(sample), with_scores)

    def encode(self, rgb: Raster | None, sar: Raster | None) -> EncodedPair | None:
        """Read and encode one pair, to :meth:`ask` it for any names.

        Args:
            rgb: a file, or an array (H, W, 3) of red, green and blue: uint8, or other types with ``INPUT.RGB.RANGE``;
                with ``INPUT.RGB.BANDS``, an array (H, W, C); None to use SAR alone, as is done where RGB has no data.
            sar: a file, or an array (H, W) or (H, W, C) on the same grid: uint8, or, with ``INPUT.SAR.SCALE``, power,
                amplitude or dB; None to use RGB alone, as is done where SAR has no data. NaN in floats and masked
                pixels of masked arrays mean no data.

        Returns:
            The pair; None if an image cannot be used and ``INPUT.SKIP_CORRUPT`` is on.

        Raises:
            ConfigError: memory does not hold the pair, or the weights have no version counters.
            DataError: an image cannot be read or used, the two do not share a grid, or there is no data at all.
            ProcessError: this is a fork of the process that built the predictor.
        """
        sample = self._read(rgb, sar, "")
        if sample is None:
            return None
        with self.lock:
            versions = weight_versions(self.model)
            if versions is None:
                raise ConfigError(
                    "Weights changed under torch.inference_mode() have no version counters, so a stale pair could not "
                    "be noticed; change them outside it."
                )
            return EncodedPair(sample, self._encode(sample), weakref.ref(self.model), versions)

    def ask(self, pair: EncodedPair | None, *, with_scores: bool = False) -> Prediction | None:
        """Segment an encoded pair by the current vocabulary and thresholds.

        Args:
            pair: from :meth:`encode`.
            with_scores: also return the scores of all classes.

        Returns:
            The prediction, the same as of a call with the images; None for None.

        Raises:
            ConfigError: another model or other weights encoded the pair, or memory does not hold it.
            ProcessError: as in :meth:`encode`.
        """
        if pair is None:
            return None
        with self.lock:
            if pair.model() is not self.model:
                raise ConfigError("This pair was encoded by another predictor; encode it again with this one.")
            if pair.versions != weight_versions(self.model):
                raise ConfigError("The model's weights have changed since this pair was encoded; encode it again.")
            return self._answer(pair.sample, pair.encoded, with_scores)

    def batch(
        self, pairs: Iterable[tuple[Raster | None, Raster | None]], *, batch_size: int = 4, with_scores: bool = False
    ) -> list[Prediction | None]:
        """Segment many pairs of any sizes, also of RGB or SAR alone.

        Args:
            pairs: (rgb, sar) of each, as in a single call.
            batch_size: pairs per batch; reduced if memory does not hold them.
            with_scores: also return the scores of all classes.

        Returns:
            The same results as single calls, in the order of ``pairs``.

        Raises:
            ConfigError: the batch size is not a positive whole number, or memory does not hold one pair.
            DataError: no pair is given, or one cannot be used; the message starts with its index, from 0.
            ProcessError: as for single calls.
        """
        check_batch_size(batch_size)
        if not isinstance(pairs, Iterable):
            raise DataError(f"The pairs are given as {type(pairs).__name__}; give a list of (rgb, sar).")
        pairs = list(pairs)
        if not pairs:
            raise DataError("There are no pairs to segment; give at least one (rgb, sar).")
        for index, pair in enumerate(pairs):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise DataError(f"Pair {index} is not (rgb, sar); give two paths or arrays, or None for one.")
        predictions, run_batch = [], BatchRunner(self.model)
        with self.lock:
            for start in range(0, len(pairs), batch_size):
                chunk = enumerate(pairs[start : start + batch_size], start)
                samples = [self._read(rgb, sar, f"Pair {index}: ") for index, (rgb, sar) in chunk]
                outputs = iter(run_batch([self._item(sample) for sample in samples if sample is not None]))
                predictions += [
                    None if sample is None else self._prediction(sample, next(outputs)["sem_seg"], with_scores)
                    for sample in samples
                ]
        return predictions

    def _read(self, rgb: Raster | None, sar: Raster | None, prefix: str) -> PairSample | None:
        """The arrays of a pair; None if it is skipped. Errors start with ``prefix``."""
        try:
            return self.reader.read(rgb, sar)
        except DataError as error:
            if not self.skip_corrupt:
                raise DataError(f"{prefix}{error}") from error
            logger.warning("Skipping a pair (INPUT.SKIP_CORRUPT): %s%s", prefix, error)
            return None

    def _item(self, sample: PairSample) -> dict:
        """What the model takes: as large as ``INPUT.MIN_SIZE_TEST`` asks, for an output of the pair's own size."""
        height, width = sample.image_valid.shape
        return model_item(self._resize(sample)) | {"height": height, "width": width}

    def _encode(self, sample: PairSample) -> EncodedItem:
        (encoded,) = BatchRunner(self.model.encode)([self._item(sample)])
        return encoded

    def _answer(self, sample: PairSample, encoded: EncodedItem, with_scores: bool) -> Prediction:
        (scores,) = BatchRunner(self.model.answer)([encoded])
        return self._prediction(sample, scores, with_scores)

    def _prediction(self, sample: PairSample, scores: torch.Tensor, with_scores: bool) -> Prediction:
        """The prediction for a pair from the scores (N, H, W) of the names of :attr:`decision`."""
        decision = self.decision
        valid = sample.image_valid
        if self.model.needs_sar and sample.sar_valid is not None:
            valid = valid | sample.sar_valid
        valid = torch.from_numpy(valid).to(scores.device)
        class_map, confidence = decision(scores, valid)
        if with_scores:
            scores = decision.calibrated(scores[: len(decision.classes)]).masked_fill(~valid, 0)  # (T, H, W)
        return Prediction(
            class_map=class_map.cpu().numpy(),
            classes=decision.classes,
            confidence=confidence.cpu().numpy(),
            scores=scores.cpu().numpy() if with_scores else None,
            image=sample.image.copy(),  # the caller may change it, and the pair may be asked again
            sar_image=None if sample.sar_image is None else np.rint(sample.sar_image).astype(np.uint8),
        )
