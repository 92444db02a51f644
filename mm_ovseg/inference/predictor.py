"""From pairs of images, in files or in memory, to class maps."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.data.augmentation import PairSample, build_augmentations
from mm_ovseg.data.mappers import model_item
from mm_ovseg.data.pair_reader import PairReader, Raster
from mm_ovseg.engine.calibration import load_calibration
from mm_ovseg.errors import ConfigError, DataError, VocabularyError
from mm_ovseg.inference.batches import BatchRunner, check_batch_size
from mm_ovseg.inference.map_writer import NODATA_CLASS
from mm_ovseg.inference.model_lock import ModelLock
from mm_ovseg.modeling.meta_arch.segmenter import needed_weights
from mm_ovseg.modeling.precision import allow_tf32
from mm_ovseg.vocabulary import validate_class_names

__all__ = ["Prediction", "Predictor"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of a model for one pair.

    Attributes:
        class_map: uint8 (H, W), an index into ``classes``, or 255 where RGB has no data.
        classes: T class names.
        confidence: float32 (H, W), the score 0..1 of the class in ``class_map``; 0 where RGB has no data. Scores of all
            classes do not sum to 1. EBSeg's are sums over queries, and may be above 1.
        scores: float32 (T, H, W), the scores of all classes; None unless requested.
        image: uint8 (H, W, 3), the RGB as the model saw it, 0..255.
        sar_image: uint8 (H, W, 3), the SAR as the model saw it, 0..255; None for a pair without SAR.
    """

    class_map: np.ndarray
    classes: tuple[str, ...]
    confidence: np.ndarray
    scores: np.ndarray | None
    image: np.ndarray
    sar_image: np.ndarray | None


class Predictor:
    """A model with its weights and its vocabulary, ready to segment pairs.

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
        class_names: at most 255 names; "water, river" is one class with two synonyms.
        any_format: allow every local format that GDAL reads; False for untrusted files.

    Attributes:
        lock: held by each call and each change of the vocabulary; reentrant.
        calibration: of the weights, if there is one.

    Raises:
        ConfigError: the model does not segment, the config moves pixels, or an ``INPUT`` setting is invalid.
        VocabularyError: the names are empty, repeated, or too many.
        CheckpointError: ``MODEL.WEIGHTS`` or their calibration cannot be loaded.
    """

    @torch.inference_mode(False)  # whatever the caller's mode: weights made in it could never change again
    def __init__(self, cfg: CfgNode, class_names: Sequence[str], *, any_format: bool = True) -> None:
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
        self.reader = PairReader.from_config(cfg, any_format=any_format, warn=True)
        self._resize = build_augmentations(cfg, is_train=False)
        self.skip_corrupt = cfg.INPUT.SKIP_CORRUPT
        allow_tf32(cfg.MODEL.ALLOW_TF32)
        self.model = build_model(cfg)
        self.calibration = load_calibration(cfg)
        self.set_vocabulary(class_names)
        self.model.eval()
        if cfg.MODEL.WEIGHTS:
            StrictCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        key, weights = needed_weights(cfg)
        if not weights:
            logger.warning("%s is empty: weights are random, and so are the maps.", key)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The current vocabulary."""
        return self.model.vocabulary

    def set_vocabulary(self, class_names: Sequence[str]) -> None:
        """Change the vocabulary; its text embeddings are computed once, for the next pair.

        Raises:
            VocabularyError: the names are empty, repeated, or too many.
        """
        names = validate_class_names(class_names)
        if len(names) > NODATA_CLASS:
            raise VocabularyError(f"There are {len(names)} class names; a uint8 map holds at most {NODATA_CLASS}.")
        with self.lock:
            self.model.set_vocabulary(names)

    def __call__(self, rgb: Raster, sar: Raster | None, *, with_scores: bool = False) -> Prediction | None:
        """Segment one pair.

        Args:
            rgb: a file, or an array (H, W, 3) of red, green and blue: uint8, or other types with ``INPUT.RGB.RANGE``;
                with ``INPUT.RGB.BANDS``, an array (H, W, C).
            sar: a file, or an array (H, W) or (H, W, C) on the same grid: uint8, or, with ``INPUT.SAR.SCALE``, power,
                amplitude or dB; None to use RGB alone, as is done where SAR has no data. NaN in floats and masked
                pixels of masked arrays mean no data.
            with_scores: also return the scores of all classes.

        Returns:
            The prediction; None if an image cannot be used and ``INPUT.SKIP_CORRUPT`` is on.

        Raises:
            DataError: an image cannot be read or used, or the two do not share a grid.
            ProcessError: this is a fork of the process that built the predictor.
        """
        return self._predict([self._read(rgb, sar, "")], BatchRunner(self.model), with_scores)[0]

    def batch(
        self, pairs: Iterable[tuple[Raster, Raster | None]], *, batch_size: int = 4, with_scores: bool = False
    ) -> list[Prediction | None]:
        """Segment many pairs of any sizes, with or without SAR.

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
                raise DataError(f"Pair {index} is not (rgb, sar); give two paths or arrays, or None for SAR.")
        predictions, run_batch = [], BatchRunner(self.model)
        with self.lock:
            for start in range(0, len(pairs), batch_size):
                chunk = enumerate(pairs[start : start + batch_size], start)
                samples = [self._read(rgb, sar, f"Pair {index}: ") for index, (rgb, sar) in chunk]
                predictions += self._predict(samples, run_batch, with_scores)
        return predictions

    def _read(self, rgb: Raster, sar: Raster | None, prefix: str) -> PairSample | None:
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

    def _predict(
        self, samples: Sequence[PairSample | None], run_batch: BatchRunner, with_scores: bool
    ) -> list[Prediction | None]:
        read = [sample for sample in samples if sample is not None]
        with self.lock:
            classes = self.class_names
            outputs = iter(run_batch([self._item(sample) for sample in read]))
        return [
            None if sample is None else _prediction(sample, next(outputs)["sem_seg"], classes, with_scores)
            for sample in samples
        ]


def _prediction(sample: PairSample, scores: torch.Tensor, classes: tuple[str, ...], with_scores: bool) -> Prediction:
    """The prediction for a pair from its scores (T, H, W)."""
    empty = torch.from_numpy(~sample.image_valid).to(scores.device)
    confidence, class_map = scores.masked_fill_(empty, 0.0).max(dim=0)
    return Prediction(
        class_map=class_map.to(torch.uint8).masked_fill(empty, NODATA_CLASS).cpu().numpy(),
        classes=classes,
        confidence=confidence.cpu().numpy(),
        scores=scores.cpu().numpy() if with_scores else None,
        image=sample.image,
        sar_image=None if sample.sar_image is None else np.rint(sample.sar_image).astype(np.uint8),
    )
