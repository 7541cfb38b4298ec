"""What runs on a Ray cluster: the task around a function, and the mailbox for what it reports."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Tuple

from .base import load_function
from .failures import failure_of

# (task, attempt, "started" or "progress", what belongs to it)
Message = Tuple[int, int, str, Any]


class Mailbox:
    """Actor that keeps what tasks report until the search fetches it."""

    def __init__(self) -> None:
        self._messages: List[Message] = []

    def put(self, message: Message) -> None:
        self._messages.append(message)

    def take(self) -> List[Message]:
        """All messages since the last time, those of one task in order."""
        messages, self._messages = self._messages, []
        return messages


def run_task(mailbox: Any, task: int, attempt: int, function: str, payload: str, threads: int) -> Dict[str, Any]:
    """Calls the function in a Ray worker's main thread.

    Args:
        mailbox: handle of the ``Mailbox``.
        task, attempt: that it is.
        function: see ``Executor``.
        payload: as JSON.
        threads: of PyTorch.

    Returns:
        {"result": JSON text} or {"failure": [kind, reason, traceback]}, after the mailbox has all reports.
    """
    import ray
    import torch

    torch.set_num_threads(threads)
    worker = f"{ray.util.get_node_ip_address()} pid {os.getpid()}"
    sent = mailbox.put.remote((task, attempt, "started", worker))

    def report(epoch: int, values: Dict[str, float]) -> None:
        nonlocal sent
        numbers = {name: float(value) for name, value in values.items()}
        sent = mailbox.put.remote((task, attempt, "progress", (int(epoch), numbers)))

    try:
        return {"result": json.dumps(load_function(function)(json.loads(payload), report))}
    except (Exception, SystemExit) as error:
        return {"failure": list(failure_of(error))}
    finally:
        ray.get(sent)
