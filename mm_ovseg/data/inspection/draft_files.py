"""Writing a drafted dataset: declaration, class file, lists of pairs, and a config that trains on it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mm_ovseg.data.declaration import RGBSARDataset
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.inspection.classes import ClassScheme
from mm_ovseg.data.inspection.draft import Draft
from mm_ovseg.errors import ConfigError
from mm_ovseg.files import check_outputs, complete_file

__all__ = ["draft_paths", "write_draft"]

SHARED = ("root", "rgb", "sar", "labels", "label_values", "ground_sampling_distance")


def draft_paths(output: Path, name: str) -> dict[str, Path]:
    """The files that :func:`write_draft` writes, and the picture that belongs to them, by what they are."""
    endings = {
        "declaration": ".yaml",
        "classes": "_classes.json",
        "train": "_train.txt",
        "val": "_val.txt",
        "config": "_config.yaml",
        "preview": "_preview.png",
    }
    return {what: output / f"{name}{ending}" for what, ending in endings.items()}


def write_draft(draft: Draft, name: str, paths: dict[str, Path], base_config: Path, *, overwrite: bool) -> None:
    """Write the files of a draft.

    Args:
        draft: The draft.
        name: Of the dataset.
        paths: As :func:`draft_paths` gives them.
        base_config: The config of the model to train.
        overwrite: Replace files that exist; they may hold class names that somebody has typed.

    Raises:
        ConfigError: A file exists, and ``overwrite`` is off.
        DataError: A file cannot be written, or is one of the images.
    """
    if not overwrite and (there := [path for path in paths.values() if path.exists()]):
        raise ConfigError(f"{there[0]} exists; give --overwrite to write it again, or another --name or --output.")
    check_outputs({"--output": paths.values()}, raster_inputs({"one of the images": draft.facts}))
    datasets = [dataset for dataset in (draft.train, draft.val) if dataset is not None]
    declared = [_declaration(dataset, paths) for dataset in datasets]
    defaults = {
        key: value
        for key, value in declared[0].items()
        if all(key in other and other[key] == value for other in declared)
    }
    own = [{key: value for key, value in entry.items() if key not in defaults} for entry in declared]
    content = {
        "defaults": defaults,
        "datasets": {dataset.name: entry for dataset, entry in zip(datasets, own, strict=True)},
    }
    if draft.scheme is not None:
        _write(paths["classes"], _class_file(draft.scheme))
    for dataset, what in zip(datasets, ("train", "val"), strict=False):
        if dataset.pairs is not None and _fits_in_lines(dataset.pairs):
            _write(paths[what], "\n".join(dataset.pairs) + "\n")
    _write(
        paths["declaration"],
        f"# Written by mm-ovseg dataset new from {draft.root}; datasets/README.md explains the keys.\n"
        + _yaml(content),
    )
    _write(
        paths["config"],
        f"# Trains on the dataset that {paths['declaration'].name} declares; _BASE_ is the model.\n"
        + _yaml(_config(draft, name, paths, base_config)),
    )


def _declaration(dataset: RGBSARDataset, paths: dict[str, Path]) -> dict[str, Any]:
    """The arguments of a dataset, without those that are the defaults."""
    entry = {key: getattr(dataset, key) for key in SHARED}
    if dataset.label_values is not None:
        entry["label_values"] = dict(dataset.label_values)
    if dataset.labels is not None:
        entry["classes"] = paths["classes"].name
    if dataset.pairs is not None:
        split = dataset.name.rpartition("_")[2]
        entry["pairs"] = paths[split].name if _fits_in_lines(dataset.pairs) else list(dataset.pairs)
    return {key: value for key, value in entry.items() if value is not None}


def _fits_in_lines(keys: Sequence[str]) -> bool:
    """Whether a text file with one key a line gives these keys when it is read."""
    lines = "\n".join(keys).splitlines()
    return lines == [*keys] and not any(key != key.strip() or key.startswith("#") for key in keys)


def _config(draft: Draft, name: str, paths: dict[str, Path], base_config: Path) -> dict[str, Any]:
    config: dict[str, Any] = {
        "_BASE_": str(base_config.resolve()),
        "DATASETS": {
            "FILES": [str(paths["declaration"].resolve())],
            "TRAIN": [draft.train.name],
            "TEST": [draft.val.name] if draft.val is not None else [],
        },
        "INPUT": {"RGB": draft.rgb_settings, "SAR": draft.sar_settings},
        "OUTPUT_DIR": f"output/{name}",
    }
    config["INPUT"] = {key: value for key, value in config["INPUT"].items() if value}
    return {key: value for key, value in config.items() if value}


def _class_file(scheme: ClassScheme) -> str:
    """JSON with a class a line, to be edited by hand; conventional colours are left out, since they go by the names."""
    names = ",\n    ".join(json.dumps(entry, ensure_ascii=False) for entry in scheme.names)
    colors = "" if scheme.colors is None else f'  "colors": {json.dumps([list(color) for color in scheme.colors])},\n'
    return f'{{\n  "classes": [\n    {names}\n  ],\n{colors}  "unseen": []\n}}\n'


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


def _write(path: Path, text: str) -> None:
    with complete_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
