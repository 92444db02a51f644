"""Config files: the chain of their bases, and what the paths in them are relative to."""

import ast
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mm_ovseg.errors import ConfigError
from mm_ovseg.plain_data import parse_yaml, read_text
from mm_ovseg.renamed_keys import translate_config
from mm_ovseg.shipped import SHIPPED, shipped_path

__all__ = ["WEIGHTS_KEYS", "config_files", "find_config", "read_config_file"]

BASE = "_BASE_"
PATHS = ("DATASETS.FILES", "TEST.PROMPT_FILES")
# Not looked up in the checkout: training writes weights to OUTPUT_DIR, relative to the working folder.
WEIGHTS_KEYS = (
    "MODEL.WEIGHTS",
    "MODEL.CLIP.PRETRAINED",
    "MODEL.CLIP_SAR.WEIGHTS",
    "MODEL.DENSE_ENCODER.PRETRAINED",
    "MODEL.DENSE_ENCODER_SAR.WEIGHTS",
    "MODEL.EBSEG.SAM.PRETRAINED",
    "MODEL.SEGEARTH.UPSAMPLER_WEIGHTS",
)


def find_config(name: str | os.PathLike, folder: Path = Path()) -> Path:
    """The path of a config; if no file ``configs/...`` exists, that of the one shipped with the package.

    Args:
        name: as typed, or from ``_BASE_``.
        folder: base of relative names.
    """
    path = folder / Path(name).expanduser()
    shipped = shipped_path(os.fspath(name))
    return shipped if Path(name).parts[:1] == ("configs",) and shipped.is_file() and not path.is_file() else path


def read_config_file(path: str | os.PathLike, base: str | os.PathLike | None = None) -> dict[str, Any]:
    """Read a config and its bases, given by ``_BASE_``.

    Relative paths in ``DATASETS.FILES`` and ``TEST.PROMPT_FILES`` become absolute if they exist in the folder of their
    config or else in the checkout; paths of weights and their calibration, if they exist in the folder of their config.
    Other paths remain relative to the working folder.

    Args:
        path: a YAML file, as in :func:`find_config`.
        base: replaces all that ``_BASE_`` of ``path`` names; relative to the working folder.

    Returns:
        The nested keys and values, without ``_BASE_``.

    Raises:
        ConfigError: one of the files cannot be read, is not plain YAML or not a mapping, the bases form a circle, or
            there is no ``_BASE_`` to replace.
    """
    merged: dict[str, Any] = {}
    for file, content in _read_files(path, base):
        translate_config(content, str(file))
        folder = file.absolute().parent
        for key in PATHS:
            _find_files(content, key.split("."), (folder, SHIPPED))
        for key in (*WEIGHTS_KEYS, "MODEL.CALIBRATION"):
            _find_files(content, key.split("."), (folder,))
        _merge(merged, content, file)
    return merged


def config_files(path: str | os.PathLike, base: str | os.PathLike | None = None) -> list[Path]:
    """A config and its bases; arguments and errors are those of :func:`read_config_file`."""
    return [file for file, _ in reversed(_read_files(path, base))]


def _read_files(path: str | os.PathLike, base: str | os.PathLike | None) -> list[tuple[Path, dict[str, Any]]]:
    file = find_config(path)
    if base is None:
        return _read_chain(file)
    content = _read_alone(file)
    if not content.pop(BASE, None):
        raise ConfigError(
            f"--base replaces what {BASE} of a config names, but {path} has no {BASE}; give a config that has one, "
            "such as those in configs/settings."
        )
    if not find_config(base).is_file():
        raise ConfigError(f"--base {base} does not exist; give a config of a model, such as those in configs/siblings.")
    return [*_read_chain(find_config(base), (file.resolve(),)), (file, content)]


def _read_alone(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(read_text(path, ConfigError))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML ({error}); correct it there.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} does not hold 'KEY: value' entries; configs/ shows the form.")
    return content


def _read_chain(path: Path, within: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The content of each config alone, bases first."""
    identity = path.resolve()
    if identity in within:
        raise ConfigError(f"{path} builds on itself by {BASE}; correct it there.")
    content = _read_alone(path)
    bases = content.pop(BASE, [])
    chain = []
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ConfigError(f"{path} builds on {base!r}, which is not a path; correct {BASE} there.")
        if "://" in base:
            raise ConfigError(f"{path} builds on {base}; download that file, and give its path.")
        chain += _read_chain(find_config(base, path.parent), (*within, identity))
    return [*chain, (path, content)]


def _merge(base: dict[str, Any], own: Mapping[str, Any], path: Path, prefix: str = "") -> None:
    for key, value in own.items():
        if isinstance(value, dict) and key in base:
            if not isinstance(base[key], dict):
                raise ConfigError(f"{path} gives keys to {prefix}{key}, which is a value in the config it builds on.")
            _merge(base[key], value, path, f"{prefix}{key}.")
        else:
            base[key] = value


def _find_files(content: dict[str, Any], keys: Sequence[str], folders: Sequence[Path]) -> None:
    """Make the relative paths under a key absolute where their files exist in one of the folders."""
    *outer, last = keys
    for key in outer:
        content = content.get(key)
        if not isinstance(content, dict):
            return
    if last not in content:
        return
    value = content[last]
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = ast.literal_eval(value)  # tuples, which YAML lacks
    if isinstance(value, str):
        content[last] = _find_file(value, folders)
    elif isinstance(value, list | tuple):
        content[last] = type(value)(_find_file(item, folders) if isinstance(item, str) else item for item in value)


def _find_file(name: str, folders: Sequence[Path]) -> str:
    return next((path for folder in folders if os.path.isfile(path := os.path.normpath(folder / name))), name)
