from __future__ import annotations

from typing import Iterator

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from fbnet_plugin.config import add_fbnet_config


@pytest.fixture(autouse=True)
def forget_new_datasets() -> Iterator[None]:
    """What a test registers is gone after it."""
    catalogs = (DatasetCatalog, MetadataCatalog)
    before = [set(catalog) for catalog in catalogs]
    yield
    for catalog, names in zip(catalogs, before):
        for name in set(catalog) - names:
            catalog.remove(name)


@pytest.fixture
def cfg() -> CfgNode:
    """Detectron2's defaults with this project's keys, RGB, without worker processes."""
    cfg = get_cfg()
    add_fbnet_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg
