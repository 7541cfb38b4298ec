"""What a search is, as text lines, so that one that has changed is not resumed."""

from __future__ import annotations

import difflib
from typing import Any, Iterable, List, Mapping, Tuple

from detectron2.config import CfgNode


def config_lines(cfg: CfgNode, free: Iterable[str] = (), free_sections: Tuple[str, ...] = ()) -> List[str]:
    """``KEY: value`` of every leaf, sorted by key.

    Args:
        free: keys that are left out, as they may change.
        free_sections: beginnings of such keys, each with its dot.
    """
    left_out = set(free)
    return [
        f"{key}: {value!r}"
        for key, value in _flat(cfg)
        if key not in left_out and not (free_sections and key.startswith(free_sections))
    ]


def _flat(cfg: CfgNode, prefix: str = "") -> "List[tuple[str, Any]]":
    leaves: List[Any] = []
    for key in sorted(cfg):
        name = f"{prefix}{key}"
        leaves += _flat(cfg[key], f"{name}.") if isinstance(cfg[key], CfgNode) else [(name, cfg[key])]
    return leaves


def changes(before: Mapping[str, Any], now: Mapping[str, Any], kinds: Mapping[str, str]) -> List[str]:
    """The differences between two identities, as lines for a message; none where they are equal.

    Args:
        before, now: lists of lines, or the digest of the latency table under "latency_table".
        kinds: what each list of lines is called.
    """
    lines: List[str] = []
    for key, kind in kinds.items():
        changed = [line for line in difflib.ndiff(list(before[key]), list(now[key])) if line[0] in "+-"]
        lines += [f"{kind} has changed (- in the earlier run, + now):", *changed] if changed else []
    if before["latency_table"] != now["latency_table"]:
        lines.append(f"the latency table has changed: {_short(before)} -> {_short(now)}")
    return lines


def _short(identity: Mapping[str, Any]) -> str:
    return identity["latency_table"][:12] or "none"
