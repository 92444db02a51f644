"""Training and evaluation, as used by the command line."""

from mm_ovseg import data, modeling  # registers models, dataset mappers and the built-in datasets
from mm_ovseg.engine.launch import launch
from mm_ovseg.engine.setup import config_inputs, load_config, set_up_run, weights_hashes
from mm_ovseg.engine.trainer import Trainer

__all__ = ["Trainer", "config_inputs", "launch", "load_config", "set_up_run", "weights_hashes"]
