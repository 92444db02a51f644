"""Evaluating a list of checkpoints, each once, into a folder of runs."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from mm_ovseg.engine import load_config, weights_hashes
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import check_writable_folder, complete_file
from mm_ovseg.plain_data import parse_json, parse_yaml, read_text

__all__ = ["evaluate_checkpoints"]

FOLDER = "evaluated"  # in the folder of runs
RECORD = "evaluated.json"  # what an evaluation was made from; beside its config.yaml
KEYS = ("config", "base", "weights", "opts")


@dataclass(frozen=True)
class Checkpoint:
    """An entry of the list.

    Attributes:
        config, base, opts: as of ``mm-ovseg eval``.
        weights: ``MODEL.WEIGHTS``; None for a model that needs none.
    """

    config: str
    base: str | None = None
    weights: str | None = None
    opts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder."""
        return "-".join(Path(path).stem for path in (self.base, self.config) if path)

    def load_config(self, output: Path) -> CfgNode:
        """The config of its evaluation."""
        return load_config(self.config, self.overrides(output), base=self.base)

    def overrides(self, output: Path) -> list[str]:
        """The overrides of its evaluation."""
        return [*self.opts, *(["MODEL.WEIGHTS", self.weights] if self.weights else []), "OUTPUT_DIR", str(output)]


def evaluate_checkpoints(file: Path, runs: Path) -> None:
    """Evaluate what a YAML file lists, by ``mm-ovseg eval``, each in a process of its own.

    The file is a list of mappings: ``config`` and, if needed, ``base``, ``weights`` and ``opts``, a list of KEY, VALUE,
    ... Paths in it are relative to the working folder. An evaluation goes to ``evaluated/BASE-CONFIG`` in the folder of
    runs, and is not repeated as long as its config and its weights are the same; that its datasets are the same is not
    checked.

    Raises:
        ConfigError: the list or one of its configs cannot be used; nothing is evaluated then.
        DataError: an evaluation failed, having printed why, or its folder holds something else.
    """
    checkpoints = _read_checkpoints(file)
    folders = {}
    for checkpoint in checkpoints:
        folder = runs / FOLDER / checkpoint.name
        if folder in folders:
            raise ConfigError(f"{file} would evaluate two entries into {folder}; give a config of one another name.")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).is_file():
            raise DataError(f"{folder} was not made from a list of checkpoints; move it, or give another --runs.")
        folders[folder] = checkpoint, checkpoint.load_config(folder)
    check_writable_folder(runs)
    for number, (folder, (checkpoint, cfg)) in enumerate(folders.items(), start=1):
        made_from = _fingerprint(cfg)
        if _read_record(folder) == made_from and all(path.is_file() for path in _evaluations(cfg, folder)):
            continue
        print(f"Evaluating {number} of {len(folders)}, {checkpoint.name}.", file=sys.stderr, flush=True)
        for path in folder.glob("inference/*/sem_seg_evaluation.json"):  # of an earlier config, or of other weights
            path.unlink()
        _write_record(folder, {})
        base = ["--base", checkpoint.base] if checkpoint.base else []
        command = ["eval", "--config-file", checkpoint.config, *base, *checkpoint.overrides(folder)]
        # Its log goes to the standard error, beside the message above; the standard output is for the tables.
        if subprocess.run([sys.executable, "-m", "mm_ovseg", *command], stdout=2, check=False).returncode:
            raise DataError(f"Entry {number} of {file} could not be evaluated; the reason is printed above.")
        _write_record(folder, made_from)


def _read_checkpoints(file: Path) -> list[Checkpoint]:
    try:
        entries = parse_yaml(read_text(file, ConfigError))
        if not isinstance(entries, list) or not entries:
            raise ValueError("it is not a list of checkpoints")
        return [_read_checkpoint(entry) for entry in entries]
    except ValueError as error:
        raise ConfigError(
            f"{file} cannot be used ({error}); write '- {{config: FILE, weights: FILE}}' for each checkpoint, with "
            "base: FILE or opts: [KEY, VALUE] where needed."
        ) from error


def _read_checkpoint(entry: Any) -> Checkpoint:
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), str):
        raise ValueError(f"{entry!r} has no config")
    if unknown := [key for key in entry if key not in KEYS]:
        raise ValueError(f"{entry['config']} has the key {unknown[0]!r}")
    opts = entry.get("opts") or []
    if not isinstance(opts, list) or not all(isinstance(entry.get(key), str | None) for key in ("base", "weights")):
        raise ValueError(f"{entry['config']} has values of a wrong type")
    return Checkpoint(entry["config"], entry.get("base"), entry.get("weights"), tuple(map(str, opts)))


def _fingerprint(cfg: CfgNode) -> dict[str, Any]:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = ""  # the same evaluation, however --runs is spelled
    return {"config": cfg.dump(), "weights": weights_hashes(cfg)}


def _evaluations(cfg: CfgNode, folder: Path) -> list[Path]:
    return [folder / "inference" / name / "sem_seg_evaluation.json" for name in cfg.DATASETS.TEST]


def _read_record(folder: Path) -> Any:
    path = folder / RECORD
    try:
        return parse_json(read_text(path)) if path.is_file() else None
    except ValueError:
        return None


def _write_record(folder: Path, content: dict[str, Any]) -> None:
    with complete_file(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
