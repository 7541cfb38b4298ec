from __future__ import annotations

import logging

import pytest
from tiny_task import TinyClassifier


@pytest.fixture(autouse=True)
def engine_isolation(monkeypatch):
    """No test leaves a step function in the model, or a logger that hides messages from the next test."""
    monkeypatch.setattr(TinyClassifier, "on_step", None)
    yield
    for name in ("fbnet_plugin", "fvcore", "detectron2"):
        logger = logging.getLogger(name)
        logger.propagate = True
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
