"""Finding evaluations and measurements in a folder, and the cells of the paper's tables that they belong to."""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode

from mm_ovseg.checkpoint.official import convert_official_state_dict, detect_variant
from mm_ovseg.checkpoint.state_dict import unwrap_state_dict
from mm_ovseg.checkpoint.weights_file import load_weights_file
from mm_ovseg.engine.setup import read_config
from mm_ovseg.errors import CheckpointError, ConfigError, DataError
from mm_ovseg.evaluation.report_file import read_segmentation_report
from mm_ovseg.modeling.encoders import encoder_names
from mm_ovseg.plain_data import parse_json, read_text
from mm_ovseg.tables.methods import (
    METHODS,
    STUDIED,
    VARIANTS,
    efficiency_row,
    method_of,
    setting_of,
    shipped_config,
    size_of,
)

__all__ = ["Measurement", "Runs", "find_runs"]

SCORES = ("mIoU", "mIoU-unseen", "mIoU-seen")
EVALUATION = "inference/*/sem_seg_evaluation.json"
LOSS_STUDY = ("ablations/loss_mse.yaml", "ablations/loss_l1.yaml")
# SAR twin: how the names of its weights begin, and those of its original
TWINS = {
    "CLIP_SAR": ("clip_sar.encoder.", "clip.encoder."),
    "DENSE_ENCODER_SAR": ("dino_sar.encoder.", "dino.encoder."),
}
MAX_JSON_BYTES = 1_000_000
MEASURED = ("config_file", "model", "parameters", "machine")  # keys of what mm-ovseg efficiency writes


class FitsNoRowError(DataError):
    """Why a run belongs to no row of a table."""


class Measurement(NamedTuple):
    """A row of the efficiency table.

    Attributes:
        values: in the order of :data:`~mm_ovseg.efficiency.report.PAPER_COLUMNS`: milliseconds per pair and kg of CO2
            per 1000 pairs, of training and of inference, and millions of parameters; None for what was not measured.
        device: what they were measured on.
    """

    values: tuple[float | None, ...]
    device: str


@dataclass
class Runs:
    """What a folder holds for the tables.

    Attributes:
        scores: (method, size, setting) -> mIoU, mIoU-unseen and mIoU-seen, percent; None where no pixel has a label.
            Methods are those of Table 2, and "none", "CLIP only" and "both" of the encoder study.
        measured: row of the efficiency table -> what ``mm-ovseg efficiency --json`` measured.
        left_out: a line for each file that fits no row, with the reason.
        files: all that was read.
    """

    scores: dict[tuple[str, str, str], dict[str, float | None]] = field(default_factory=dict)
    measured: dict[str, Measurement] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def find_runs(folder: Path) -> Runs:
    """Find the runs in a folder, at any depth.

    A run is a ``config.yaml`` that Detectron2 wrote, with ``inference/DATASET/sem_seg_evaluation.json`` beside it. What
    it is, is read from that config, never from names of folders.

    Raises:
        DataError: there is no such folder, a file in it cannot be used, or two runs belong to the same cell.
    """
    if not folder.is_dir():
        raise DataError(f"--runs {folder} is not a folder; give one that holds the OUTPUT_DIR of trainings.")
    runs, paths = Runs(), {}

    def add(path: Path, read: Callable[[], tuple[Any, Any]], cells: dict[Any, Any]) -> None:
        runs.files.append(path)
        try:
            cell, content = read()
        except FitsNoRowError as reason:
            runs.left_out.append(f"{path} is left out: {reason}.")
            return
        if cell in cells:
            name = cell if isinstance(cell, str) else ", ".join(cell)
            raise DataError(f"{paths[cell]} and {path} are both {name}; move one of them out of {folder}.")
        cells[cell], paths[cell] = content, path

    for path in sorted(folder.rglob("sem_seg_evaluation.json")):
        runs.files.append(_config_file(path))
        add(path, partial(_read_evaluation, path), runs.scores)
    for path in sorted(folder.rglob("*.json")):
        if (report := _measurement(path)) is not None:
            add(path, partial(_read_measurement, path, report), runs.measured)
    return runs


def _read_evaluation(path: Path) -> tuple[tuple[str, str, str], dict[str, float | None]]:
    """The cell of an evaluation, and its scores."""
    report, config_file = read_segmentation_report(path), _config_file(path)
    if not path.match(EVALUATION) or not config_file.is_file():
        raise FitsNoRowError(f"it is not {EVALUATION} beside a config.yaml")
    try:
        cfg = read_config(config_file)
    except ConfigError as error:
        raise FitsNoRowError(str(error).rstrip(".")) from error
    if report.dataset not in (cfg.DATASETS.TEST or ()):
        raise FitsNoRowError(f"{config_file} is of another run, which was not evaluated on {report.dataset}")
    setting = setting_of(cfg, report)
    if setting is None:
        raise FitsNoRowError(
            f"a model trained on {_listed(cfg.DATASETS.TRAIN or ())} and evaluated on {report.dataset}, with such seen "
            "and unseen classes, is in none of the six settings"
        )
    method, size = method_of(cfg), size_of(cfg)
    if method is None or size is None:
        encoders = _listed(encoder_names(cfg).values())
        raise FitsNoRowError(f"{cfg.MODEL.META_ARCHITECTURE} with {encoders} is none of the paper's models")
    twins = [role for role in encoder_names(cfg) if role in TWINS]
    if "DENSE_ENCODER_SAR" in twins:
        _check_loss(cfg.MODEL.DENSE_ENCODER_SAR.WEIGHTS)
    if not all(_is_unified(cfg, role, config_file.parent) for role in twins):
        if method in VARIANTS:
            raise FitsNoRowError("a SAR encoder is the copy of an RGB encoder, which the encoder study does not have")
        method = "none"
    if method not in METHODS and (size, setting) != ("ViT-B/16", STUDIED):
        raise FitsNoRowError(f"the encoder study ({method}) is about ViT-B/16 in setting {STUDIED}")
    scores = report.scores
    return (method, size, setting), {name: _finite(scores[name]) for name in SCORES}


def _config_file(evaluation: Path) -> Path:
    return evaluation.parent.parent.parent / "config.yaml"


def _check_loss(weights: str) -> None:
    """Check that the loss of stage 1, from which a SAR encoder has its weights, is the method's, if that is known."""
    loss = "infonce"
    if weights and (stage_1 := Path(weights).parent / "config.yaml").is_file():
        with suppress(ConfigError):
            loss = read_config(stage_1).CMU.LOSS
    if loss != "infonce" or weights in [shipped_config(file).MODEL.DENSE_ENCODER_SAR.WEIGHTS for file in LOSS_STUDY]:
        raise FitsNoRowError(f"its SAR encoder, {weights}, belongs to the loss study")


def _is_unified(cfg: CfgNode, role: str, folder: Path) -> bool:
    """Whether a SAR twin went through stage 1, or is the copy of the RGB encoder.

    An evaluation takes it from the whole model's weights, which then tell. The config alone does not.
    """
    if cfg.MODEL[role].WEIGHTS:
        return True
    weights = cfg.MODEL.WEIGHTS or next(map(str, sorted(folder.glob("model_*.pth"))), None)
    unknown = f"whether MODEL.{role} is from stage 1 or the copy of the RGB encoder is unknown"
    if weights is None:
        raise FitsNoRowError(f"{unknown}: keep a checkpoint of the run, model_*.pth, beside its config.yaml")
    try:
        state_dict = unwrap_state_dict(load_weights_file(weights))
        if (variant := detect_variant(state_dict)) is not None:
            state_dict = convert_official_state_dict(state_dict, variant)
    except CheckpointError as error:
        raise FitsNoRowError(f"{unknown} without its weights ({str(error).rstrip('.')})") from error
    twin, original = TWINS[role]
    same = [
        (other := state_dict.get(original + name.removeprefix(twin))) is not None and torch.equal(tensor, other)
        for name, tensor in state_dict.items()
        if name.startswith(twin)
    ]
    if not same:
        raise FitsNoRowError(f"{unknown}: {weights} has none")
    # Not all: stage 2 changes CLIP's queries and values, and stage 1 may leave what follows its last block as it was.
    return sum(same) < len(same) / 2


def _measurement(path: Path) -> dict[str, Any] | None:
    """The content of a file of ``mm-ovseg efficiency``; None if it is another one."""
    content = None
    if path.is_file() and path.stat().st_size <= MAX_JSON_BYTES:
        with suppress(ValueError, DataError):
            content = parse_json(read_text(path))
    return content if isinstance(content, dict) and all(key in content for key in MEASURED) else None


def _read_measurement(path: Path, report: dict[str, Any]) -> tuple[str, Measurement]:
    """The row of a measurement, and its numbers."""
    try:
        row = efficiency_row(report["model"], report["encoders"])
        modes = [report.get(mode, {}) for mode in ("training", "inference")]
        per_pair = [mode.get(f"{name}_per_pair") for name in ("seconds", "co2_kilograms") for mode in modes]
        values = [None if value is None else 1000 * float(value) for value in per_pair]
        values.append(report["parameters"]["total"]["all"] / 1e6)
        device = str(report["machine"]["device_name"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not as mm-ovseg efficiency writes it; measure again, or remove it.") from error
    if row is None:
        raise FitsNoRowError(f"{report['config_file']} is not a row of the efficiency table")
    return row, Measurement(tuple(values), device)


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
