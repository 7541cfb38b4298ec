"""From a command line to a config that can run, and from an exception to an exit code."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from fbnet_plugin.arch import ArchError
from fbnet_plugin.checkpoint import CheckpointError
from fbnet_plugin.data import DatasetError, register_from_config
from fbnet_plugin.latency import LatencyError

from .config_file import find_config, load_config
from .errors import ConfigError
from .launch import launch
from .registry import trainer_class
from .stop import TrainingStopped
from .validate import validate

# Mistakes in what the user gave; the message says all, a traceback would add nothing.
INPUT_ERRORS = (ArchError, CheckpointError, ConfigError, DatasetError, LatencyError)
EXIT_FAILED, EXIT_BAD_INPUT = 1, 2


def argument_parser() -> argparse.ArgumentParser:
    """Detectron2's command line and ``--num-processes``."""
    parser = default_argument_parser()
    parser.add_argument(
        "--num-processes", type=int, default=1, metavar="N", help="processes *per machine* on CPUs, with --num-gpus 0"
    )
    return parser


def positive(text: str) -> int:
    """The type of an argument: an integer above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def num_gpus(args: argparse.Namespace) -> int:
    """GPUs per machine: as asked, but none where there are none and one (the default) was asked for."""
    return 0 if args.num_gpus == 1 and not torch.cuda.is_available() else args.num_gpus


def world_size(args: argparse.Namespace) -> int:
    """Number of processes on all machines."""
    return args.num_machines * max(num_gpus(args), args.num_processes)


def usable_device(args: argparse.Namespace, key: str, device: str) -> Tuple[str, List[str]]:
    """``device``, or "cpu" where it needs a GPU and the run has none, and a warning if so.

    Args:
        args: from ``argument_parser``.
        key: of the config that names the device.
        device: its value.
    """
    if torch.device(device).type != "cuda" or num_gpus(args) > 0:
        return device, []
    reason = "PyTorch finds no CUDA device" if not torch.cuda.is_available() else "--num-gpus is 0"
    return "cpu", [f"{key} is {device}, but {reason}; using cpu"]


def launch_run(run: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """``run(args)`` in each of the processes that the command line asks for; see ``launch``."""
    launch(
        run,
        num_gpus=num_gpus(args),
        num_processes=args.num_processes,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def prepare(args: argparse.Namespace) -> Tuple[CfgNode, List[str]]:
    """The config that ``args`` describe, checked and frozen; nothing is written.

    Args:
        args: from ``argument_parser``; ``config_file`` becomes the path of the file that was found.

    Returns:
        the config, and warnings of one line each.

    Raises:
        ConfigError, ArchError, DatasetError: see ``load_config`` and ``validate``.
    """
    cfg = load_config(args.config_file, args.opts)
    args.config_file = find_config(args.config_file) if args.config_file else ""
    cfg.MODEL.DEVICE, notes = usable_device(args, "MODEL.DEVICE", cfg.MODEL.DEVICE)
    register_from_config(cfg)
    notes += validate(cfg, eval_only=args.eval_only, resume=args.resume, world_size=world_size(args))
    cfg.freeze()
    if not args.eval_only:
        notes += trainer_class(cfg).check(cfg)
    return cfg, notes


def setup(args: argparse.Namespace) -> CfgNode:
    """``prepare``, then what Detectron2 does at the start of a job: output folder, log, random seed."""
    cfg, notes = prepare(args)
    default_setup(cfg, args)
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="fbnet_plugin")
    for note in notes:
        logger.warning(note)
    return cfg


@contextlib.contextmanager
def exit_codes(words: int = 0) -> Iterator[None]:
    """Turns what ends a run into a message and an exit code.

    2 for bad input, 1 for a run that diverged, 128 plus the signal for one that was stopped. Other exceptions pass.

    Args:
        words: of the command line that stand before its options, such as the name of a subcommand.
    """
    try:
        yield
    except INPUT_ERRORS as error:
        _leave(f"error: {_own_words(error)}", EXIT_BAD_INPUT)
    except FloatingPointError as error:
        _leave(f"error: {error}", EXIT_FAILED)
    except TrainingStopped as stop:
        saved = stop.saved or (f"after iteration {stop.iteration}" if stop.checkpoint else "")
        command = f"{saved}; continue with\n  {resume_command(sys.argv, words)}"
        when = command if saved else "where there was nothing complete to save"
        _leave(f"stopped by {stop} {when}", 128 + stop.signum)


def _own_words(error: Exception) -> str:
    """The message, without the traceback that PyTorch puts around it when a data loading worker raised it."""
    text = str(error)
    if not text.startswith("Caught ") or "Traceback" not in text:
        return text
    return text.rpartition(f"{type(error).__name__}: ")[2].strip()


def resume_command(argv: List[str], words: int = 0) -> str:
    """The same command with ``--resume``, behind the first ``words`` of its arguments."""
    flag = [] if "--resume" in argv else ["--resume"]
    return shlex.join([Path(sys.executable).name, *argv[: 1 + words], *flag, *argv[1 + words :]])


def _leave(message: str, code: int) -> Any:
    if comm.is_main_process():
        print(message, file=sys.stderr, flush=True)
    raise SystemExit(code)
