"""Image encoders, wrapped from open_clip and timm."""

from mm_ovseg.modeling.backbone.clip import CLIPImageEncoder
from mm_ovseg.modeling.backbone.convolutional import ConvolutionalCLIP, ConvolutionalEncoder
from mm_ovseg.modeling.backbone.dino import DINOEncoder
from mm_ovseg.modeling.backbone.image_encoder import IMAGE_ENCODER_REGISTRY, EncoderFeatures, ImageEncoder

__all__ = [
    "IMAGE_ENCODER_REGISTRY",
    "CLIPImageEncoder",
    "ConvolutionalCLIP",
    "ConvolutionalEncoder",
    "DINOEncoder",
    "EncoderFeatures",
    "ImageEncoder",
]
