"""Which of the paper's methods, sizes and settings a config describes."""

from collections.abc import Mapping
from functools import cache

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from mm_ovseg.efficiency.measure import count_parameters
from mm_ovseg.engine import load_config
from mm_ovseg.engine.setup import read_config
from mm_ovseg.evaluation.report_file import SegmentationReport
from mm_ovseg.modeling.encoders import encoder_names
from mm_ovseg.shipped import SHIPPED

__all__ = [
    "METHODS",
    "SETTINGS",
    "STUDIED",
    "VARIANTS",
    "efficiency_row",
    "method_of",
    "setting_of",
    "shipped_config",
    "size_of",
    "training_facts",
]

METHODS = {  # in the paper's order: method of Table 2 -> its config
    "CAT-Seg": "siblings/catseg_vitb16_384.yaml",
    "EBSeg": "siblings/ebseg_vitb16_640.yaml",
    "GSNet": "siblings/gsnet_vitb16_384.yaml",
    "SegEarth-OV": "siblings/segearth_ov_vitb16.yaml",
    "FGAseg": "siblings/fgaseg_vitb16_384.yaml",
    "MM-OVSeg": "mm_ovseg_vitb16_384.yaml",
}
# Of the encoder study; "DINO only" is MM-OVSeg, and "none" is built like it: only its weights differ.
VARIANTS = {"CLIP only": "ablations/encoder_clip.yaml", "both": "ablations/encoder_both.yaml"}
SIZES = {"ViT-B/16": "mm_ovseg_vitb16_384.yaml", "ViT-L/14": "mm_ovseg_vitl14_336.yaml"}
SETTINGS = {  # in the paper's order
    "PIE-cloud": "settings/pie_cloud.yaml",
    "DDHR-SK": "settings/ddhr_sk.yaml",
    "OEM-thick": "settings/oem_thick.yaml",
    "OEM-thin": "settings/oem_thin.yaml",
    "PIE-clean": "settings/pie_clean.yaml",
    "DDHR-SK → CH": "settings/ddhr_sk_to_ch.yaml",
}
STUDIED = "DDHR-SK"  # the setting of the encoder study, and of the efficiency table
# Rows of the efficiency table; what its "DEF module" is made of, the paper does not say.
EFFICIENCY = {
    "CMU module": "cmu_dino_vitb8.yaml",
    "full MM-OVSeg": "mm_ovseg_vitb16_384.yaml",
    "GSNet": "siblings/gsnet_vitb16_384.yaml",
}


def method_of(cfg: CfgNode) -> str | None:
    """The method of Table 2, or "CLIP only" or "both" of the encoder study, that a config's architecture is."""
    described = cfg.MODEL.META_ARCHITECTURE, encoder_names(cfg).keys()
    for name, file in (METHODS | VARIANTS).items():
        if (SHIPPED / "configs" / file).is_file():
            known = shipped_config(file)
            if described == (known.MODEL.META_ARCHITECTURE, encoder_names(known).keys()):
                return name
    return None


def size_of(cfg: CfgNode) -> str | None:
    """The size, one of ``SIZES``, that all encoders of a config have."""
    return next((size for size, file in SIZES.items() if _same_encoders(encoder_names(cfg), file)), None)


def setting_of(cfg: CfgNode, report: SegmentationReport) -> str | None:
    """The setting of an evaluation: trained and evaluated on its datasets, with its classes, seen and unseen."""
    for setting, file in SETTINGS.items():
        datasets = shipped_config(file).DATASETS
        if (tuple(cfg.DATASETS.TRAIN or ()), (report.dataset,)) == (tuple(datasets.TRAIN), tuple(datasets.TEST)):
            metadata = MetadataCatalog.get(report.dataset)
            same = report.classes == tuple(metadata.stuff_classes)
            return setting if same and set(report.unseen_classes) == set(metadata.unseen_classes) else None
    return None


def efficiency_row(architecture: str, encoders: Mapping[str, str]) -> str | None:
    """The row of the efficiency table that a measured model is.

    Args:
        architecture: its ``MODEL.META_ARCHITECTURE``.
        encoders: see :func:`~mm_ovseg.modeling.encoders.encoder_names`.
    """
    for row, file in EFFICIENCY.items():
        known = shipped_config(file)
        same = architecture == known.MODEL.META_ARCHITECTURE and encoders.keys() == encoder_names(known).keys()
        if same and _same_encoders(encoders, file):
            return row
    return None


@cache
def training_facts(method: str) -> tuple[float, int, float] | None:
    """Trainable parameters in millions, batch and learning rate of a method's config; None for one without a config.

    The model is built on the CPU, with random weights.
    """
    file = SHIPPED / "configs" / METHODS[method]
    if not file.is_file():
        return None
    without_data = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.DEVICE", "cpu"]
    cfg = load_config(file, without_data)
    trainable = count_parameters(build_model(cfg))["total"]["trainable"]
    return trainable / 1e6, cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATION_STEPS, cfg.SOLVER.BASE_LR


@cache
def shipped_config(name: str) -> CfgNode:
    """A config below ``configs/``."""
    return read_config(SHIPPED / "configs" / name)


def _same_encoders(encoders: Mapping[str, str], file: str) -> bool:
    """Whether encoders are of the same kinds as those of a config; twins have the kind of what they are twins of."""
    known = encoder_names(shipped_config(file))
    return all(_kind(name) == _kind(known.get(role.removesuffix("_SAR"), "")) for role, name in encoders.items())


def _kind(name: object) -> str:
    return str(name).removesuffix("-quickgelu")  # an activation that OpenAI's weights have under either name
