"""A model as a graph of tensor operators, for any vocabulary, any image size and any number of pairs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim, ExportedProgram

from mm_ovseg.errors import ExportError, brief_reason
from mm_ovseg.modeling.meta_arch.segmenter import OpenVocabularySegmenter
from mm_ovseg.modeling.scores import scores_of_size

__all__ = ["AXES", "OUTPUTS", "SegmentationGraph", "export_program"]

OUTPUTS = ("scores", "logits")
# The dynamic axes of each input.
AXES = {
    "image": {0: "batch", 2: "height", 3: "width"},
    "sar_image": {0: "batch", 2: "height", 3: "width"},
    "text_embeddings": {1: "classes"},
}
# All different and above 1: the exporter treats 1 as a constant, and equal lengths as the same.
EXAMPLE_BATCH, EXAMPLE_HEIGHT, EXAMPLE_WIDTH, EXAMPLE_CLASSES = 2, 60, 70, 5


class SegmentationGraph(nn.Module):
    """A model in evaluation mode, as a function of tensors.

    Text embeddings are an input, so that the vocabulary stays open; the text encoder is not part of the graph, which
    computes in float32 regardless of ``MODEL.INFERENCE_DTYPE``.

    Args:
        model: in evaluation mode; its modules are shared, not copied.
        with_sar: False leaves out the SAR encoders and the input ``sar_image``.

    Raises:
        ExportError: the model is not a function of images and text embeddings.
    """

    def __init__(self, model: OpenVocabularySegmenter, *, with_sar: bool = True) -> None:
        super().__init__()
        if model.graph_sizes is None:
            raise ExportError(
                f"{type(model).__name__} cannot be exported: its maps need more than images and text embeddings; "
                "export MMOVSeg or FGAseg, or use it in PyTorch."
            )
        self.model = model
        self.sizes = model.graph_sizes
        self.input_names = tuple(name for name in AXES if name != "sar_image" or (with_sar and model.needs_sar))

    def forward(
        self, image: torch.Tensor, sar_image: torch.Tensor | None, text_embeddings: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Segment.

        Args:
            image: float32 (B, 3, H, W), red, green and blue, 0..255, of any size.
            sar_image: float32 (B, 3, H, W), scaled to 0..255 as set by ``INPUT.SAR``; None if there is no such input.
            text_embeddings: float32 (P, T, C), L2-normalised, for P templates and T classes.

        Returns:
            Scores (B, T, H, W), 0..1, like those of the model, and the logits (B, T, 4h, 4w) from which they
            are computed.
        """
        logits = self.model.compare(image, sar_image, text_embeddings)
        return scores_of_size(logits, image.shape[-2:]), logits

    def random_inputs(
        self, *, batch: int, height: int, width: int, classes: int, seed: int
    ) -> dict[str, torch.Tensor | None]:
        """Noise of the given sizes by input name; SAR is None if the graph has no such input."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, 3, height, width)
        images = {
            name: torch.rand(shape, generator=generator) * 255 if name in self.input_names else None
            for name in ("image", "sar_image")
        }
        text = torch.randn(len(self.model.text.templates), classes, self.sizes.text, generator=generator)
        return {**images, "text_embeddings": F.normalize(text, dim=-1)}


@torch.no_grad()
def export_program(graph: SegmentationGraph) -> ExportedProgram:
    """Trace a graph with ``torch.export``, on the CPU, with ``AXES`` dynamic.

    Raises:
        ExportError: the model cannot be traced, for instance because a custom head branches on values.
    """
    # A larger vocabulary would need another graph, which selects classes.
    lengths = {name: Dim(name) for name in ("batch", "height", "width")}
    lengths["classes"] = Dim("classes", max=graph.sizes.classes)
    shapes = {
        name: {axis: lengths[length] for axis, length in axes.items()} if name in graph.input_names else None
        for name, axes in AXES.items()
    }
    inputs = graph.random_inputs(
        batch=EXAMPLE_BATCH, height=EXAMPLE_HEIGHT, width=EXAMPLE_WIDTH, classes=EXAMPLE_CLASSES, seed=0
    )
    with _without_text_encoder(graph.model):
        try:
            return torch.export.export(graph, tuple(inputs.values()), dynamic_shapes=shapes)
        except Exception as error:  # the exporter fails in many ways
            raise ExportError(
                f"torch.export cannot trace this model ({brief_reason(error)}); "
                "give a config whose modules are those of this package."
            ) from error


@contextmanager
def _without_text_encoder(model: OpenVocabularySegmenter) -> Iterator[None]:
    # Otherwise the exported program would contain its unused weights.
    text, model.text = model.text, nn.Identity()
    try:
        yield
    finally:
        model.text = text
