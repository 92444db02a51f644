"""The common part of all models that segment images by class names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mm_ovseg.errors import DataError, VocabularyError
from mm_ovseg.modeling.cpu_kernels import use_cpu_kernels
from mm_ovseg.modeling.precision import read_inference_dtype
from mm_ovseg.modeling.text import TextEmbedder
from mm_ovseg.vocabulary import seen_classes, unseen_classes, validate_class_names

__all__ = [
    "EncodedItem",
    "GraphSizes",
    "OpenVocabularySegmenter",
    "needed_weights",
    "segmenter_arguments",
    "sizes_of",
]


@dataclass(frozen=True, eq=False)
class EncodedItem:
    """An item of a batch as its encoders see it: all that its scores depend on but the names.

    Attributes:
        features: for each answer that its pixels need (:mod:`mm_ovseg.modeling.modality`), tensors (1, ...) by name; of
            FGAseg by windows, one row for each window.
        masks: the pixels for which each answer is, bool (H, W); empty for a single answer.
        size: height and width of the output in pixels.
        image_size: height and width of the image in pixels.
    """

    features: Mapping[str, Mapping[str, torch.Tensor]]
    masks: Mapping[str, torch.Tensor]
    size: tuple[int, int]
    image_size: tuple[int, int]


@dataclass(frozen=True)
class GraphSizes:
    """The sizes of a model that is a function of images and text embeddings alone, for its export.

    Attributes:
        image: height and width in pixels to which the model resizes.
        text: channels of the text embeddings.
        classes: the largest vocabulary with which the graph is the model; None: any.
    """

    image: int
    text: int
    classes: int | None


class OpenVocabularySegmenter(nn.Module):
    """Base of the meta-architectures that segment by class names.

    A subclass implements :meth:`encode` and :meth:`answer` and, if it can be trained, :meth:`losses`.

    Args:
        text: embeds class names.
        train_vocabulary: names of the seen classes, in the order of the training labels; may be empty.
        vocabulary: class names at test time, until :meth:`set_vocabulary` changes them; may be empty.
        inference_dtype: ``"float32"``, or ``"bfloat16"`` or ``"float16"`` for mixed precision in evaluation mode.
    """

    task = "sem_seg"  # selects the evaluator, see mm_ovseg.evaluation.build
    needs_training = True  # False: CLIP's weights are all that it needs
    bounded_scores = True  # 0..1
    relative_scores = False  # True: they only compare names, so that one name alone has the same everywhere

    def __init__(
        self,
        *,
        text: TextEmbedder,
        train_vocabulary: Sequence[str],
        vocabulary: Sequence[str],
        inference_dtype: str,
    ) -> None:
        super().__init__()
        self.text = text
        self.train_vocabulary = tuple(train_vocabulary)
        self.vocabulary = tuple(vocabulary)
        self.inference_dtype = read_inference_dtype(inference_dtype)

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.text.device

    @property
    def needs_sar(self) -> bool:
        """Whether pairs need a SAR image; a model of RGB alone ignores it."""
        return False

    @property
    def graph_sizes(self) -> GraphSizes | None:
        """The sizes of the function :meth:`compare`; None if the model has none, and cannot be exported."""
        return None

    def train(self, mode: bool = True) -> "OpenVocabularySegmenter":
        """Switch the mode; the first switch to evaluation on a CPU gives linear layers faster kernels for it."""
        super().train(mode)
        if not mode and self.device.type == "cpu":
            use_cpu_kernels(self)
        return self

    def compare(
        self,
        images: Sequence[torch.Tensor] | torch.Tensor,
        sar_images: Sequence[torch.Tensor] | torch.Tensor | None,
        text: torch.Tensor,
    ) -> torch.Tensor:
        """Compare images with an embedded vocabulary; only models with :attr:`graph_sizes` can.

        Args:
            images: B tensors (3, H, W) of any sizes, 0..255, or one (B, 3, H, W), on the model's device.
            sar_images: the same; None skips the SAR encoders.
            text: embeddings of the class names by :class:`~mm_ovseg.modeling.text.TextEmbedder`, (P, T, C).

        Returns:
            Logits (B, T, h, w), before the sigmoid.
        """
        raise NotImplementedError

    def set_vocabulary(self, names: Sequence[str]) -> None:
        """Set the classes that the model predicts in evaluation mode; training keeps its own.

        Args:
            names: T names; "water, river, lake" is one class with three synonyms.

        Raises:
            VocabularyError: no name is given, or one is empty, repeated or too long for the text encoder.
        """
        names = validate_class_names(names)
        self.text.check_length(names)
        self.vocabulary = names

    def forward(self, batched_inputs: Sequence[dict]) -> list[dict[str, torch.Tensor]] | dict[str, torch.Tensor]:
        """Segment, or compute the training losses.

        Args:
            batched_inputs: one dict per image or pair, of any sizes, with ``image`` (3, H, W) 0..255 and what the
                subclass needs. In training also ``sem_seg`` (H, W) int64, indices into :attr:`train_vocabulary`.
                ``height`` and ``width`` are the size of the output in pixels, by default that of the image.

        Returns:
            In evaluation a list with ``{"sem_seg": (T, height, width) float32 scores}`` per item, in the order of
            :attr:`vocabulary`. In training the losses, scalars, whose sum is minimised.

        Raises:
            VocabularyError: no vocabulary is set.
            DataError: an item lacks an image, or labels in training, or they have another shape.
        """
        if not batched_inputs:
            return []
        if not self.training:
            return [{"sem_seg": scores} for scores in self.segment(batched_inputs)]
        for item in batched_inputs:
            if "sem_seg" not in item:
                raise DataError(
                    f"{item.get('file_name', 'A pair')} has no labels, which training needs; "
                    "set INPUT.DATASET_MAPPER_NAME to rgb_sar_semantic."
                )
        return self.losses(batched_inputs)

    def segment(self, batched_inputs: Sequence[dict]) -> list[torch.Tensor]:
        """Scores (T, height, width) float32 of each item."""
        return self.answer(self.encode(batched_inputs))

    def encode(self, batched_inputs: Sequence[dict]) -> list[EncodedItem]:
        """Encode each item, for any number of vocabularies.

        Raises:
            DataError: see :meth:`forward`.
        """
        raise NotImplementedError

    def answer(self, encoded: Sequence[EncodedItem]) -> list[torch.Tensor]:
        """Scores (T, height, width) float32 of each encoded item for the current vocabulary.

        Items that were encoded together and are answered together get the same bits as by :meth:`segment`.

        Raises:
            VocabularyError: no vocabulary is set.
        """
        raise NotImplementedError

    def losses(self, batched_inputs: Sequence[dict]) -> dict[str, torch.Tensor]:
        """The training losses of labelled items."""
        raise NotImplementedError

    def embed(self, names: Sequence[str]) -> torch.Tensor:
        """Embed class names (P, T, C), see :class:`~mm_ovseg.modeling.text.TextEmbedder`.

        Raises:
            VocabularyError: ``names`` is empty.
        """
        if not names:
            raise VocabularyError('The model has no class names; call set_vocabulary(["water", "road"]).')
        return self.text(names)

    def images(self, batched_inputs: Sequence[dict], key: str = "image") -> list[torch.Tensor]:
        """The images (3, H, W) under ``key``, on the model's device.

        Raises:
            DataError: an item has none, or one of another shape.
        """
        images = []
        for item in batched_inputs:
            image = item.get(key)
            name = item.get("file_name", "the pair")
            if image is None:
                raise DataError(
                    f"{name} has no '{key}'; this model needs {'RGB and SAR' if self.needs_sar else 'RGB'} for every "
                    "pair."
                )
            if image.dim() != 3 or image.shape[0] != 3:
                raise DataError(f"'{key}' of {name} has shape {tuple(image.shape)}; it must be (3, H, W).")
            images.append(image.to(self.device))
        return images


def sizes_of(item: dict) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the output for a batch item, those asked for or the image's, and those of its image."""
    height, width = item["image"].shape[1:]
    return (int(item.get("height", height)), int(item.get("width", width))), (height, width)


def needed_weights(cfg: CfgNode) -> tuple[str, str]:
    """The weights without which the model of a config, of either stage, would be random: their key and its value."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if cfg.MODEL.WEIGHTS or getattr(model, "needs_training", True):
        return "MODEL.WEIGHTS", cfg.MODEL.WEIGHTS
    return "MODEL.CLIP.PRETRAINED", cfg.MODEL.CLIP.PRETRAINED


def segmenter_arguments(cfg: CfgNode, tower: nn.Module, tokenizer: Callable) -> dict[str, Any]:
    """The arguments of :class:`OpenVocabularySegmenter`.

    Args:
        cfg: says how names are embedded; they come from the metadata of DATASETS.TRAIN and TEST.
        tower, tokenizer: CLIP's for text.
    """

    def names_of(datasets: Sequence[str], key: str) -> list[str]:
        return [name for dataset in datasets[:1] for name in MetadataCatalog.get(dataset).get(key, [])]

    classes, unseen = (names_of(cfg.DATASETS.TRAIN, key) for key in ("stuff_classes", "unseen_classes"))
    settings = cfg.MODEL.TEXT
    return {
        "text": TextEmbedder(
            tower=tower, tokenizer=tokenizer, templates=settings.TEMPLATES, synonyms=settings.SYNONYMS
        ),
        "train_vocabulary": seen_classes(classes, unseen_classes(classes, unseen, cfg.DATASETS.UNSEEN)),
        "vocabulary": names_of(cfg.DATASETS.TEST, "stuff_classes"),
        "inference_dtype": cfg.MODEL.INFERENCE_DTYPE,
    }
