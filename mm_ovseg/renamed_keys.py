"""Config keys of earlier versions, which configs, command lines and scripts may still use."""

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from mm_ovseg.errors import ConfigError

__all__ = ["RENAMED_KEYS", "RENAMED_VALUES", "TranslatingCfgNode", "translate_config", "translate_overrides"]

# Old -> new; a key nested in another one comes before it.
RENAMED_KEYS = {
    "MODEL.DINO.ENCODER": "MODEL.DENSE_ENCODER.TYPE",
    "MODEL.DINO.ALIGNMENT_DATASET": "MODEL.DENSE_ENCODER.FIT_DATASET",
    "MODEL.DINO.ALIGNMENT_IMAGES": "MODEL.DENSE_ENCODER.FIT_IMAGES",
    "MODEL.DINO": "MODEL.DENSE_ENCODER",
    "MODEL.DINO_SAR": "MODEL.DENSE_ENCODER_SAR",
    "SOLVER.ALIGNMENT_MULTIPLIER": "SOLVER.FIT_MULTIPLIER",
}
RENAMED_VALUES = {"CMU.ENCODER": {"dino": "dense"}}

logger = logging.getLogger(__name__)


def translate_config(content: dict[str, Any], source: str, *, old_wins: bool = False) -> None:
    """Rename old keys and values in the nested content of a config file, in place.

    Args:
        content: the parsed YAML.
        source: name of the file, for messages.
        old_wins: if a key is given in both its old and its new form, the old one counts.

    Raises:
        ConfigError: a key is given in both forms.
    """
    found = []
    for old, new in RENAMED_KEYS.items():
        parent, name = _parent(content, old)
        if name in parent:
            found.append(f"{old} is {new}")
            _move(parent.pop(name), content, new, f"{source} gives both {old} and {new}", old_wins)
    for key, values in RENAMED_VALUES.items():
        parent, name = _parent(content, key)
        value = parent.get(name)
        if isinstance(value, str) and value in values:
            parent[name] = values[value]
            found.append(f"{key} {value} is {key} {values[value]}")
    _warn(source, found)


def translate_overrides(overrides: Sequence[Any], source: str = "The command line") -> list[Any]:
    """Rename old keys and values in a list KEY, VALUE, KEY, VALUE, ...

    Raises:
        ConfigError: a key is given in both forms.
    """
    found, translated = [], []
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        old = next((old for old in RENAMED_KEYS if f"{key}.".startswith(f"{old}.")), None)
        new_key = key if old is None else RENAMED_KEYS[old] + key.removeprefix(old)
        new_value = RENAMED_VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value
        if new_key != key and new_key in overrides[::2]:
            raise ConfigError(f"{source} gives both {key} and {new_key}; keep the new name, {new_key}, alone.")
        if new_key != key:
            found.append(f"{key} is {new_key}")
        elif new_value != value:
            found.append(f"{key} {value} is {key} {new_value}")
        translated += [new_key, new_value]
    _warn(source, found)
    return translated


class TranslatingCfgNode(CfgNode):
    """A config that accepts old keys in files, in lists of overrides and, for nodes of MODEL, as attributes."""

    @classmethod
    def adopt(cls, value: Any) -> None:
        """Convert Detectron2's nodes to this class, in place: a merge accepts nodes of one class only."""
        if type(value) is CfgNode:
            for inner in value.values():
                cls.adopt(inner)
            object.__setattr__(value, "__class__", cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Like Detectron2's, but also convert nodes."""
        self.adopt(value)
        super().__setattr__(name, value)

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Like Detectron2's; each file is translated before it is merged into those based on it."""
        content = super().load_yaml_with_base(filename, allow_unsafe)
        translate_config(content, str(filename), old_wins=True)  # new keys may come from the base file
        return content

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Like Detectron2's, with old keys, too, and new keys where files may have them.

        For example ``MODEL.DENSE_ENCODER.ARGUMENTS "{'depth': 3}"``, or ``MODEL.DENSE_ENCODER.ARGUMENTS.depth 3``.
        """
        if len(cfg_list) % 2:
            super().merge_from_list(cfg_list)  # which reports the missing value
        translated = translate_overrides(cfg_list)
        for key, value in zip(translated[::2], translated[1::2], strict=True):
            value = self._decode_cfg_value(value)
            parent, name = _parent(self, key)
            is_new = name not in parent and isinstance(parent, CfgNode) and parent.is_new_allowed()
            if isinstance(value, dict) or is_new:
                for part in reversed(key.split(".")):
                    value = {part: value}
                self.merge_from_other_cfg(type(self)(value))
            else:
                super().merge_from_list([key, value])

    def __getattr__(self, name: str) -> Any:
        """Also return a node of MODEL by its old name."""
        new = RENAMED_KEYS.get(f"MODEL.{name}", "").removeprefix("MODEL.")
        return super().__getattr__(new if new in self and name not in self else name)


def _parent(content: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping that contains (or would contain) a dotted key, and the key's name in it."""
    *outer, name = key.split(".")
    for part in outer:
        inner = content.get(part)
        content = inner if isinstance(inner, dict) else {}
    return content, name


def _move(value: Any, content: dict[str, Any], key: str, conflict: str, old_wins: bool) -> None:
    """Write a value to a dotted key; a mapping is written value by value."""
    *outer, name = key.split(".")
    for part in outer:
        content = content.setdefault(part, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{conflict}; keep the new name alone.")
    if isinstance(value, dict) and isinstance(content.get(name), dict):
        for inner, inner_value in value.items():
            _move(inner_value, content[name], str(inner), f"{conflict}, with {inner}", old_wins)
    elif name in content and not old_wins:
        raise ConfigError(f"{conflict}; keep the new name alone.")
    else:
        content[name] = value


def _warn(source: str, found: list[str]) -> None:
    if found:
        logger.warning("%s uses names of an earlier version: %s now.", source, ", ".join(found))
