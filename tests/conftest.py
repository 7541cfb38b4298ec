"""What all tests share: one thread, one seed, no network, no display."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from fbnet_plugin.config import add_fbnet_config

torch.set_num_threads(1)

# Of libraries, not of this project's code.
_WARNINGS = ["ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:pycocotools"]
_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


def pytest_configure(config: pytest.Config) -> None:
    for warning in _WARNINGS:
        config.addinivalue_line("filterwarnings", warning)


# What the wheel is built from.
_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "fbnet_plugin", "configs")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline from a copy of the checkout, so that nothing is left behind in it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in _SOURCES:
        source = _ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, copy / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(copy / "dist")]
    result = subprocess.run([*pip, "wheel", *options, str(copy)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return path


@pytest.fixture(autouse=True)
def same_seed() -> None:
    """Random weights and images are the same in every run and in every order of the tests."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A connection that leaves the machine fails; processes on it may talk to each other."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None) and not str(address[0]).startswith(_LOOPBACK):
            raise AssertionError(f"a test tried to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    yield


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


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures of architectures and distributions that a test saved."""
    from fbnet_plugin.plotting import architectures, distribution, picture

    kept = []

    def save_and_keep(figure, path) -> None:
        kept.append(figure)
        picture.save_picture(figure, path)

    for module in (architectures, distribution):
        monkeypatch.setattr(module, "save_picture", save_and_keep)
    return kept
