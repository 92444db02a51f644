"""All configuration keys that mm_ovseg adds to Detectron2's, with their defaults, units and purpose."""

import torch
from detectron2.config import CfgNode as CN

from mm_ovseg.renamed_keys import TranslatingCfgNode

__all__ = ["add_mm_ovseg_config"]

# CLIP's channel statistics on the 0..255 scale, which the released weights use for all encoders.
CLIP_PIXEL_MEAN = [122.7709383, 116.7460125, 104.09373615]
CLIP_PIXEL_STD = [68.5005327, 66.6321579, 70.3231630]


def default_device() -> str:
    """The fastest available device: ``"cuda"``, else ``"mps"``, else ``"cpu"``."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def add_mm_ovseg_config(cfg: CN) -> None:
    """Add mm_ovseg's keys to a config made by ``detectron2.config.get_cfg()``, in place.

    The defaults are those of the paper's ViT-B/16 model; ``configs/`` has the configs that differ from them.
    """
    cfg.MODEL.DEVICE = default_device()
    cfg.MODEL.META_ARCHITECTURE = "MMOVSeg"  # or "CrossModalUnification" for stage 1
    cfg.MODEL.SEM_SEG_HEAD.NAME = "MMOVSegHead"
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 255  # label value that losses and scores ignore
    _add_data_config(cfg)
    _add_encoder_config(cfg)
    _add_head_config(cfg)
    _add_training_config(cfg)
    _add_segearth_config(cfg)
    _add_ebseg_config(cfg)
    _add_fgaseg_config(cfg)
    TranslatingCfgNode.adopt(cfg)


def _add_data_config(cfg: CN) -> None:
    cfg.DATASETS.FILES = []  # YAML files of datasets, which are registered before DATASETS.TRAIN/TEST are looked up
    # Classes whose labels training does not see, "water,road" or a list; "" or []: none; None: those of each dataset.
    cfg.DATASETS.UNSEEN = None

    cfg.INPUT.DATASET_MAPPER_NAME = "rgb_sar_semantic"  # or "rgb_sar_pair" for stage 1
    cfg.INPUT.SKIP_CORRUPT = False  # True: an unreadable sample is reported, skipped and counted instead of an error
    cfg.INPUT.RANDOM_FLIP = "both"  # "none" | "horizontal" | "vertical" | "both": nadir images have no up
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [384, 384]  # height, width in pixels; smaller samples are padded, with padding ignored
    # Shorter side in pixels after the random resize, to which the model also resizes in use; (0,): no resize.
    cfg.INPUT.MIN_SIZE_TRAIN = (384,)
    cfg.INPUT.MAX_SIZE_TRAIN = 4096
    # Shorter side in pixels to which pairs are resized for a model that does not resize, up to MAX_SIZE_TEST for the
    # longer one; windows of scenes are not. Scores and maps have the size of the files. 0: no resize.
    cfg.INPUT.MIN_SIZE_TEST = 0
    # True: evaluation repeats the released code's geometry, in which SAR lies on RGB only if images are 384 x 384
    # pixels, to hold published weights against published numbers (MODEL_ZOO.md).
    cfg.INPUT.RELEASED_GEOMETRY = False
    cfg.INPUT.COLOR_AUG_SSD = True  # brightness, contrast, saturation, hue; of the RGB image only

    # Probabilities, 0..1, that stage 2 trains a pair without RGB, and without SAR; never without both. A model that has
    # learned neither still maps SAR alone, but badly.
    cfg.INPUT.DROP_RGB = 0.0
    cfg.INPUT.DROP_SAR = 0.0

    cfg.INPUT.CLOUDS = CN()
    cfg.INPUT.CLOUDS.ENABLED = False  # True: training draws clouds and their shadows over RGB, not over SAR
    cfg.INPUT.CLOUDS.KIND = "varied"  # "thin" | "thick" | "varied" (need mm_ovseg[clouds]) | "fractal"
    cfg.INPUT.CLOUDS.PROBABILITY = 0.5  # that an image gets clouds; clear images are useful, too
    cfg.INPUT.CLOUDS.COVER = []  # [low, high] share of the ground under clouds, 0..1; []: the kind's default

    cfg.INPUT.RGB = CN()
    # 1-based bands of red, green and blue; []: by colour interpretation, else the first three.
    cfg.INPUT.RGB.BANDS = []
    # [low, high] in file units mapped to 0..255, except 8-bit files below high; []: 8-bit files, and those that declare
    # reflectance.
    cfg.INPUT.RGB.RANGE = []
    cfg.INPUT.RGB.NODATA = None  # nodata value (in all three bands at once), besides those that files declare

    cfg.INPUT.SAR = CN()
    # Unit of files that declare none: "8bit" | "power" | "amplitude" | "db" (raster.SAR_UNITS).
    cfg.INPUT.SAR.SCALE = "8bit"
    # [low, high] in dB mapped to 0..255, or one such pair per band; not used for "8bit". Never per tile.
    cfg.INPUT.SAR.RANGE = [-25.0, 0.0]
    cfg.INPUT.SAR.NODATA = None  # nodata value (in any of the bands), besides those that files declare
    # True: a pair whose SAR image has no valid pixel is RGB alone, in training and evaluation; False: it is an error.
    cfg.INPUT.SAR.MAY_BE_EMPTY = False
    cfg.INPUT.SAR.BANDS = []  # one to three 1-based bands (polarisations); []: the first three at most
    cfg.INPUT.SAR.SPECKLE_LOOKS = 0.0  # > 0: training multiplies SAR by speckle of this many looks (fewer is stronger)


def _add_encoder_config(cfg: CN) -> None:
    # What makes scores probabilities, a file of "mm-ovseg calibrate": "" is the one beside MODEL.WEIGHTS, if there is
    # one (model_final.calibration.json of model_final.pth); "none": raw scores. Maps depend on it, the IoU of an
    # evaluation does not.
    cfg.MODEL.CALIBRATION = ""
    cfg.MODEL.INFERENCE_DTYPE = "float32"  # or "bfloat16", "float16": mixed precision; training's is SOLVER.AMP
    # True: in float32, NVIDIA GPUs from Ampere on compute products faster and to 3 digits (TF32); docs/GPU.md.
    cfg.MODEL.ALLOW_TF32 = False
    cfg.MODEL.ACTIVATION_CHECKPOINTING = False  # True: training recomputes activations instead of storing them
    cfg.MODEL.COMPILE = False  # True: torch.compile of the encoders' blocks; needs a C++ compiler or a GPU

    cfg.MODEL.CLIP = CN()
    cfg.MODEL.CLIP.TYPE = "CLIPImageEncoder"
    cfg.MODEL.CLIP.NAME = "ViT-B-16-quickgelu"  # an open_clip model; OpenAI's weights need QuickGELU
    cfg.MODEL.CLIP.ARGUMENTS = CN(new_allowed=True)  # of open_clip.create_model
    cfg.MODEL.CLIP.PRETRAINED = ""  # "": random; a tag that open_clip knows ("openai"); a file, local or hf://
    cfg.MODEL.CLIP.IMAGE_SIZE = 384  # height and width in pixels
    cfg.MODEL.CLIP.GUIDANCE_BLOCKS = [4, 8]  # 1-based blocks whose outputs guide the decoder: coarse, fine
    cfg.MODEL.CLIP.FINETUNE = "query_value"  # "query_value": only these projection weights; or "none"
    cfg.MODEL.CLIP.PIXEL_MEAN = CLIP_PIXEL_MEAN  # on the 0..255 scale
    cfg.MODEL.CLIP.PIXEL_STD = CLIP_PIXEL_STD

    cfg.MODEL.CLIP_SAR = CN()
    cfg.MODEL.CLIP_SAR.ENABLED = False  # a SAR twin of CLIP's image encoder, for the encoder study
    cfg.MODEL.CLIP_SAR.WEIGHTS = ""  # "": a copy of the RGB encoder; else a stage-1 checkpoint, or as for PRETRAINED
    cfg.MODEL.CLIP_SAR.PIXEL_MEAN = CLIP_PIXEL_MEAN
    cfg.MODEL.CLIP_SAR.PIXEL_STD = CLIP_PIXEL_STD

    cfg.MODEL.DENSE_ENCODER = CN()
    cfg.MODEL.DENSE_ENCODER.ENABLED = True  # False, with DENSE_ENCODER_SAR off as well: CAT-Seg
    cfg.MODEL.DENSE_ENCODER.TYPE = "DINOEncoder"  # or your own encoder, see docs/ADVANCED_USAGE.md
    cfg.MODEL.DENSE_ENCODER.NAME = "vit_base_patch8_224.dino"  # a timm model
    cfg.MODEL.DENSE_ENCODER.ARGUMENTS = CN(new_allowed=True)  # of timm.create_model, e.g. {embed_dim: 64, depth: 3}
    cfg.MODEL.DENSE_ENCODER.PRETRAINED = ""  # "": random; a name from timm.list_pretrained(); a file, local or hf://
    cfg.MODEL.DENSE_ENCODER.IMAGE_SIZE = 384  # height and width in pixels
    cfg.MODEL.DENSE_ENCODER.BLOCKS = [4, 8, 12]  # 1-based; coarse guidance, fine guidance, dense feature
    # "": its projection into the text space starts at random, as published. Or a registered dataset of clear pairs,
    # with or without labels: it starts from a least-squares fit to CLIP's dense features of this many of their crops,
    # without the clouds, colour changes and speckle of training.
    cfg.MODEL.DENSE_ENCODER.FIT_DATASET = ""
    cfg.MODEL.DENSE_ENCODER.FIT_IMAGES = 240
    cfg.MODEL.DENSE_ENCODER.PIXEL_MEAN = CLIP_PIXEL_MEAN
    cfg.MODEL.DENSE_ENCODER.PIXEL_STD = CLIP_PIXEL_STD

    cfg.MODEL.DENSE_ENCODER_SAR = CN()
    cfg.MODEL.DENSE_ENCODER_SAR.ENABLED = True  # False: optical only, which is GSNet
    # "": a copy of the RGB encoder; else a stage-1 checkpoint, or as for PRETRAINED.
    cfg.MODEL.DENSE_ENCODER_SAR.WEIGHTS = ""
    cfg.MODEL.DENSE_ENCODER_SAR.PIXEL_MEAN = CLIP_PIXEL_MEAN
    cfg.MODEL.DENSE_ENCODER_SAR.PIXEL_STD = CLIP_PIXEL_STD

    cfg.MODEL.GUIDANCE_WIDTHS = [256, 128]  # channels of the guidance at 2x and 4x of the dense grid

    cfg.MODEL.TEXT = CN()
    cfg.MODEL.TEXT.TEMPLATES = ["A photo of a {} in the scene"]  # each gives one channel of the cost volume
    cfg.MODEL.TEXT.SYNONYMS = "average"  # of "water, river, lake": "average" the embeddings, or use the "first"


def _add_head_config(cfg: CN) -> None:
    cfg.MODEL.COST_VOLUME = CN()
    cfg.MODEL.COST_VOLUME.FUSION = "CostVolumeEmbedding"  # or your own fusion, see docs/ADVANCED_USAGE.md
    cfg.MODEL.COST_VOLUME.WIDTH = 128  # channels of the embedded cost volume
    cfg.MODEL.COST_VOLUME.KERNEL_SIZE = 7

    cfg.MODEL.AGGREGATOR = CN()
    cfg.MODEL.AGGREGATOR.LAYERS = 2
    cfg.MODEL.AGGREGATOR.HEADS = 4
    cfg.MODEL.AGGREGATOR.WINDOW_SIZE = 12  # dense tokens per side; must divide the side of the dense grid
    cfg.MODEL.AGGREGATOR.APPEARANCE_WIDTH = 128  # channels of the projected CLIP guidance
    cfg.MODEL.AGGREGATOR.TEXT_WIDTH = 128  # channels of the projected text guidance
    cfg.MODEL.AGGREGATOR.CLASS_POOLING = 2  # factor by which the grid is pooled for class attention
    cfg.MODEL.AGGREGATOR.PADDED_CLASSES = 256  # number of tokens in class attention; the rest is learned padding
    cfg.MODEL.AGGREGATOR.MAX_CLASSES = 0  # > 0: aggregate only this number of most similar classes (CAT-Seg: 256)

    cfg.MODEL.AGGREGATOR.CLASS_CHUNK = 8  # classes at a time in aggregator and decoder, to save memory; 0: all at once

    cfg.MODEL.DECODER = CN()
    cfg.MODEL.DECODER.WIDTHS = [64, 32]  # channels at 2x and 4x of the dense grid
    cfg.MODEL.DECODER.GUIDANCE_WIDTHS = [32, 16]  # channels of each encoder's projected guidance at 2x and 4x


def _add_training_config(cfg: CN) -> None:
    cfg.LOSS = CN()
    cfg.LOSS.NAME = "binary_cross_entropy"  # or "cross_entropy", or your own, see docs/ADVANCED_USAGE.md
    cfg.LOSS.IGNORED_AS_NEGATIVE = True  # ignored pixels are negatives for every class, as in CAT-Seg and the paper

    cfg.CMU = CN()  # stage 1, cross-modal unification
    # Encoder with a SAR twin: "dense" (the method), MODEL.DENSE_ENCODER, or "clip", MODEL.CLIP.
    cfg.CMU.ENCODER = "dense"
    cfg.CMU.LOSS = "infonce"  # or "mse", "l1", or your own, see docs/ADVANCED_USAGE.md
    cfg.CMU.BLOCKS = [4, 8, 12]  # 1-based blocks whose tokens are compared; the loss is their average
    cfg.CMU.TEMPERATURE = 0.07  # of InfoNCE; the paper does not state it
    cfg.CMU.LEARNED_TEMPERATURE = False  # True: starts at TEMPERATURE and is learned, as in CLIP
    cfg.CMU.NEGATIVES = "batch"  # of InfoNCE: RGB tokens of all images of all processes; or "image": of the same image
    cfg.CMU.SYMMETRIC = False  # True: also match RGB tokens to SAR tokens
    cfg.CMU.TOKENS_PER_IMAGE = 256  # tokens sampled per image and block
    cfg.CMU.EMA_DECAY = 0.0  # > 0: keep a moving average of the student, which is evaluated and loaded by stage 2

    cfg.SOLVER.OPTIMIZER = "ADAMW"  # or "SGD", with MOMENTUM and NESTEROV
    cfg.SOLVER.BASE_LR = 2.5e-4
    cfg.SOLVER.CLIP_MULTIPLIER = 0.01  # CLIP's learning rate relative to BASE_LR
    cfg.SOLVER.FIT_MULTIPLIER = 0.1  # the same for projections that FIT_DATASET initialises
    cfg.SOLVER.WEIGHT_DECAY = 1e-4
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    cfg.SOLVER.IMS_PER_BATCH = 8  # pairs per iteration, over all processes
    cfg.SOLVER.ACCUMULATION_STEPS = 1  # batches per iteration, whose gradients are averaged
    cfg.SOLVER.MAX_ITER = 80000
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"  # or "WarmupMultiStepLR", "WarmupPolyLR"
    cfg.SOLVER.POLY_LR_POWER = 0.9  # of WarmupPolyLR: (1 - iteration / MAX_ITER) ** power
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0  # of WarmupPolyLR: > 0 ends with this share of BASE_LR
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.01
    cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE = 2.0
    # Optimiser steps in a row that are skipped, since their gradients are not finite, before training stops. A few are
    # normal in float16: its loss scale starts at 65536 and is halved each time.
    cfg.SOLVER.MAX_SKIPPED_STEPS = 20
    # Number of periodic checkpoints that are kept, besides the best and the final one; 0: all. Each is complete, with
    # the frozen encoders (1.6 GB for ViT-B/16), so that it can be used without the files that they came from.
    cfg.SOLVER.MAX_CHECKPOINTS = 3

    cfg.SOLVER.AMP.DTYPE = "bfloat16"  # or "float16", with loss scaling; used if SOLVER.AMP.ENABLED

    cfg.DATALOADER.NUM_WORKERS = 4
    # Or "RepeatFactorTrainingSampler": samples with classes that occur in less than a share REPEAT_THRESHOLD of the
    # samples are drawn more often, by the square root of their rarity.
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.5
    cfg.DATALOADER.PREFETCH = 2  # batches that each worker reads ahead
    cfg.DATALOADER.CACHE_DIR = ""  # folder for a cache of decoded samples, about 7 to 16 bytes per pixel; "": none
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False  # all crops have the same size

    # Class files, one for each of DATASETS.TEST, with the names that prompt the model instead of the dataset's own, in
    # the same order: as the weights spell them. A file name alone means one of mm_ovseg/data/classes.
    cfg.TEST.PROMPT_FILES = ()
    # Two tests of the open vocabulary, off since they run the model once more, or once more for each class. Number of
    # names of what is not there (at most 32, mm_ovseg/evaluation/absent_names.json) to ask for beside those of the
    # dataset; 0: none.
    cfg.TEST.ABSENT_NAMES = 0
    cfg.TEST.SINGLE_NAMES = False  # True: also ask for each class alone
    cfg.TEST.MODALITIES = "both"  # or "rgb" | "sar": evaluation shows the model this image alone
    cfg.TEST.EVAL_PERIOD = 5000  # iterations; 0: only after the last one
    # The checkpoint with the highest value is kept as model_best.pth. It is not the score of all classes: to choose by
    # the labels of unseen classes is to learn from them.
    cfg.TEST.BEST_CHECKPOINT_METRIC = "sem_seg/mIoU-seen"

    # Number of pairs of the first of DATASETS.TEST whose predictions TensorBoard shows after each evaluation; 0: none.
    cfg.VISUALIZATION = CN()
    cfg.VISUALIZATION.PAIRS = 3

    cfg.WANDB = CN()  # Weights & Biases, needs mm_ovseg[wandb]; receives the same as TensorBoard
    cfg.WANDB.ENABLED = False  # to run without the service, set WANDB_MODE=offline in the environment
    cfg.WANDB.PROJECT = "mm_ovseg"
    cfg.WANDB.ENTITY = ""  # the team or user that the project belongs to; "": your own
    cfg.WANDB.NAME = ""  # of the run; "": the name of the folder OUTPUT_DIR


def _add_segearth_config(cfg: CN) -> None:
    """Of SegEarth-OV (mm_ovseg/baselines).

    Its windows have MODEL.CLIP.IMAGE_SIZE pixels a side, or, with 0, are the whole image.
    """
    cfg.MODEL.SEGEARTH = CN()
    # "": features are resized bilinearly; a file of SimFeatUp, local or hf://. The published one has no licence.
    cfg.MODEL.SEGEARTH.UPSAMPLER_WEIGHTS = ""
    cfg.MODEL.SEGEARTH.STRIDE = 112  # pixels from one window to the next
    # Windows in a batch: each of 224 pixels takes 0.5 GB in float32. On a CPU one is as fast as more, GPUs want more.
    cfg.MODEL.SEGEARTH.WINDOWS_AT_ONCE = 1
    # Weight of the similarity of the whole window, added to that of each pixel; below 0 since it is a bias.
    cfg.MODEL.SEGEARTH.LAMBDA = -0.3
    cfg.MODEL.SEGEARTH.SCALE = 50.0  # factor of cosine similarities before the softmax
    # Pixels whose best score is below it, 0..1, are of the class with the name BACKGROUND; without it, as they are.
    cfg.MODEL.SEGEARTH.THRESHOLD = 0.0
    cfg.MODEL.SEGEARTH.BACKGROUND = ""


def _add_ebseg_config(cfg: CN) -> None:
    """Of EBSeg (mm_ovseg/baselines)."""
    cfg.MODEL.EBSEG = CN()
    # 1-based blocks of CLIP that guide the decoder, coarse features last; the recognition head is what follows them.
    cfg.MODEL.EBSEG.CLIP_BLOCKS = [3, 6, 9]
    cfg.MODEL.EBSEG.SURGERY_BLOCK = 3  # 1-based block from which on CLIP has its second stream
    cfg.MODEL.EBSEG.CLIP_SCALE = 0.5  # share of the image's sides at which CLIP sees it; the release has 0.7 for ViT-L
    cfg.MODEL.EBSEG.WIDTH = 256  # channels of both decoders
    cfg.MODEL.EBSEG.HEADS = 8  # attention heads of both decoders
    cfg.MODEL.EBSEG.PIXEL_LAYERS = 6  # layers of the pixel decoder
    cfg.MODEL.EBSEG.LAYERS = 9  # layers of the transformer decoder
    cfg.MODEL.EBSEG.QUERIES = 100  # masks per image
    # Names that the weights were trained with, which are weighted by ALPHA instead of BETA; []: those of
    # DATASETS.TRAIN, without the unseen ones.
    cfg.MODEL.EBSEG.SEEN_CLASSES = []
    cfg.MODEL.EBSEG.ALPHA = 0.09  # weight of CLIP's features in the mask, for seen classes
    cfg.MODEL.EBSEG.BETA = 0.3  # the same for unseen classes
    cfg.MODEL.EBSEG.GAMMA = 0.7  # weight of CLIP's recognition head; what is left to 1 is the decoder's own

    cfg.MODEL.EBSEG.SAM = CN()
    cfg.MODEL.EBSEG.SAM.NAME = "samvit_base_patch16"  # a timm model
    cfg.MODEL.EBSEG.SAM.ARGUMENTS = CN(new_allowed=True)  # of timm.create_model, e.g. {embed_dim: 64, depth: 3}
    # "": random; a name from timm.list_pretrained() ("samvit_base_patch16.sa1b"); a file, local or hf://
    cfg.MODEL.EBSEG.SAM.PRETRAINED = ""
    cfg.MODEL.EBSEG.SAM.BLOCKS = [3, 6, 9, 12]  # 1-based; fine to coarse maps
    cfg.MODEL.EBSEG.SAM.PIXEL_MEAN = [123.675, 116.28, 103.53]  # on the 0..255 scale
    cfg.MODEL.EBSEG.SAM.PIXEL_STD = [58.395, 57.12, 57.375]


def _add_fgaseg_config(cfg: CN) -> None:
    """Of FGAseg (mm_ovseg/baselines)."""
    cfg.MODEL.FGASEG = CN()
    cfg.MODEL.FGASEG.REFINEMENT_LAYERS = 1  # of cross-attention from the text to the image; published variants: 2, 4, 6
    cfg.MODEL.FGASEG.REFINEMENT_HEADS = 8  # must divide CLIP's channels
    # Dense tokens, odd, of the local correlation. Its kernels average, so that 1 leaves them all equal.
    cfg.MODEL.FGASEG.KERNEL_SIZE = 3
    cfg.MODEL.FGASEG.FUSION = "concatenate"  # of global and local correlation; or "add"
    cfg.MODEL.FGASEG.AUXILIARY_HEADS = True  # False: neither their losses nor pruning, the published "no_fast" decoder
    # Of a larger vocabulary, evaluation drops the classes that an auxiliary head sees nowhere among this number of best
    # classes, each image on its own; 0: none.
    cfg.MODEL.FGASEG.KEPT_CLASSES = 16
    cfg.MODEL.FGASEG.AUXILIARY_WEIGHTS = [0.2, 1.0, 1.0]  # of the losses of the three auxiliary heads
    cfg.MODEL.FGASEG.ALIGN_WEIGHT = 0.02  # of the loss of the alignment branch
    cfg.MODEL.FGASEG.NORM = "BN"  # of the alignment branch; or "SyncBN", for few images a GPU
    # True: evaluation averages four overlapping windows and the whole image, as published; five times slower
    cfg.MODEL.FGASEG.SLIDING_WINDOW = False
