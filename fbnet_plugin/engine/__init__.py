"""Training and evaluation on top of Detectron2's engine."""

from .config_file import find_config, load_config
from .errors import ConfigError
from .evaluate import evaluate
from .launch import launch
from .registry import TRAINER_REGISTRY, trainer_class
from .setup import argument_parser, exit_codes, launch_run, num_gpus, positive, prepare, setup
from .stop import TrainingStopped
from .trainer import FBNetTrainer
from .validate import validate

__all__ = [
    "ConfigError", "FBNetTrainer", "TRAINER_REGISTRY", "TrainingStopped", "argument_parser", "exit_codes",
    "evaluate", "find_config", "launch", "launch_run", "load_config", "num_gpus", "positive", "prepare", "setup",
    "trainer_class", "validate",
]  # fmt: skip
