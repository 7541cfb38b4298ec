"""The rooms of the package import downwards only."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fbnet_plugin"

# Room: the rooms that it may import, besides itself.
ALLOWED = {
    "atomic_file": [],
    "arch": ["atomic_file"],
    "layers": ["arch"],
    "modeling": ["arch", "layers"],
    "latency": ["arch", "layers", "atomic_file"],
    "data": ["arch"],
    "evaluation": ["arch"],
    "checkpoint": ["arch", "atomic_file"],
    "engine": ["arch", "modeling", "latency", "data", "evaluation", "checkpoint", "atomic_file", "config"],
    "dnas": ["arch", "layers", "modeling", "latency", "data", "checkpoint", "engine", "atomic_file"],
    "recipe": ["arch", "engine", "atomic_file"],
    "ablation": ["arch", "modeling", "data", "engine", "recipe", "atomic_file"],
    "nars": ["arch", "latency", "engine", "data", "checkpoint", "modeling", "recipe", "atomic_file", "config"],
    "models": ["arch", "layers", "modeling", "checkpoint"],
    "model_zoo": ["checkpoint", "engine"],
    "config": [],
    "version": [],
}
ALLOWED["export"] = ALLOWED["plotting"] = list(ALLOWED)

# Room: the only packages that it may import from outside the standard library.
THIRD_PARTY = {
    "atomic_file": [],
    "arch": ["numpy", "yaml"],
    "layers": ["torch", "torchvision", "numpy"],
    "config": ["detectron2"],
    "version": [],
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def files() -> list[Path]:
    """All modules of all rooms; ``fbnet_plugin/__init__.py`` itself may import any room, to register it."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imported(path: Path) -> Iterator[str]:
    """Full dotted names of all that a file imports, wherever in the file."""
    package = ["fbnet_plugin", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def in_standard_library(module: str) -> bool:
    origin = getattr(importlib.util.find_spec(module), "origin", None) or ""
    below = origin.startswith(sysconfig.get_path("stdlib")) and "site-packages" not in origin
    return below or origin in ("built-in", "frozen")


def test_there_is_something_to_check() -> None:
    rooms = {room_of(path) for path in files()}
    assert {"arch", "layers", "modeling", "config"} <= rooms
    assert in_standard_library("sys") and in_standard_library("math") and in_standard_library("os")
    assert not in_standard_library("numpy") and not in_standard_library("yaml")
    assert "numpy" in {name.split(".")[0] for name in imported(PACKAGE / "arch" / "cost.py")}
    assert "fbnet_plugin.arch.cost.Cost" in set(imported(PACKAGE / "arch" / "blocks.py"))


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_room_imports_from_a_room_above_it(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"{room} is a new room: say in ALLOWED what it may import"
    for name in imported(path):
        top, _, inner = name.partition(".")
        if top == "fbnet_plugin":
            other = inner.split(".")[0]
            assert other in (room, *ALLOWED[room]), f"{path} imports {name}"
        elif room in THIRD_PARTY:
            assert top in THIRD_PARTY[room] or in_standard_library(top), f"{path} imports {name}"


def run_without_torch(script: str) -> str:
    """What a script prints in a process where torch and Detectron2 cannot be imported."""
    blocked = f"""
import sys, types
for name in ("torch", "torchvision", "detectron2", "fvcore", "iopath"):
    sys.modules[name] = None
parent = types.ModuleType("fbnet_plugin")
parent.__path__ = [{str(PACKAGE)!r}]
sys.modules["fbnet_plugin"] = parent
"""
    done = subprocess.run([sys.executable, "-c", blocked + script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_architectures_need_neither_torch_nor_detectron2() -> None:
    script = """
from fbnet_plugin.arch import batch_cost, get_arch, list_archs
from fbnet_plugin.arch import table
for name in list_archs():
    get_arch(name)
cost = get_arch("fbnet_a").cost()
assert [int(counts[0]) for counts in batch_cost([get_arch("fbnet_a")])] == list(cost)
print(cost.macs, cost.weights)
"""
    assert run_without_torch(script) == "249921848 4286480\n"


def test_latency_tables_need_neither_torch_nor_detectron2(tmp_path: Path) -> None:
    file = str(tmp_path / "table.json")
    script = f"""
from fbnet_plugin.arch import load_space
from fbnet_plugin.latency import Entry, LatencyTable, Setting, load_table, save_table
from fbnet_plugin.latency.coverage import covering_networks, space_operators
space = load_space("fbnet")
operators = space_operators(space)
setting = Setting("cpu", "a processor", "eager")
save_table(LatencyTable(setting, {{operator: Entry(1.0) for operator in operators}}), {file!r})
table = load_table({file!r})
print(table.latency(space.arch([0] * 22)).total_us)
print(table.latencies([space.arch([8] * 22)])[0], table.matrix(space).us.shape)
print(len(list(covering_networks(space, operators))))
"""
    assert run_without_torch(script) == "25.0\n25.0 (22, 9)\n9\n"
