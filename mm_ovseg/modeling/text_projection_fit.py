"""Initialising DINO's projection into the text space: least squares to CLIP's dense features, without labels.

In the published training this projection starts at random and learns only from the names of the seen classes. If these
are few, it learns few directions, and DINO's cost volume of any other name is arbitrary. CLIP's dense features are
already aligned with the texts of all names, so DINO's tokens at the same positions can first be fitted to them. This is
our addition to the paper, off unless ``MODEL.DENSE_ENCODER.FIT_DATASET`` names a dataset.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from detectron2.utils import comm
from torch import nn

from mm_ovseg.errors import ConfigError

__all__ = ["LeastSquares", "fit_text_projections"]

RIDGE = 1e-3  # relative to the mean variance of the inputs


class LeastSquares:
    """Linear regression from running sums, so that samples need not be stored.

    Args:
        in_channels: channels C of the inputs.
        out_channels: channels D of the targets.
        device: where the sums are accumulated, in float64; the CPU in place of one without float64.
    """

    def __init__(self, in_channels: int, out_channels: int, device: torch.device | str = "cpu") -> None:
        self.in_channels = in_channels
        width = in_channels + out_channels
        device = "cpu" if torch.device(device).type == "mps" else device
        self._sum = torch.zeros(width, dtype=torch.float64, device=device)
        self._products = torch.zeros(in_channels, width, dtype=torch.float64, device=device)
        self._count = 0

    def add(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add samples: inputs (N, C) and targets (N, D)."""
        samples = torch.cat([inputs, targets], dim=1).to(self._sum.device).double()  # (N, C + D)
        self._sum += samples.sum(dim=0)
        self._products += samples[:, : self.in_channels].T @ samples
        self._count += len(samples)

    def gather(self) -> None:
        """Reduce the sums over all processes, on the CPU."""
        everything = comm.all_gather((self._sum.cpu(), self._products.cpu(), self._count))
        self._sum, self._products, self._count = (sum(parts) for parts in zip(*everything, strict=True))

    def solve(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight (D, C) and bias (D,) with the least squared error, slightly regularised towards 0; on the CPU."""
        mean = self._sum.cpu() / self._count
        covariance = self._products.cpu() / self._count - mean[: self.in_channels, None] * mean  # (C, C + D)
        inputs, cross = covariance.split([self.in_channels, covariance.shape[1] - self.in_channels], dim=1)
        ridge = RIDGE * inputs.diagonal().mean() * torch.eye(self.in_channels, dtype=inputs.dtype)
        weight = torch.linalg.solve(inputs + ridge, cross).T  # (D, C)
        return weight, mean[self.in_channels :] - weight @ mean[: self.in_channels]


@torch.no_grad()
def fit_text_projections(model: nn.Module, batches: Iterable[Sequence[dict]]) -> None:
    """Set the dense projections of a model's DINO encoders so that their outputs resemble CLIP's dense features.

    The RGB encoder and its SAR twin are both fitted to CLIP's features of the RGB images, which should be clear. If
    there are two, each is fitted to half of them, since they are added.

    Args:
        model: an :class:`~mm_ovseg.modeling.meta_arch.mm_ovseg.MMOVSeg`; it keeps its mode.
        batches: of items with ``image`` and ``sar_image`` (3, H, W), 0..255. Labels are not used. Each process may
            provide its own share.

    Raises:
        ConfigError: a projection enlarges its grid.
    """
    encoders = {key: getattr(model, key) for key in ("dino", "dino_sar") if getattr(model, key) is not None}
    for encoder in encoders.values():
        if not isinstance(encoder.projection.dense, nn.Conv2d):
            raise ConfigError(
                "MODEL.DENSE_ENCODER.FIT_DATASET needs a token grid at least as fine as CLIP's; "
                "raise MODEL.DENSE_ENCODER.IMAGE_SIZE, or leave it empty."
            )
    fits = {}
    for batch in batches:
        clip = model.clip.encode([item["image"].to(model.device) for item in batch]).dense  # (B, D, h, w)
        targets = F.normalize(clip, dim=1).flatten(2).transpose(1, 2).flatten(0, 1)  # (B * h * w, D)
        for key, encoder in encoders.items():
            images = [item["sar_image" if key == "dino_sar" else "image"].to(model.device) for item in batch]
            tokens = encoder.encode(images).dense  # (B, C, h', w')
            side = encoder.projection.dense.kernel_size
            inputs = F.unfold(tokens, side, stride=side).transpose(1, 2).flatten(0, 1)  # (B * h * w, C * side * side)
            if key not in fits:
                fits[key] = LeastSquares(inputs.shape[1], targets.shape[1], model.device)
            fits[key].add(inputs, targets)
    for key, fit in fits.items():
        fit.gather()
        weight, bias = fit.solve()
        layer = encoders[key].projection.dense
        layer.weight.copy_(weight.view_as(layer.weight) / len(encoders))
        layer.bias.copy_(bias / len(encoders))
