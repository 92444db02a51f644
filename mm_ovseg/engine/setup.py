"""From a command line to a frozen config, registered datasets, loggers and seeds."""

import difflib
import logging
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from mm_ovseg.checkpoint.files import QUICKSTART, QUICKSTART_FILE
from mm_ovseg.config import add_mm_ovseg_config
from mm_ovseg.data import register_datasets_from_file
from mm_ovseg.errors import ConfigError, MMOVSegError
from mm_ovseg.files import check_outputs, check_writable_folder, complete_file
from mm_ovseg.plain_data import parse_yaml
from mm_ovseg.vocabulary import parse_class_names, select_unseen, validate_class_names

__all__ = ["config_inputs", "load_config", "set_up_run"]

TOO_DEEP = (RecursionError, MemoryError)  # what Python makes of a value of thousands of brackets


def load_config(config_file: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a config file and overrides, register the datasets that it declares, and freeze it.

    Args:
        config_file: a YAML file; ``_BASE_`` in it names the one it builds on.
        overrides: key, value, key, value, ... as typed at the end of a command line.

    Raises:
        ConfigError: a file is missing or malformed, a key does not exist, a value has the wrong type, or the device is
            not there. The message names the file or says "the command line".
        DataError, VocabularyError: a declared dataset cannot be registered, or DATASETS.UNSEEN names no class of the
            datasets.
    """
    cfg = get_cfg()
    add_mm_ovseg_config(cfg)
    if not Path(config_file).is_file():
        raise ConfigError(f"The config file '{config_file}' does not exist; give one with --config-file, see configs/.")
    _read_chain(Path(config_file))
    _merge(cfg, str(config_file), lambda: cfg.merge_from_file(str(config_file), allow_unsafe=False))
    if len(overrides) % 2:
        raise ConfigError(
            f"The overrides {' '.join(overrides)} are not pairs of KEY VALUE; the last one lacks its value."
        )
    _merge(cfg, "the command line", lambda: cfg.merge_from_list(list(overrides)))
    for path in cfg.DATASETS.FILES:
        register_datasets_from_file(path)
    cfg.DATASETS.UNSEEN = _read_unseen(cfg)
    _check_device(cfg.MODEL.DEVICE)
    for key, name, registry in (
        ("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY),
        ("MODEL.SEM_SEG_HEAD.NAME", cfg.MODEL.SEM_SEG_HEAD.NAME, SEM_SEG_HEADS_REGISTRY),
    ):
        if name not in registry:
            raise ConfigError(f"{key} is '{name}', which is not registered; import what defines it, or correct it.")
    cfg.freeze()
    return cfg


def config_inputs(cfg: CfgNode, config_file: str | Path | None = None) -> dict[str, list[str | Path]]:
    """The files that a config stands for, by what they are, for :func:`mm_ovseg.files.check_outputs`.

    Args:
        cfg: whose weights and files of datasets are read.
        config_file: that it was loaded from; None where it is not known.

    Raises:
        ConfigError: the config file cannot be read.
    """
    model = cfg.MODEL
    weights = [model.WEIGHTS, model.CLIP.PRETRAINED, model.DINO.PRETRAINED]
    weights += [model.CLIP_SAR.WEIGHTS, model.DINO_SAR.WEIGHTS]
    return {
        "the config": [] if config_file is None else _read_chain(Path(config_file)),
        "one of the weights files": [QUICKSTART_FILE if name == QUICKSTART else name for name in weights if name],
        "one of the dataset files": list(cfg.DATASETS.FILES),
    }


def set_up_run(cfg: CfgNode, args: Namespace) -> None:
    """Detectron2's ``default_setup``, with its pages on environment and config in ``log.txt`` only.

    Also lets this package's own log lines through, on the console and in the file, and keeps the traceback of the
    user's errors, which end in one sentence, to the file.

    Raises:
        DataError: OUTPUT_DIR cannot be written to, or a new run would replace the weights there that it begins with.
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
        handler.addFilter(_is_no_user_error)
    with _kept(Path(cfg.OUTPUT_DIR, "config.yaml"), args.config_file):
        default_setup(cfg, args)
    for handler, level in zip(consoles, levels, strict=True):
        handler.setLevel(level)


@contextmanager
def _kept(dumped: Path, config_file: str) -> Iterator[None]:
    """Keep the config where Detectron2 would write all of its keys over it: it may be somebody's own."""
    if not (comm.is_main_process() and dumped.exists() and dumped.samefile(config_file)):
        yield
        return
    content = dumped.read_bytes()
    try:
        yield
    finally:
        with complete_file(dumped) as temporary:
            temporary.write_bytes(content)


def _is_no_user_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], MMOVSegError))


def _read_chain(config_file: Path) -> list[Path]:
    """A config and those it builds on, checked to be plain YAML in files of this machine.

    Raises:
        ConfigError: one is not, or they build on each other in a circle.
    """
    chain = [config_file.resolve()]
    while True:
        try:
            content = parse_yaml(chain[-1].read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"The config {chain[-1]} cannot be read ({error.strerror}); check its name.") from error
        except ValueError as error:
            raise ConfigError(f"{chain[-1]} is not valid YAML ({error}); correct it there.") from error
        base = content.get("_BASE_") if isinstance(content, dict) else None
        if not isinstance(base, str):
            return chain
        if "://" in base:
            raise ConfigError(f"{chain[-1]} builds on {base}; fetch that file, and name it by its path.")
        chain.append((chain[-1].parent / Path(base).expanduser()).resolve())
        if chain[-1] in chain[:-1]:
            raise ConfigError(f"{chain[-1]} builds on itself by _BASE_; correct it there.")


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
    """``DATASETS.UNSEEN`` as a list of names, each of which is a class of a dataset of DATASETS.TRAIN or TEST.

    Raises:
        VocabularyError: a name is not.
    """
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
        raise ConfigError(f"MODEL.DEVICE is '{name}', which is no device of PyTorch; try 'cpu' or 'cuda'.") from error
    if not available:
        raise ConfigError(f"MODEL.DEVICE is '{name}', which this machine does not have; try MODEL.DEVICE cpu.")
