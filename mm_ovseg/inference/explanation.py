"""How a model arrives at its prediction: intermediate results for a pair with RGB, with SAR, and with both.

They are recorded while the model runs; nothing is computed twice.

explanations = explain(predictor, "rgb.tif", "sar.tif")
explanations["RGB and SAR"].clip_cost[0]  # (h, w), the similarity of each place to the first class
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from mm_ovseg.data.pair_reader import Raster
from mm_ovseg.errors import ConfigError
from mm_ovseg.inference.predictor import Prediction, Predictor
from mm_ovseg.modeling.head import MMOVSegHead
from mm_ovseg.modeling.meta_arch.mm_ovseg import MMOVSeg

__all__ = ["BOTH", "RGB_ONLY", "SAR_ONLY", "Explanation", "RecordedAttention", "explain", "first_component"]

RGB_ONLY, SAR_ONLY, BOTH = "RGB only", "SAR only", "RGB and SAR"


@dataclass(frozen=True, eq=False)
class RecordedAttention:
    """The inputs of the attention of an encoder's last block.

    Attributes:
        query, key: float32 (heads, N, D) for N tokens; those of the grid come last, row by row.
        scale: factor of their products.
        grid_size: tokens per side of the grid.
    """

    query: torch.Tensor
    key: torch.Tensor
    scale: float
    grid_size: int

    def of(self, x: float, y: float) -> np.ndarray:
        """The attention weights from the token at a place to all places, averaged over the heads.

        Args:
            x, y: the place, as fractions 0 <= x, y < 1 of the image's width and height.

        Returns:
            float32 (h, w); together with the weights of tokens outside the grid, they sum to 1.
        """
        others = self.query.shape[1] - self.grid_size**2
        token = others + int(y * self.grid_size) * self.grid_size + int(x * self.grid_size)
        scores = self.scale * self.key @ self.query[:, token, :, None]  # (heads, N, 1)
        weights = scores.softmax(dim=1).mean(dim=0)[others:, 0]
        return weights.unflatten(0, (self.grid_size, self.grid_size)).numpy()


@dataclass(frozen=True, eq=False)
class Explanation:
    """The intermediate results of one pair. h and w are the sides of the dense grid, T is the number of classes.

    Attributes:
        prediction: the prediction, with the scores of all classes.
        clip_cost: float32 (T, h, w), cosine similarity -1..1 of CLIP's dense feature to each class, averaged over the
            prompt templates; None if no CLIP saw the pair.
        dino_cost: the same for the summed DINO features.
        fused_cost: float32 (T, D, h, w), the embedding of both, the input of the aggregator.
        attentions: those of the DINO encoders in use, RGB before SAR; empty if they cannot be recorded.
    """

    prediction: Prediction
    clip_cost: np.ndarray | None
    dino_cost: np.ndarray | None
    fused_cost: np.ndarray
    attentions: tuple[RecordedAttention, ...]

    def attention(self, x: float, y: float) -> np.ndarray | None:
        """See :meth:`RecordedAttention.of`; the mean of two encoders, which do not attend to each other."""
        if not self.attentions:
            return None
        return np.mean([attention.of(x, y) for attention in self.attentions], axis=0)


def explain(predictor: Predictor, rgb: Raster | None, sar: Raster | None) -> dict[str, Explanation]:
    """Segment a pair with RGB only, SAR only, and both, and record the intermediate results of the model.

    They are what the predictor gives for RGB alone, SAR alone and both. Without RGB, the features of the SAR encoder
    that there is take the place of a missing one's, which has no cost of its own then.

    Args:
        predictor: its config has ``INPUT.SKIP_CORRUPT`` and ``MODEL.COMPILE`` off, so that hooks see every module.
        rgb, sar: as for the predictor; one may be None.

    Returns:
        ``RGB only``, ``SAR only`` and ``RGB and SAR``, in this order, or just the first or the second one for a pair
        without SAR, or SAR encoders, or without RGB. If RGB and SAR cover parts of the pair, the last one holds the
        results computed with both, and a prediction that uses each only in its part.

    Raises:
        ConfigError: the model is another one, has another head, looks at only some of the classes, or cannot use the
            only image.
        DataError, ProcessError: as for the predictor.
    """
    with predictor.lock:  # the vocabulary, and the hooks on the model
        return _explain(predictor, rgb, sar)


def _explain(predictor: Predictor, rgb: Raster | None, sar: Raster | None) -> dict[str, Explanation]:
    model = predictor.model
    if not isinstance(model, MMOVSeg):
        raise ConfigError(f"MODEL.META_ARCHITECTURE is {type(model).__name__}; only MMOVSeg can be explained.")
    head = model.sem_seg_head
    if not isinstance(head, MMOVSegHead):
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.NAME builds a {type(head).__name__}; only an MMOVSegHead can be explained."
        )
    if 0 < head.max_classes < len(predictor.decision.names):
        raise ConfigError(
            f"The model looks at only {head.max_classes} of {len(predictor.decision.names)} classes "
            "(MODEL.AGGREGATOR.MAX_CLASSES); give no more than that."
        )
    if not model.needs_sar:
        sar = None
        if rgb is None:
            raise ConfigError("The model maps RGB alone, so there is nothing to explain; give RGB.")
    runs = {RGB_ONLY: (rgb, None), SAR_ONLY: (None, sar), BOTH: (rgb, sar)}
    if rgb is None or sar is None:
        runs = {RGB_ONLY if sar is None else SAR_ONLY: (rgb, sar)}
    return {name: _run(predictor, *images) for name, images in runs.items()}


def first_component(explanations: Mapping[str, Explanation]) -> tuple[dict[str, np.ndarray], float]:
    """The fused cost as one number per place and class, comparable across places, classes and explanations.

    The channels of the fused cost have no individual meaning. This is its first principal component over all places,
    classes and explanations, with the sign that agrees with CLIP's similarity or, without any, with DINO's.

    Returns:
        Key of the explanation -> float32 (T, h, w), and the share 0..1 of the variance that the component explains.
    """
    channels = np.stack([explanation.fused_cost for explanation in explanations.values()], axis=2)  # (T, D, K, h, w)
    vectors = np.moveaxis(channels, 1, -1).astype(np.float64)  # (T, K, h, w, D)
    centred = vectors - vectors.mean(axis=(0, 1, 2, 3))
    flat = centred.reshape(-1, centred.shape[-1])
    variances, directions = np.linalg.eigh(flat.T @ flat)
    component = np.moveaxis(centred @ directions[:, -1], 1, 0)  # (K, T, h, w)
    costs = [explanation.clip_cost for explanation in explanations.values()]
    if all(cost is None for cost in costs):
        costs = [explanation.dino_cost for explanation in explanations.values()]
    known = [index for index, cost in enumerate(costs) if cost is not None]
    cost = np.stack([costs[index] for index in known])
    if np.sum(component[known] * (cost - cost.mean())) < 0:
        component = -component
    share = variances[-1] / max(variances.sum(), np.finfo(np.float64).tiny)
    return dict(zip(explanations, component.astype(np.float32), strict=True)), float(share)


def _run(predictor: Predictor, rgb: Raster | None, sar: Raster | None) -> Explanation:
    """Segment, and record the costs and the attention of the DINO encoders in use."""
    model = predictor.model
    dinos = [None if rgb is None else model.dino, None if sar is None else model.dino_sar]
    costs: dict[str, Any] = {}

    def record_costs(_module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        costs["inputs"], costs["output"] = inputs, output

    with ExitStack() as stack:
        stack.callback(model.sem_seg_head.cost_volume_embedding.register_forward_hook(record_costs).remove)
        recorders = [stack.enter_context(_recording(dino.encoder)) for dino in dinos if dino is not None]
        prediction = predictor(rgb, sar, with_scores=True)
    clip_cost, dino_cost = (None if cost is None else _array(cost[0].mean(dim=0)) for cost in costs["inputs"])
    return Explanation(
        prediction=prediction,
        clip_cost=None if rgb is None and model.clip_sar is None else clip_cost,
        dino_cost=None if rgb is None and model.dino_sar is None else dino_cost,
        fused_cost=_array(costs["output"][0]),
        attentions=tuple(recorder.attention for recorder in recorders if recorder.attention is not None),
    )


class _AttentionRecorder(TorchFunctionMode):
    """A context in which the inputs of PyTorch's fused attention are recorded."""

    def __init__(self, grid_size: int) -> None:
        super().__init__()
        self.attention: RecordedAttention | None = None
        self._grid_size = grid_size

    def __torch_function__(
        self, function: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Record the inputs of ``scaled_dot_product_attention``; call every function unchanged."""
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            self._keep(*args, **kwargs)
        return function(*args, **kwargs)

    def _keep(
        self, query: torch.Tensor, key: torch.Tensor, *_others: Any, scale: float | None = None, **_more: Any
    ) -> None:
        query, key = (tensor[0].detach().float().cpu() for tensor in (query, key))
        self.attention = RecordedAttention(query, key, scale or query.shape[-1] ** -0.5, self._grid_size)


@contextmanager
def _recording(encoder: nn.Module) -> Iterator[_AttentionRecorder]:
    """Record the last block that the encoder runs; nothing if its blocks are unknown."""
    recorder = _AttentionRecorder(encoder.grid_size)
    depth = max(getattr(encoder, "blocks", (0,)))

    # Entered for this block only, after the modes of the encoder, which may replace the function.
    def enter(_block: nn.Module, _inputs: tuple) -> None:
        recorder.__enter__()

    def leave(_block: nn.Module, _inputs: tuple, _output: torch.Tensor) -> None:
        recorder.__exit__(None, None, None)

    with ExitStack() as stack:
        for block in list(encoder.transformer_blocks)[:depth][-1:]:
            stack.callback(block.register_forward_pre_hook(enter).remove)
            stack.callback(block.register_forward_hook(leave, always_call=True).remove)
        yield recorder


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
