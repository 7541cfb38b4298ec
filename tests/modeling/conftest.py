from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.events import EventStorage

from fbnet_plugin import add_fbnet_config


@pytest.fixture
def make_cfg() -> Callable[..., CfgNode]:
    """Detectron2's defaults on the CPU with a narrow FBNetV3-A, and whatever keys and values are passed."""

    def make(*opts: Any, width: float = 0.25) -> CfgNode:
        cfg = get_cfg()
        add_fbnet_config(cfg)
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.BACKBONE.NAME = "build_fbnet_backbone"
        cfg.MODEL.FBNET.WIDTH_MULT = width
        cfg.merge_from_list(list(opts))
        return cfg

    return make


@pytest.fixture(autouse=True)
def event_storage() -> Iterator[None]:
    """Where Detectron2's heads log numbers in training; they fail without one."""
    with EventStorage():
        yield
