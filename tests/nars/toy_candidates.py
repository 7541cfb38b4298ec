"""Functions that executors call in the tests: each behaves as some training does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path


def behave(payload: dict, report) -> dict:
    """Does what ``payload["do"]`` says, after reporting ``payload["epochs"]`` epochs."""
    accuracy = float(payload.get("accuracy", 50.0))
    for epoch in range(1, payload.get("epochs", 0) + 1):
        time.sleep(payload.get("sleep", 0.0))
        report(epoch, {"accuracy": accuracy + epoch})
    note(payload)
    do = payload.get("do", "return")
    if do == "raise":
        raise ValueError("no such thing\nsecond line")
    if do == "diverge":
        raise FloatingPointError("loss is nan")
    if do == "memory":
        raise MemoryError("too much")
    if do == "cuda memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if do == "exit":
        raise SystemExit(3)
    if do == "hang with a child":  # as a data loading worker is
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
        Path(payload["child"]).write_text(str(child.pid))
    if do.startswith("hang"):
        time.sleep(600)
    if do == "die" or do == "die once" and times(payload) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "raise once" and times(payload) == 1:
        raise OSError("the file server is busy")
    if do == "nan":
        accuracy = float("nan")
    if do == "no json":
        return {"accuracy": {1, 2}}
    return {"accuracy": accuracy, "values": {"top5": accuracy + 1}, "pid": os.getpid(), **_threads(payload)}


def _threads(payload: dict) -> dict:
    if not payload.get("threads"):
        return {}
    import torch

    return {"threads": torch.get_num_threads(), "omp": os.environ.get("OMP_NUM_THREADS")}


def note(payload: dict) -> None:
    """Appends a line to the file of the payload."""
    if "file" in payload:
        with open(payload["file"], "a") as file:
            file.write(f"{os.getpid()}\n")


def times(payload: dict) -> int:
    """Number of lines in the file of the payload."""
    return len(Path(payload["file"]).read_text().splitlines())
