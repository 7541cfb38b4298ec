"""Small searches for the tests: a config, and an executor whose candidates take no time."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List

from detectron2.config import CfgNode

from fbnet_plugin.arch.yaml_file import arch_from_dict
from fbnet_plugin.engine import load_config
from fbnet_plugin.nars.executors import EXECUTOR_REGISTRY, Executor, Failed, Finished, Progress, Started, Task

# What the toy executor does besides: number of the task in this process -> "kill", "interrupt", "fail", "nan".
MISHAPS: Dict[int, str] = {}


def small_opts(folder: Path, executor: str = "ToyExecutor") -> List[Any]:
    """Keys and values that make configs/nars/digits.yaml three rounds of eight candidates of four epochs."""
    small = {
        "OUTPUT_DIR": str(folder),
        "MODEL.DEVICE": "cpu",
        "SOLVER.EPOCHS": 4,
        "NARS.POOL_SIZE": 300,
        "NARS.CONSTRAINTS": "macs <= 2M",
        "NARS.BATCH": 8,
        "NARS.ROUNDS": 3,
        "NARS.SELECTION.FIRST_ROUND": "random",
        "NARS.SELECTION.SPREAD": "range",
        "NARS.EVALUATION.EXECUTOR": executor,
        "NARS.EVALUATION.WORKERS": 1,
        "NARS.PREDICTOR.FORM": "plain",
        "NARS.EVOLUTION.TARGETS": ["macs <= 1M", "macs <= 2M"],
        "NARS.EVOLUTION.CHILDREN": 3,
        "NARS.EVOLUTION.PARENTS": 20,
        "NARS.EVOLUTION.RANDOM": 20,
        "NARS.EVOLUTION.VERIFY": 0,
        "NARS.WINNERS.EPOCHS": 16,
        "NARS.WINNERS.SEEDS": 1,
    }
    return [part for pair in small.items() for part in pair]


def nars_cfg(folder: Path, *opts: Any, executor: str = "ToyExecutor") -> CfgNode:
    """The config of such a search."""
    cfg = load_config("nars/digits.yaml")
    cfg.merge_from_list(small_opts(folder, executor) + list(opts))
    cfg.freeze()
    return cfg


def toy_accuracy(payload: Dict[str, Any], epoch: int) -> float:
    """Larger networks and middling learning rates are better; later epochs too."""
    macs = arch_from_dict(payload["arch"]).cost().macs
    recipe = payload["recipe"]
    optimum = 0.08 if recipe["optimizer"] == "sgd" else 0.02
    off = math.log(recipe["lr"] / optimum) ** 2
    return 60.0 + 8 * math.log10(macs / 1e5) - 6 * off - 5 * recipe["mixup"] + 2 * epoch + 0.1 * (payload["seed"] % 7)


@EXECUTOR_REGISTRY.register()
class ToyExecutor(Executor):
    """Gives each candidate an accuracy at once, or the mishap that ``MISHAPS`` says."""

    ran = 0

    def run(self, tasks: Iterable[Task], on_event: Callable[[Any], None]) -> None:
        for task in tasks:
            ToyExecutor.ran += 1
            mishap = MISHAPS.get(ToyExecutor.ran, "")
            on_event(Started(task.id, 1, "toy"))
            if mishap == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if mishap == "interrupt":
                raise KeyboardInterrupt
            if mishap in ("fail", "nan"):
                kind = {"fail": "error", "nan": "diverged"}[mishap]
                on_event(Failed(task.id, kind, f"a {mishap}", "Traceback", 0.1))
                continue
            epochs = task.payload["stop_epoch"] or 4
            for epoch in range(1, epochs + 1):
                on_event(Progress(task.id, epoch, {"accuracy": toy_accuracy(task.payload, epoch)}))
            accuracy = toy_accuracy(task.payload, epochs)
            on_event(Finished(task.id, {"accuracy": accuracy, "values": {"classification/top1": accuracy}}, 0.1))

    def close(self) -> None:
        pass
