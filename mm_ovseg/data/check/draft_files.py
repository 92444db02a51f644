"""Writing a drafted dataset: YAML file, class file, lists of pairs, and a config that trains on it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mm_ovseg.data.check.draft import Draft
from mm_ovseg.data.check.label_meaning import ClassScheme
from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.files import check_outputs, complete_file

__all__ = ["draft_paths", "write_draft"]

ENDINGS = {
    "declaration": ".yaml",
    "classes": "_classes.json",
    "train": "_train.txt",
    "val": "_val.txt",
    "config": "_config.yaml",
    "preview": "_preview.png",
}
DECLARED = ("root", "rgb", "sar", "labels", "label_values", "ground_sampling_distance")


def draft_paths(output: Path, name: str) -> dict[str, Path]:
    """The files that :func:`write_draft` writes, and the preview picture."""
    return {what: output / f"{name}{ending}" for what, ending in ENDINGS.items()}


def write_draft(draft: Draft, name: str, paths: dict[str, Path], base_config: Path) -> None:
    """Write the files of a draft, replacing existing ones.

    Args:
        draft: The draft.
        name: Name of the dataset.
        paths: From :func:`draft_paths`.
        base_config: The config of the model to train.

    Raises:
        DataError: A file cannot be written, or is one of the images.
    """
    images = [file.path for files in draft.files.values() for file in files]
    check_outputs({"--output": paths.values()}, raster_inputs({"one of the images": images}))
    datasets = {"train": draft.train} | ({} if draft.val is None else {"val": draft.val})
    texts = {} if draft.scheme is None else {"classes": _class_file(draft.scheme)}
    declared = {}
    for split, dataset in datasets.items():
        values = dict(dataset.label_values) if dataset.label_values is not None else None
        entry = {**{key: getattr(dataset, key) for key in DECLARED}, "label_values": values}
        if dataset.labels is not None:
            entry["classes"] = paths["classes"].name
        if dataset.pairs is not None and _fits_in_lines(dataset.pairs):
            texts[split] = "\n".join(dataset.pairs) + "\n"
            entry["pairs"] = paths[split].name
        elif dataset.pairs is not None:
            entry["pairs"] = list(dataset.pairs)
        declared[dataset.name] = {key: value for key, value in entry.items() if value is not None}
    first, *others = declared.values()
    shared = {key: value for key, value in first.items() if all(entry.get(key) == value for entry in others)}
    own = {name: {key: value for key, value in entry.items() if key not in shared} for name, entry in declared.items()}
    config = {
        "_BASE_": str(base_config.resolve()),
        "DATASETS": {
            "FILES": [str(paths["declaration"].resolve())],
            "TRAIN": [draft.train.name],
            "TEST": [draft.val.name] if draft.val is not None else [],
        },
        "INPUT": {kind: settings for kind, settings in draft.input_settings.items() if settings},
        "OUTPUT_DIR": f"output/{name}",
    }
    texts["declaration"] = (
        f"# Written by `mm-ovseg dataset new` from {draft.root}; datasets/README.md explains the keys.\n"
        + _yaml({"defaults": shared, "datasets": own})
    )
    texts["config"] = (
        f"# Trains on the dataset that {paths['declaration'].name} declares; _BASE_ is the model.\n"
        + _yaml({key: value for key, value in config.items() if value})
    )
    for what, text in texts.items():
        with complete_file(paths[what]) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _fits_in_lines(keys: Sequence[str]) -> bool:
    """Whether these keys survive being written to a text file with one key per line."""
    return "\n".join(keys).splitlines() == [*keys] and all(key == key.strip() and key[0] != "#" for key in keys)


def _class_file(scheme: ClassScheme) -> str:
    """JSON with one class per line, for editing by hand. Conventional colours are omitted: the names imply them."""
    names = ",\n    ".join(json.dumps(name, ensure_ascii=False) for name in scheme.names)
    colors = "" if scheme.colors is None else f'  "colors": {json.dumps([list(color) for color in scheme.colors])},\n'
    return f'{{\n  "classes": [\n    {names}\n  ],\n{colors}  "unseen": []\n}}\n'


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
