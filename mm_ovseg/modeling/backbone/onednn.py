"""Linear layers by oneDNN, for inference on CPUs.

PyTorch hands float32 products to oneDNN only inside ``torch.compile``; its own path copies the bias into the output
first, and writes the input of an activation to memory only to read it again. The kernel here is the one that
``torch.compile`` calls, without the compiling. docs/PERFORMANCE.md has what it gains.
"""

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn

__all__ = ["OneDNNLinear", "use_onednn"]

IS_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class OneDNNLinear(nn.Linear):
    """``nn.Linear``, and GELU after it if asked for, with the same parameters and the same results to rounding.

    oneDNN runs it in float32 on a CPU where no gradient is recorded; everywhere else it is what PyTorch has.
    """

    gelu: bool

    @classmethod
    def like(cls, linear: nn.Linear, *, gelu: bool = False) -> "OneDNNLinear":
        """A layer that shares its parameters with ``linear``."""
        layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        layer.gelu = gelu
        return layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        if not self._can_run(x):
            x = super().forward(x)
            return F.gelu(x) if self.gelu else x
        activation, algorithm = ("gelu", "none") if self.gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], algorithm)

    def _can_run(self, x: torch.Tensor) -> bool:
        return (
            IS_AVAILABLE
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not (torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad))
            and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        )


def use_onednn(module: nn.Module) -> None:
    """Replace the linear layers in a module, in place; names and parameters stay."""
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            setattr(module, name, OneDNNLinear.like(child))
        else:
            use_onednn(child)
    if isinstance(module, Mlp) and isinstance(module.act, nn.GELU) and module.act.approximate == "none":
        module.fc1 = OneDNNLinear.like(module.fc1, gelu=True)
        module.act = nn.Identity()
