"""What a worker process of the local pool does."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, Dict

from .base import Function, load_function
from .failures import failure_of

PARENT_CHECK_S = 1.0


def work(connection: Connection, function: str, threads: int, parent: int) -> None:
    """Runs the tasks that come through ``connection``, until it closes.

    Messages are JSON texts. In: {"id", "payload"}. Out, each with "id": {"is": "started"}, {"is": "progress", "epoch",
    "values"}, {"is": "finished", "result"}, {"is": "failed", "kind", "reason", "traceback"}; or {"is": "unusable",
    "reason"}, before the end, where the function cannot be imported.

    The process leads a group of its own, so that Ctrl-C in the terminal does not reach it nor what it starts, and all
    of it can be killed at once. When the parent is gone, it ends, in the middle of a task too.

    Args:
        connection: to the parent.
        function: see ``Executor``.
        threads: of PyTorch.
        parent: process id.
    """
    _separate()
    tasks: "queue.Queue[Dict[str, Any]]" = queue.Queue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    try:
        import torch

        torch.set_num_threads(threads)
        call = load_function(function)
    except Exception as error:
        _send(connection, {"is": "unusable", "reason": str(error)})
        return
    while True:
        task = tasks.get()
        _run(connection, call, task["id"], task["payload"])


def _run(connection: Connection, call: Function, task: int, payload: Dict[str, Any]) -> None:
    """Runs one task."""

    def report(epoch: int, values: Dict[str, float]) -> None:
        _send(connection, {"is": "progress", "id": task, "epoch": int(epoch), "values": _numbers(values)})

    _send(connection, {"is": "started", "id": task})
    try:
        text = json.dumps({"is": "finished", "id": task, "result": call(payload, report)})
    except (Exception, SystemExit) as error:
        _send(connection, {"is": "failed", "id": task, **failure_of(error)._asdict()})
    else:
        connection.send_bytes(text.encode())


def _numbers(values: Dict[str, float]) -> Dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _send(connection: Connection, message: Dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _receive(connection: Connection, tasks: "queue.Queue[Dict[str, Any]]") -> None:
    """Thread that notices at once when the parent closes the connection, or is no more."""
    while True:
        try:
            tasks.put(json.loads(connection.recv_bytes()))
        except (EOFError, OSError):
            _end()


def _watch(parent: int) -> None:
    """Thread that notices the end of the parent even if another process holds its end of the connection."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    _end()


def _separate() -> None:
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end() -> None:
    """Ends this process and what it has started, now."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
