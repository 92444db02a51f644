"""Training and evaluation: what the command lines drive."""

from mm_ovseg.engine.launch import launch
from mm_ovseg.engine.setup import load_config, set_up_run
from mm_ovseg.engine.trainer import Trainer

__all__ = ["Trainer", "launch", "load_config", "set_up_run"]
