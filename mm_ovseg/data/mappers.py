"""Dataset mappers: from a dataset dict to a batch item.

To add your own mapper, register a function ``(cfg, is_train) -> callable`` in :data:`DATASET_MAPPER_REGISTRY` and name
it in ``INPUT.DATASET_MAPPER_NAME``.
"""

import logging
import multiprocessing
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from fvcore.common.registry import Registry

from mm_ovseg.choices import check_registered
from mm_ovseg.data.augmentation import PairSample, build_augmentations
from mm_ovseg.data.modality_dropout import build_modality_dropout
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.data.sample_cache import SampleCache
from mm_ovseg.data.seen_labels import SeenLabelReader, build_seen_label_readers
from mm_ovseg.errors import ConfigError, DataError

__all__ = [
    "DATASET_MAPPER_REGISTRY",
    "RGBSARPairMapper",
    "RGBSARSemanticMapper",
    "UnreadableSampleError",
    "build_dataset_mapper",
    "model_item",
]

DATASET_MAPPER_REGISTRY = Registry("DATASET_MAPPER")
DATASET_MAPPER_REGISTRY.__doc__ = """
Registry of functions ``(cfg, is_train)`` that return a mapper: a callable that turns a dataset dict into a batch item.
"""

MAX_SKIPPED_IN_A_ROW = 100

logger = logging.getLogger(__name__)


class UnreadableSampleError(DataError):
    """A sample that cannot be used. Its message remains one sentence when raised in a data loader's worker."""

    def __init__(self, message: str) -> None:
        """Take the sentence, or PyTorch's version of it: the worker's traceback, which ends with the sentence."""
        _, found, sentence = message.rpartition(f"{type(self).__module__}.{type(self).__qualname__}: ")
        super().__init__(sentence.strip() if found else message)


class RGBSARPairMapper:
    """Reads a pair of RGB and SAR images and augments both.

    Calling it with a dataset dict gives the dict's entries and

    * ``image``: float32 (3, H, W), RGB, 0..255
    * ``sar_image``: float32 (3, H, W), 0..255
    * ``image_valid``, ``sar_valid``: bool (H, W), False where a file has no data and at padding; all True with
      ``INPUT.RELEASED_GEOMETRY``, and all False for an image that is left out
    * ``height``, ``width``: size of the files, at which the output is evaluated

    Attributes:
        entries: Entries of a dataset dict that it reads, all of which are paths.
        skipped: Number of skipped samples over all workers (``skipped.value``).
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        reader: PairReader,
        augmentation: Callable[[PairSample], PairSample],
        modality_dropout: Callable[[PairSample], PairSample] | None = None,
        skip_corrupt: bool = False,
        cache: SampleCache | None = None,
    ) -> None:
        """Make a mapper.

        Args:
            is_train: Whether items are for training.
            reader: Reads the files.
            augmentation: Applied to a pair after reading.
            modality_dropout: Applied after that; None to leave out neither image.
            skip_corrupt: Log and count an unusable sample. Return None in training, so that the loader takes another
                one, and the dataset dict with the reason under ``skipped`` in evaluation.
            cache: Cache for samples that have been read; None for none.
        """
        self.is_train = is_train
        self.entries: tuple[str, ...] = ("file_name", "sar_file_name")
        self.reader = reader
        self.augmentation = augmentation
        self.modality_dropout = modality_dropout
        self.skip_corrupt = skip_corrupt
        self.cache = cache
        self.skipped = multiprocessing.Value("q", 0)
        self._skipped_in_a_row = 0
        self._reported: set[str] = set()

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> dict:
        """Arguments from ``INPUT`` and ``DATALOADER.CACHE_DIR``."""
        draws_speckle = is_train and cfg.INPUT.SAR.SPECKLE_LOOKS > 0
        return {
            "is_train": is_train,
            "reader": PairReader.from_config(cfg, fixed_sar_unit=draws_speckle),
            "augmentation": build_augmentations(cfg, is_train),
            "skip_corrupt": cfg.INPUT.SKIP_CORRUPT,
            "cache": SampleCache(Path(cfg.DATALOADER.CACHE_DIR)) if cfg.DATALOADER.CACHE_DIR else None,
        }

    def __call__(self, dataset_dict: Mapping) -> dict | None:
        """Make the item of a dataset dict, which is not modified.

        Raises:
            UnreadableSampleError: The sample cannot be used and ``skip_corrupt`` is off; or, in training, too many in a
                row were skipped.
        """
        try:
            item = self._read_item(dict(dataset_dict))
        except DataError as error:
            if not self.skip_corrupt:
                raise UnreadableSampleError(str(error)) from error
            return self._skip(dict(dataset_dict), str(error))
        self._skipped_in_a_row = 0
        return item

    # Spawned workers receive the mapper from Detectron2 through cloudpickle, which cannot share a counter.
    def __getstate__(self) -> dict:
        return {**self.__dict__, "skipped": bytes(ForkingPickler.dumps(self.skipped))}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, skipped=ForkingPickler.loads(state["skipped"]))

    def _skip(self, dataset_dict: dict, reason: str) -> dict | None:
        with self.skipped.get_lock():
            self.skipped.value += 1
        if dataset_dict["file_name"] not in self._reported:
            self._reported.add(dataset_dict["file_name"])
            logger.warning("A sample is left out (INPUT.SKIP_CORRUPT): %s", reason)
        if not self.is_train:
            return {**dataset_dict, "skipped": reason}
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            # A training loader draws endlessly: without a usable sample it would never return.
            raise UnreadableSampleError(
                f"{MAX_SKIPPED_IN_A_ROW} samples in a row were left out, the last one: {reason}"
            )
        return None

    def _read_item(self, item: dict) -> dict:
        if self.cache is None:
            sample = self._read_sample(item)
        else:
            sample = self.cache.get(*self._sources(item), lambda: self._read_sample(item))
        item["height"], item["width"] = sample.image_valid.shape
        sample = self.augmentation(sample)
        if self.modality_dropout is not None:
            sample = self.modality_dropout(sample)
        item |= model_item(sample)
        if sample.sem_seg is not None:
            item["sem_seg"] = torch.from_numpy(sample.sem_seg.astype(np.int64))  # (H, W)
        return item

    def _read_sample(self, dataset_dict: Mapping) -> PairSample:
        """Read the arrays of the files."""
        return self.reader.read(dataset_dict["file_name"], dataset_dict["sar_file_name"])

    def _sources(self, dataset_dict: Mapping) -> tuple[list[str], dict[str, Any]]:
        """The files that :meth:`_read_sample` opens, and the settings with which it reads them."""
        return [dataset_dict["file_name"], dataset_dict["sar_file_name"]], {"pair": self.reader.settings}


class RGBSARSemanticMapper(RGBSARPairMapper):
    """Reads a pair and, for training, its label map, reduced to the seen classes.

    In training an item also has ``sem_seg``, int64 (H, W): indices among the seen classes, and ``ignore_value`` at
    unseen classes, where RGB has no data, and at padding. In evaluation the evaluator reads the labels.
    """

    @configurable
    def __init__(
        self, *, label_readers: Mapping[str, SeenLabelReader], ignore_value: int = 255, **pair_arguments
    ) -> None:
        """Make a mapper.

        Args:
            label_readers: Name of each training dataset, which is ``dataset_name`` in its dicts, -> reader of its label
                files. Of a single one, the dicts need no name.
            ignore_value: Value in ``sem_seg`` of pixels that the loss ignores.
            pair_arguments: Arguments of :class:`RGBSARPairMapper`.
        """
        super().__init__(**pair_arguments)
        if self.is_train:
            self.entries += ("sem_seg_file_name",)
        self.label_readers = dict(label_readers)
        self.ignore_value = ignore_value

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> dict:
        """Arguments from ``INPUT``, ``DATASETS.TRAIN``, ``.UNSEEN`` and ``MODEL.SEM_SEG_HEAD.IGNORE_VALUE``."""
        ignore_value = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        return {
            **super().from_config(cfg, is_train),
            "modality_dropout": build_modality_dropout(cfg, is_train),
            "label_readers": (
                build_seen_label_readers(cfg.DATASETS.TRAIN, ignore_value, cfg.DATASETS.UNSEEN) if is_train else {}
            ),
            "ignore_value": ignore_value,
        }

    def _read_sample(self, dataset_dict: Mapping) -> PairSample:
        if not self.is_train:
            return super()._read_sample(dataset_dict)
        if "sem_seg_file_name" not in dataset_dict:
            raise DataError(f"{dataset_dict['file_name']} has no label map, which training needs; declare labels.")
        sample = self.reader.read(
            dataset_dict["file_name"],
            dataset_dict["sar_file_name"],
            label=dataset_dict["sem_seg_file_name"],
            label_reader=self._label_reader(dataset_dict),
        )
        sample.sem_seg[~sample.image_valid] = self.ignore_value
        return sample

    def _sources(self, dataset_dict: Mapping) -> tuple[list[str], dict[str, Any]]:
        files, settings = super()._sources(dataset_dict)
        if self.is_train and "sem_seg_file_name" in dataset_dict:
            files = [*files, dataset_dict["sem_seg_file_name"]]
            label_settings = self._label_reader(dataset_dict).settings
            settings = {**settings, "label": label_settings, "ignore_value": self.ignore_value}
        return files, settings

    def _label_reader(self, dataset_dict: Mapping) -> SeenLabelReader:
        name, readers = dataset_dict.get("dataset_name"), self.label_readers
        if name not in readers and len(readers) != 1:
            raise DataError(
                f"{dataset_dict['file_name']} has the dataset_name {name!r}, which is not one of DATASETS.TRAIN "
                f"({', '.join(readers)}), so the meaning of its labels is unknown; correct it."
            )
        return readers.get(name) or next(iter(readers.values()))


@DATASET_MAPPER_REGISTRY.register()
def rgb_sar_semantic(cfg: CfgNode, is_train: bool) -> RGBSARSemanticMapper:
    """Pairs with labels of the seen classes for stage 2, and without labels for evaluation."""
    return RGBSARSemanticMapper(cfg, is_train)


@DATASET_MAPPER_REGISTRY.register()
def rgb_sar_pair(cfg: CfgNode, is_train: bool) -> RGBSARPairMapper:
    """Pairs without labels, for stage 1."""
    return RGBSARPairMapper(cfg, is_train)


def build_dataset_mapper(cfg: CfgNode, is_train: bool) -> Callable[[Mapping], dict | None]:
    """Build the mapper that ``INPUT.DATASET_MAPPER_NAME`` names.

    Raises:
        ConfigError: No mapper has this name, or a setting that the mapper needs is wrong.
    """
    name = cfg.INPUT.DATASET_MAPPER_NAME
    check_registered("INPUT.DATASET_MAPPER_NAME", name, DATASET_MAPPER_REGISTRY)
    is_own = name not in (rgb_sar_semantic.__name__, rgb_sar_pair.__name__)  # which may read any key but the first
    for key, value, default, is_read in (
        ("INPUT.RELEASED_GEOMETRY", cfg.INPUT.RELEASED_GEOMETRY, False, False),
        ("INPUT.DROP_RGB", cfg.INPUT.DROP_RGB, 0.0, is_own),
        ("INPUT.DROP_SAR", cfg.INPUT.DROP_SAR, 0.0, is_own),
        ("TEST.MODALITIES", cfg.TEST.MODALITIES, "both", is_own),
    ):
        if value != default and name != rgb_sar_semantic.__name__ and not is_read:
            raise ConfigError(
                f"INPUT.DATASET_MAPPER_NAME is '{name}', but {key} is for {rgb_sar_semantic.__name__} only; set it to "
                f"{default}."
            )
    return DATASET_MAPPER_REGISTRY.get(name)(cfg, is_train)


def model_item(sample: PairSample) -> dict[str, torch.Tensor | None]:
    """The images, float32 (3, H, W), and masks, bool (H, W), of a pair as the model expects them; None without SAR."""
    images = {"image": sample.image, "sar_image": sample.sar_image}
    masks = {"image_valid": sample.image_valid, "sar_valid": sample.sar_valid}
    return {
        **{key: None if image is None else _image_tensor(image) for key, image in images.items()},
        **{key: None if mask is None else torch.from_numpy(np.ascontiguousarray(mask)) for key, mask in masks.items()},
    }


def _image_tensor(image: np.ndarray) -> torch.Tensor:
    """An image (H, W, 3) as float32 (3, H, W), in one copy."""
    height, width, channels = image.shape
    tensor = torch.empty((channels, height, width), dtype=torch.float32)
    return tensor.copy_(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1))
