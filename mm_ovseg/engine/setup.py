"""From a command line to a frozen config, registered datasets, loggers and seeds."""

import difflib
import io
import logging
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

import mm_ovseg.baselines  # noqa: F401 (registers models)
from mm_ovseg.checkpoint.weights_file import SHIPPED_WEIGHTS, local_weights_path
from mm_ovseg.choices import check_registered
from mm_ovseg.config import add_mm_ovseg_config
from mm_ovseg.data import register_datasets_from_file
from mm_ovseg.engine.calibration import find_calibration
from mm_ovseg.engine.config_checks import check_modalities, check_unread_keys
from mm_ovseg.engine.config_file import WEIGHTS_KEYS, config_files, find_config, read_config_file
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import check_outputs, check_writable_folder, complete_file, sha256
from mm_ovseg.plain_data import read_text
from mm_ovseg.shipped import SHIPPED
from mm_ovseg.vocabulary import parse_class_names, select_unseen, validate_class_names

__all__ = ["config_inputs", "load_config", "read_config", "set_up_run", "weights_hashes"]

TOO_DEEP = (RecursionError, MemoryError)  # raised by Python for thousands of nested brackets


def load_config(
    config_file: str | Path,
    overrides: Sequence[str] = (),
    *,
    base: str | Path | None = None,
    needs_datasets: bool = True,
) -> CfgNode:
    """Read a config file and overrides, register the declared datasets, and freeze the config.

    Args:
        config_file: a YAML file; ``_BASE_`` in it gives its base. If no file ``configs/...`` exists, the one shipped
            with the package is used.
        overrides: key, value, key, value, ... as typed at the end of a command line.
        base: a config that takes the place of those that ``_BASE_`` names: the model of one, in the setting of another.
        needs_datasets: False ignores missing files of DATASETS.FILES, for commands that only use a model.

    Paths in ``overrides`` are relative to the working folder; for those in config files see
    :func:`~mm_ovseg.engine.config_file.read_config_file`.

    Raises:
        ConfigError: a file is missing or malformed, a key does not exist or is not read by anything, a value has the
            wrong type, or the device is missing. The message names the file or "the command line".
        DataError, VocabularyError: a declared dataset cannot be registered, or DATASETS.UNSEEN names no class of the
            datasets.
    """
    cfg = read_config(config_file, overrides, base=base)
    _register_dataset_files(cfg.DATASETS.FILES or (), needs_datasets)
    cfg.DATASETS.UNSEEN = _read_unseen(cfg)
    _check_device(cfg.MODEL.DEVICE)
    check_registered("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY)
    check_registered("MODEL.SEM_SEG_HEAD.NAME", cfg.MODEL.SEM_SEG_HEAD.NAME, SEM_SEG_HEADS_REGISTRY)
    check_unread_keys(cfg)
    check_modalities(cfg)
    cfg.freeze()
    return cfg


def read_config(config_file: str | Path, overrides: Sequence[str] = (), *, base: str | Path | None = None) -> CfgNode:
    """Read a config as :func:`load_config` does, but register and check nothing: it may be another machine's.

    Raises:
        ConfigError: a file is missing or malformed, a key does not exist, or a value has the wrong type.
    """
    cfg = get_cfg()
    add_mm_ovseg_config(cfg)
    if not find_config(config_file).is_file():
        raise ConfigError(
            f"The config file '{config_file}' does not exist{_counted_from(config_file)}; give one with --config-file, "
            f"see {SHIPPED / 'configs'}."
        )
    content = read_config_file(config_file, base)
    version = content.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise ConfigError(f"{config_file} has VERSION {version!r}; convert it to VERSION {cfg.VERSION} of Detectron2.")
    _merge(cfg, str(config_file), lambda: cfg.merge_from_other_cfg(CfgNode(content)))
    _check_override_pairs(overrides)
    _merge(cfg, "the command line", lambda: cfg.merge_from_list(list(overrides)))
    return cfg


def config_inputs(cfg: CfgNode, config_file: str | Path | None = None) -> dict[str, list[str | Path]]:
    """The files that a config refers to, by description, for :func:`mm_ovseg.files.check_outputs`.

    Args:
        cfg: refers to weights and dataset files.
        config_file: the file that it was loaded from; None if unknown.

    Raises:
        ConfigError: the config file cannot be read.
    """
    weights = [attrgetter(key)(cfg) for key in WEIGHTS_KEYS]
    return {
        "the config": [] if config_file is None else config_files(config_file),
        "one of the weights files": [SHIPPED_WEIGHTS.get(name, name) for name in weights if name],
        "their calibration": [find_calibration(cfg)],
        "one of the dataset files": list(cfg.DATASETS.FILES),
    }


def weights_hashes(cfg: CfgNode) -> dict[str, str | None]:
    """SHA-256 of the weights files that a model is made of, by config key; None for weights that a library names.

    ``MODEL.WEIGHTS`` stands alone, since it replaces the weights of all parts.

    Raises:
        CheckpointError: a file on the hub cannot be downloaded.
    """
    keys = ("MODEL.WEIGHTS",) if cfg.MODEL.WEIGHTS else WEIGHTS_KEYS
    given = {key: name for key in keys if (name := attrgetter(key)(cfg))}
    is_file = {key: "://" in name or os.path.isfile(name) for key, name in given.items()}
    return {key: sha256(local_weights_path(name)) if is_file[key] else None for key, name in given.items()}


def set_up_run(cfg: CfgNode, args: Namespace) -> None:
    """Detectron2's ``default_setup``, with the environment and the config logged to ``log.txt`` only.

    Also logs this package's messages to the console and the file, and tracebacks to the file only: an error that ends
    the run is printed where it does so.

    Raises:
        DataError: OUTPUT_DIR cannot be written to, or a new run would replace the weights that it starts from.
    """
    rank = comm.get_rank()
    check_writable_folder(cfg.OUTPUT_DIR)
    if not (args.eval_only or args.resume):
        check_outputs({"OUTPUT_DIR": Path(cfg.OUTPUT_DIR).glob("model_*.pth")}, config_inputs(cfg))
    detectron2_logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="mm_ovseg")
    consoles = [handler for handler in detectron2_logger.handlers if getattr(handler, "stream", None) is sys.stdout]
    levels = [handler.level for handler in consoles]
    for handler in consoles:
        handler.setLevel(logging.WARNING)
        handler.addFilter(_is_no_traceback)
    # Detectron2 would use the encoding of the locale for log.txt and for reading the config.
    for handler in set(detectron2_logger.handlers) - set(consoles):
        if isinstance(handler.stream, io.TextIOWrapper):
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    config_file = find_config(args.config_file)
    detectron2_logger.info("Contents of %s:\n%s", config_file, read_text(config_file, ConfigError))
    # Keeps a user's own config.yaml, which Detectron2 would overwrite.
    dumped = Path(cfg.OUTPUT_DIR, "config.yaml")
    is_own = dumped.exists() and any(dumped.samefile(file) for file in config_files(args.config_file, args.base))
    own = dumped.read_bytes() if rank == 0 and is_own else None
    try:
        default_setup(cfg, Namespace(**{**vars(args), "config_file": ""}))
    finally:
        if own is not None:
            with complete_file(dumped) as temporary:
                temporary.write_bytes(own)
    for handler, level in zip(consoles, levels, strict=True):
        handler.setLevel(level)


def _is_no_traceback(record: logging.LogRecord) -> bool:
    return not record.exc_info


def _counted_from(path: str | Path) -> str:
    return "" if Path(path).is_absolute() else f" in the working folder, {Path.cwd()}"


def _check_override_pairs(overrides: Sequence[str]) -> None:
    for word in overrides[::2]:
        key, equals, value = str(word).partition("=")
        if equals:
            raise ConfigError(f"'{word}' joins a config key and its value with '='; write {key} {value or 'VALUE'}.")
    if len(overrides) % 2:
        raise ConfigError(
            f"The overrides {' '.join(map(str, overrides))} are not pairs of KEY VALUE; the last key has no value."
        )


def _register_dataset_files(files: Sequence[str], needed: bool) -> None:
    for path in files:
        if not isinstance(path, str):
            raise ConfigError(f"DATASETS.FILES holds {path!r}, which is not a path; write it in quotes.")
        if os.path.exists(path):
            register_datasets_from_file(path)
        elif needed:
            raise ConfigError(
                f"DATASETS.FILES lists {path}, which does not exist{_counted_from(path)}; paths are relative to that "
                f"folder or, in a config file, first from that file's folder and from {SHIPPED}."
            )


def _merge(cfg: CfgNode, source: str, merge: Callable[[], None]) -> None:
    try:
        merge()
    except (KeyError, AttributeError, ValueError, AssertionError, OSError, TypeError, *TOO_DEEP) as error:
        reason = " ".join(str(error).split())
        unknown = re.search(r"Non-existent (?:config )?key: ([\w.]+)", reason)
        if unknown is None:
            raise ConfigError(f"{source} cannot be used as a config: {reason}.") from error
        close = difflib.get_close_matches(unknown[1], _all_keys(cfg), n=1)
        hint = f"did you mean {close[0]}?" if close else "see mm_ovseg/config.py for the keys."
        raise ConfigError(f"The config key {unknown[1]}, given in {source}, does not exist; {hint}") from error


def _all_keys(node: CfgNode, prefix: str = "") -> list[str]:
    keys = []
    for key, value in node.items():
        keys += _all_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [f"{prefix}{key}"]
    return keys


def _read_unseen(cfg: CfgNode) -> list[str] | None:
    """The names of DATASETS.UNSEEN, each a class of a dataset in DATASETS.TRAIN or TEST."""
    chosen = cfg.DATASETS.UNSEEN
    if chosen is None:
        return None
    if isinstance(chosen, str):
        chosen = parse_class_names(chosen) if chosen.strip() else ()
    chosen = validate_class_names(chosen) if chosen else ()
    names = [name for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if name in DatasetCatalog]
    classes = dict.fromkeys(name for dataset in names for name in MetadataCatalog.get(dataset).get("stuff_classes", []))
    if classes:
        select_unseen(tuple(classes), chosen)
    return list(chosen)


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
        available = device.type == "cpu" or torch.get_device_module(device).is_available()
    except RuntimeError as error:
        raise ConfigError(
            f"MODEL.DEVICE is '{name}', which is not a device of PyTorch; try 'cpu' or 'cuda'."
        ) from error
    if not available:
        raise ConfigError(f"MODEL.DEVICE is '{name}', which this machine does not have; try MODEL.DEVICE cpu.")
