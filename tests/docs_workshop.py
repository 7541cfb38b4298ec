"""A folder in which the blocks of a page are carried out one after another, as a reader would."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple

import pytest
import yaml
from detectron2.utils.logger import setup_logger
from docs_pages import ROOT, Block

from fbnet_plugin.arch.yaml_file import arch_from_dict
from fbnet_plugin.engine import load_config

# What a checkout has that commands name by relative paths.
CHECKOUT = ("tools", "configs", "benchmarks", "examples", "setup.py", "Makefile", "hubconf.py")


@contextlib.contextmanager
def logging_as_before() -> Iterator[None]:
    """Takes away what a tool does to the loggers of this process, which other tests share."""
    loggers = [logging.getLogger(name) for name in (None, "detectron2", "fbnet_plugin", "fvcore")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before):
            for handler in set(logger.handlers) - set(handlers):
                handler.close()
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
        setup_logger.cache_clear()  # Detectron2's, which would think that the handlers are still there


class Workshop:
    """The folder, and what the page's blocks have done so far.

    Attributes:
        folder: the current folder of all blocks; the checkout's tools and configs stand in it.
        kinds: kinds of trainings that have run in it; a second one of a kind is only checked.
        names: of the page's Python blocks.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder = folder
        self.kinds: Set[Tuple[Any, ...]] = set()
        self.names: Dict[str, Any] = {"__name__": "__docs__"}
        for name in CHECKOUT:
            (folder / name).symlink_to(ROOT / name)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DETECTRON2_DATASETS", str(folder / "datasets"))

    def run(self, tool: str, argv: Sequence[str]) -> str:
        """What a script of the checkout prints when it is run with these arguments; it must succeed."""
        out, err, before = io.StringIO(), io.StringIO(), sys.argv
        sys.argv, code = [tool, *argv], None
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), logging_as_before():
                runpy.run_path(str(ROOT / tool), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        except Exception:
            code = traceback.format_exc()
        finally:
            sys.argv = before
        assert code in (None, 0), f"exit status {code}\n{err.getvalue()[-2000:]}{out.getvalue()[-1000:]}"
        return out.getvalue()

    def parse(self, tool: str, argv: Sequence[str]) -> Any:
        """The arguments as the script's own parser takes them; one that it does not take fails."""
        script = runpy.run_path(str(ROOT / tool), run_name="docs")
        err, before = io.StringIO(), sys.argv
        sys.argv = [tool, *argv]
        try:
            with contextlib.redirect_stderr(err):
                if "parse_args" in script:
                    return script["parse_args"]()
                make = script.get("parser") or script["argument_parser"]
                return make().parse_args(list(argv))
        except SystemExit:
            raise AssertionError(err.getvalue()) from None
        finally:
            sys.argv = before

    def need(self, *paths: str) -> None:
        """Files that an earlier block must have left, or that the checkout has."""
        for path in paths:
            assert os.path.exists(path), f"nothing before this writes {path}"

    def python(self, block: Block) -> None:
        """Runs a Python block; of what trains, only the names that it needs are looked up."""
        tree = ast.parse(block.text, filename=block.place)
        ast.increment_lineno(tree, block.line - 1)
        for statement in tree.body:
            code = ast.Module([statement], [])
            if ".train()" in ast.unparse(statement):
                self._look_up(statement, block)
            else:
                exec(compile(code, str(block.page), "exec"), self.names)

    def _look_up(self, statement: ast.stmt, block: Block) -> None:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                assert node.id in self.names, f"{block.place}: {node.id} is not defined"

    def yaml(self, block: Block) -> None:
        """A config or an architecture must be accepted; one that begins with "# NAME.yaml" is written to that file."""
        data = yaml.safe_load(block.text)
        if "stages" in data:
            arch_from_dict(data)
        named = block.text.splitlines()[0].lstrip("# ").strip()
        file = self.folder / (named if named.endswith(".yaml") and " " not in named else "block.yaml")
        file.write_text(block.text + "\n", encoding="utf-8")
        if "stages" not in data:
            load_config(str(file))


def flags(argv: Sequence[str], *names: str) -> List[str]:
    """Arguments without these options, each of which has one value."""
    kept, skip = [], False
    for word in argv:
        if not skip and word not in names:
            kept.append(word)
        skip = word in names
    return kept
