"""docs/config.md, which tools/make_config_reference.py makes of fbnet_plugin/config.py."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any, Dict

import pytest
from detectron2.config import CfgNode, get_cfg

from fbnet_plugin.config import add_fbnet_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def reference() -> Any:
    """tools/make_config_reference.py as a module."""
    spec = importlib.util.spec_from_file_location("make_config_reference", ROOT / "tools" / "make_config_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def new_keys() -> Dict[str, Any]:
    """Every key that add_fbnet_config adds, with its default."""

    def leaves(node: CfgNode, where: str = "") -> Dict[str, Any]:
        found: Dict[str, Any] = {}
        for key, value in node.items():
            inner = isinstance(value, CfgNode)
            found.update(leaves(value, f"{where}{key}.") if inner else {where + key: value})
        return found

    cfg = get_cfg()
    before = leaves(cfg)
    add_fbnet_config(cfg)
    return {key: value for key, value in leaves(cfg).items() if key not in before}


def test_the_page_is_current(reference, capsys):
    assert reference.main(["--check"]) == 0, capsys.readouterr().out


def test_every_key_has_its_default_and_a_meaning(reference):
    found = {one.name: one for one in reference.read_source(reference.SOURCE.read_text()) if hasattr(one, "default")}
    keys = new_keys()
    assert list(found) == list(dict.fromkeys(found)) and set(found) == set(keys) and len(keys) > 100
    for name, value in keys.items():
        assert ast.literal_eval(found[name].default) == value, name
        assert len(found[name].comment) > 3, name


def test_every_key_is_on_the_page(reference):
    page = reference.PAGE.read_text()
    for name in new_keys():
        assert page.count(f"`{name}`") >= 1, name


def test_a_change_of_the_source_is_a_difference_with_the_command(reference, monkeypatch, tmp_path, capsys):
    changed = tmp_path / "config.py"
    changed.write_text(reference.SOURCE.read_text().replace("FBNET.WIDTH_MULT = 1.0", "FBNET.WIDTH_MULT = 2.0"))
    monkeypatch.setattr(reference, "SOURCE", changed)
    assert reference.main(["--check"]) == 1
    said = capsys.readouterr()
    assert "+| `MODEL.FBNET.WIDTH_MULT` | `2.0` |" in said.out and reference.COMMAND in said.err


def test_a_key_without_a_comment_is_refused(reference):
    source = "def _add_one(cfg):\n    cfg.ONE = CN()\n    cfg.ONE.KEY = 1\n"
    with pytest.raises(reference.SourceError, match="ONE.KEY has no comment"):
        reference.make_page(source)


def test_comments_of_groups_and_rows(reference):
    lines = [
        *("def _add_one(cfg):", "    # ----------", "    # Heading: more. And more.", "    # ----------"),
        *("    cfg.ONE = CN()", "    # Of two | keys.", "    cfg.ONE.A = 1", "    cfg.ONE.B = (1, 2)"),
        *("    # A group.", "    cfg.ONE.TWO = CN()", "    # In it.", "    cfg.ONE.TWO.C = ''", ""),
    ]
    page = reference.make_page("\n".join(lines)).partition("## ")[2]
    assert page.splitlines() == [
        *("Heading", "", "more. And more.", "", "| key | default | meaning |", "|:--|:--|:--|"),
        *("| `ONE.A`<br>`ONE.B` | `1`<br>`(1, 2)` | Of two \\| keys. |", "", "**`ONE.TWO`**: A group.", ""),
        *("| key | default | meaning |", "|:--|:--|:--|", "| `ONE.TWO.C` | `''` | In it. |"),
    ]
