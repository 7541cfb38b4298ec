"""Where candidates are trained: in this process, in worker processes, or on a Ray cluster."""

from __future__ import annotations

from .base import (
    EXECUTOR_REGISTRY,
    Event,
    Executor,
    ExecutorSettings,
    Failed,
    Finished,
    Progress,
    Retried,
    Started,
    Task,
    build_executor,
    executor_class,
    load_function,
)
from .in_process import InProcessExecutor
from .local_pool import LocalPoolExecutor
from .ray_executor import RayExecutor

__all__ = [
    "EXECUTOR_REGISTRY",
    "Event",
    "Executor",
    "ExecutorSettings",
    "Failed",
    "Finished",
    "InProcessExecutor",
    "LocalPoolExecutor",
    "Progress",
    "RayExecutor",
    "Retried",
    "Started",
    "Task",
    "build_executor",
    "executor_class",
    "load_function",
]
