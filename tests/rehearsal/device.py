"""Running on a GPU that this machine does not have: PyTorch's fake tensors have a device and a shape, but no data.

An operator that meets tensors of two devices fails, as it would on the GPU, and so does all that needs data: a shape
that depends on values, such as that of ``x[mask]``, or a number that Python reads, unless :class:`Watch` answers it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from tests.conftest import random_pair
from tests.test_configs import WITHOUT_FILES, read

CUDA = "cuda:3"
# PyTorch's autograd engine wants a CUDA context, but it accepts this device type, which has no kernels either.
LAZY = "lazy:3"
MODE = FakeTensorMode(allow_non_fake_inputs=True)  # one for all, which remembers what operators return
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::convolution")

# What a config says about widths, depths and sizes, in tiny. Templates, synonyms, losses and encoders stay as they are.
TINY = ["MODEL.CLIP.NAME", "ViT-laptop-4", "MODEL.CLIP.IMAGE_SIZE", 32, "MODEL.CLIP.GUIDANCE_BLOCKS", [1, 1]]
TINY += ["MODEL.DENSE_ENCODER.IMAGE_SIZE", 128, "MODEL.DENSE_ENCODER.BLOCKS", [1, 1, 2], "CMU.BLOCKS", [1, 1, 2]]
TINY += ["MODEL.AGGREGATOR.WINDOW_SIZE", 4, "MODEL.AGGREGATOR.LAYERS", 1, "MODEL.COST_VOLUME.WIDTH", 32]
TINY += ["MODEL.AGGREGATOR.APPEARANCE_WIDTH", 16, "MODEL.AGGREGATOR.TEXT_WIDTH", 16, "MODEL.DECODER.WIDTHS", [32, 16]]
TINY += ["MODEL.DECODER.GUIDANCE_WIDTHS", [16, 8], "MODEL.SEGEARTH.STRIDE", 24, *WITHOUT_FILES]
TINY += ["MODEL.EBSEG.CLIP_BLOCKS", [1, 1, 1], "MODEL.EBSEG.SURGERY_BLOCK", 1, "MODEL.EBSEG.SAM.BLOCKS", [1, 1, 2, 2]]
TINY += ["MODEL.EBSEG.WIDTH", 32, "MODEL.EBSEG.PIXEL_LAYERS", 1, "MODEL.EBSEG.LAYERS", 2, "MODEL.EBSEG.QUERIES", 10]


def tiny_cfg(config: str, *overrides) -> CfgNode:
    """A config of the repository with tiny sizes."""
    cfg = read(config).clone()
    cfg.defrost()
    cfg.merge_from_list([*TINY, *overrides])
    cfg.MODEL.DENSE_ENCODER.ARGUMENTS = CfgNode({"embed_dim": 24, "num_heads": 2, "depth": 2})
    sam = {"embed_dim": 24, "num_heads": 2, "depth": 2, "global_attn_indexes": (1,), "img_size": 128}
    cfg.MODEL.EBSEG.SAM.ARGUMENTS = CfgNode(sam)
    return cfg


def tiny_model(cfg: CfgNode, device: str = CUDA) -> nn.Module:
    """The model of a config on a fake device, with three names in training and five in evaluation."""
    model = build_model(cfg)  # on the CPU, for real
    if model.task == "sem_seg":
        model.train_vocabulary = ("city", "road, street", "forest")
        model.set_vocabulary(["city", "road", "river, lake", "forest", "farmland"])
    with MODE:
        return model.to(device)


def loaded_batch(*sizes: tuple[int, int]) -> list[dict]:
    """A batch as the data loader makes it: on the CPU, for real."""
    return [random_pair(*size, seed, num_classes=3) for seed, size in enumerate(sizes or [(48, 64), (48, 64)])]


class Watch(TorchDispatchMode):
    """Counts what makes Python wait for the device, and answers the numbers that it reads: True, or 0.

    Attributes:
        reads: numbers read, and copies to the CPU.
        dtypes: of the results of matrix products and convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function._schema.name
        if name == "aten::_local_scalar_dense":
            self.reads += args[0].device.type != "cpu"
            return self._number(function, args[0])
        result = function(*args, **kwargs)
        if name in PRODUCTS:
            self.dtypes.add(result.dtype)
        is_copy = name in ("aten::_to_copy", "aten::copy_") and result.device.type == "cpu"
        self.reads += is_copy and any(isinstance(x, torch.Tensor) and x.device.type != "cpu" for x in args)
        return result

    @staticmethod
    def _number(function, scalar):
        try:
            return function(scalar)  # known, unless it depends on the images or on the weights
        except DataDependentOutputException:
            return True if scalar.dtype == torch.bool else 0.0


@contextmanager
def fake_device(dtype: str = "float32") -> Iterator[Watch]:
    """Code in this context computes on fake devices, on CUDA under autocast if ``dtype`` is not float32."""
    autocast = nullcontext() if dtype == "float32" else torch.autocast("cuda", DTYPES[dtype])
    with MODE, Watch() as watch, autocast:
        yield watch


def for_real(function):
    """A function of CPU tensors that have data, as the data loader's do."""

    def call(*args, **kwargs):
        with _disable_current_modes():
            return function(*args, **kwargs)

    return call
