"""Convolutional image encoders, built by timm: a dense one, and one whose dense features are aligned with text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import open_clip
import timm
import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from timm.layers import Conv2dSame
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mm_ovseg.checkpoint.encoder_weights import load_encoder_state_dict, read_encoder_file, read_student_file
from mm_ovseg.errors import ConfigError
from mm_ovseg.modeling.backbone.image_encoder import IMAGE_ENCODER_REGISTRY, EncoderFeatures, ImageEncoder
from mm_ovseg.modeling.backbone.text_tower import build_text_tower

__all__ = ["ConvolutionalCLIP", "ConvolutionalEncoder", "FeaturePyramid", "fold_batch_norms", "repeat_borders"]


class FeaturePyramid(nn.Module):
    """The first stages of a convolutional network of timm, whose batch normalisations are folded into its convolutions.

    It trains as with frozen batch normalisations, whose offsets, now biases, stay fixed, and costs less. Convolutions
    repeat the border instead of padding with zeros, from which a network knows where in the image it looks: 43% of the
    variance of EfficientNet's features of 112 x 112 pixels was their position, now 2%. The last stage's output is
    normalised with fixed statistics, which the weights contain, so that its mean over the data is 0.

    Args:
        name: a model of timm with ``features_only``, e.g. ``"tf_efficientnet_lite0"``.
        arguments: passed to ``timm.create_model``, e.g. ``output_stride`` and ``out_indices``.
        repeats_borders: False to pad with zeros, as the network was trained on ImageNet.

    Attributes:
        channels, strides: of each stage; strides in pixels.

    Raises:
        ConfigError: timm cannot build it.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], *, repeats_borders: bool = True) -> None:
        super().__init__()
        try:
            stages = timm.create_model(name, pretrained=False, features_only=True, **arguments)
        except (RuntimeError, TypeError, ValueError, AssertionError, IndexError, AttributeError) as error:
            raise ConfigError(
                f"timm cannot build the stages of '{name}' with the arguments {dict(arguments)}: {error}; see "
                "timm.list_models()."
            ) from error
        self.channels: tuple[int, ...] = tuple(stages.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(stages.feature_info.reduction())
        _remove_unused(stages)
        self.stages = fold_batch_norms(stages.eval())
        if repeats_borders:
            repeat_borders(self.stages)
        self.norm = FrozenBatchNorm2d(self.channels[-1])

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The output (B, channels, H / stride, W / stride) of each stage for images (B, 3, H, W)."""
        *maps, last = self.stages(images.contiguous(memory_format=torch.channels_last))
        return [*maps, self.norm(last)]


@IMAGE_ENCODER_REGISTRY.register()
class ConvolutionalEncoder(ImageEncoder):
    """A convolutional network that returns the outputs of selected stages as maps, the finer ones as guidance.

    Args:
        name, arguments: see :class:`FeaturePyramid`.
        weights: ``""`` for random weights, or a file, local or on the hub (``hf://organisation/repository/file``).
        blocks: 1-based stages: of coarse and of fine guidance, and the last stage, which -1 also names; as in
            :class:`ImageEncoder`.
        image_size, pixel_mean, pixel_std: see :class:`ImageEncoder`.
        out_channels: channels of the dense feature, if a subclass projects it; None for those of the last stage.

    Raises:
        ConfigError: the model or a stage does not exist, or the image size is not a multiple of its stride.
        CheckpointError: the weights are missing, unreadable or of another architecture.
    """

    def __init__(
        self,
        *,
        name: str,
        arguments: Mapping[str, Any],
        weights: str,
        image_size: int,
        blocks: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        out_channels: int | None = None,
    ) -> None:
        model = FeaturePyramid(name, arguments)
        depth, stride = len(model.channels), model.strides[-1]
        *guidance, last = blocks
        if last not in (-1, depth) or not all(1 <= stage <= depth for stage in guidance):
            raise ConfigError(
                f"Stages {list(blocks)} of {name} were requested; choose from 1 to {depth}, and the last one last."
            )
        if image_size % stride:
            raise ConfigError(f"IMAGE_SIZE is {image_size}; for {name} it must be a multiple of its stride, {stride}.")
        super().__init__(
            image_size=image_size,
            patch_size=stride,
            blocks=(*guidance, depth),
            out_channels=out_channels or model.channels[-1],
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
        )
        self.model = model
        if weights:
            load_encoder_state_dict(self.model, read_encoder_file(weights), source=weights)

    def output_shape(self) -> dict[str, Any]:
        """See :meth:`ImageEncoder.output_shape`."""
        shapes = super().output_shape()
        for kind, stage in zip(("coarse", "fine"), self.blocks, strict=False):
            stride = self.model.strides[stage - 1]
            size = self.image_size // stride
            shapes[kind] = type(shapes["dense"])(self.model.channels[stage - 1], size, size, stride)
        return shapes

    def forward(self, images: torch.Tensor) -> EncoderFeatures:
        """Encode preprocessed images (B, 3, image_size, image_size)."""
        maps = self.model(images)
        *guidance, dense = (maps[stage - 1] for stage in self.blocks)
        return EncoderFeatures(dense, tuple(guidance))


@IMAGE_ENCODER_REGISTRY.register()
class ConvolutionalCLIP(ConvolutionalEncoder):
    """A CLIP with a convolutional image encoder, whose mean dense feature is the embedding of the image.

    Args:
        name: a model config of open_clip with ``embed_dim``, ``text_cfg`` and ``vision_cfg.timm_model_name``.
        arguments, image_size, blocks, pixel_mean, pixel_std: see :class:`ConvolutionalEncoder`.
        weights: as there; a file has the tensors of ``model`` and ``projection``, with the prefix ``visual.``, and
            those of the text tower, with the prefix ``text.``. Without text it may be a stage-1 checkpoint.
        with_text: keep the text tower and the tokenizer for :meth:`take_text_encoder`.

    Raises:
        ConfigError, CheckpointError: as there; or open_clip does not know the name.
    """

    def __init__(
        self,
        *,
        name: str,
        arguments: Mapping[str, Any],
        weights: str,
        image_size: int,
        blocks: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        with_text: bool = False,
    ) -> None:
        config = open_clip.get_model_config(name)
        if config is None or "timm_model_name" not in config["vision_cfg"]:
            raise ConfigError(
                f"MODEL.CLIP.NAME is '{name}', which is not a config of open_clip with vision_cfg.timm_model_name."
            )
        super().__init__(
            name=config["vision_cfg"]["timm_model_name"],
            arguments=arguments,
            weights="",
            image_size=image_size,
            blocks=blocks,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            out_channels=config["embed_dim"],
        )
        self.projection = nn.Conv2d(self.model.channels[-1], config["embed_dim"], kernel_size=1)
        text_tower, tokenizer = build_text_tower(name)
        if weights:
            whole = nn.ModuleDict({"visual": nn.ModuleDict({"model": self.model, "projection": self.projection})})
            student = None if with_text else read_student_file(weights)
            if student is None:
                whole["text"] = text_tower
                load_encoder_state_dict(whole, read_encoder_file(weights), source=weights)
            else:
                load_encoder_state_dict(self.model, student, source=weights)
        self._text_encoder = (text_tower, tokenizer) if with_text else None

    def take_text_encoder(self) -> tuple[nn.Module, Callable]:
        """Hand over the text tower and the tokenizer, once: they are not part of this module."""
        text_encoder, self._text_encoder = self._text_encoder, None
        return text_encoder

    def forward(self, images: torch.Tensor) -> EncoderFeatures:
        """Encode preprocessed images (B, 3, image_size, image_size)."""
        features = super().forward(images)
        return EncoderFeatures(self.projection(features.dense), features.guidance)


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Fold each batch normalisation into the convolution before it, in place; the model must be in evaluation mode.

    The activation that timm's normalisations contain takes their place. The new biases are not trained.
    """
    for parent in model.modules():
        children = list(parent.named_children())
        for (first, convolution), (second, norm) in zip(children, children[1:], strict=False):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, second, getattr(norm, "act", nn.Identity()))
    return model


class BorderRepeatingConv2d(nn.Conv2d):
    """A convolution that pads by repeating the border.

    Args:
        convolution: whose weights, and amount of padding, it takes.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update({name: value for name, value in vars(convolution).items() if not name.startswith("__")})
        self.pads_to_multiple = isinstance(convolution, Conv2dSame)  # as TensorFlow: less at the left and at the top

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        padding: list[int] = []  # right and left of the last dimension first, as F.pad takes it
        for axis in (1, 0):
            before = after = self.padding[axis]
            if self.pads_to_multiple:
                size, stride = x.shape[2 + axis], self.stride[axis]
                reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
                total = max((-(-size // stride) - 1) * stride + reach - size, 0)
                before, after = total // 2, total - total // 2
            padding += [before, after]
        x = F.pad(x, padding, mode="replicate")
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def repeat_borders(model: nn.Module) -> nn.Module:
    """Let all convolutions repeat the border instead of padding with zeros, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and max(child.kernel_size) > 1:
                setattr(parent, name, BorderRepeatingConv2d(child))
    return model


def _remove_unused(stages: nn.Module) -> None:
    """Remove the blocks behind the last stage, which timm keeps for some models."""
    last = stages.feature_info.module_name()[-1]  # such as "blocks.4"
    parent, _, index = last.rpartition(".")
    if parent and index.isdigit():
        sequence = stages.get_submodule(parent)
        del sequence[int(index) + 1 :]
