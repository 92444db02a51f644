"""Whether weights are still the ones from which something was computed."""

from torch import nn

__all__ = ["weight_versions"]


def weight_versions(module: nn.Module) -> tuple | None:
    """What differs as soon as a parameter or buffer does; to be compared with an earlier value of the same module.

    It reads PyTorch's version counters, which ``load_state_dict`` and optimisers advance, but not those with
    ``fused=True`` on a CPU, nor writing to ``parameter.data``. None for weights made under ``torch.inference_mode()``,
    which have no counters.
    """
    weights = [*module.parameters(), *module.buffers()]
    if any(weight.is_inference() for weight in weights):
        return None
    return tuple((weight.data_ptr(), weight._version, weight.dtype) for weight in weights)
