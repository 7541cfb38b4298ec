"""Names of the candidates that a search chooses between."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Sequence

from fbnet_plugin.arch import SearchSpace
from fbnet_plugin.arch.blocks import BlockSpec
from fbnet_plugin.arch.space import Row, Variable


def candidate_names(space: SearchSpace) -> List[List[str]]:
    """Labels of each variable's choices, as in FBNet Table 2: k3_e1, k3_e1_g2, ..., skip; unique within a variable.

    A block bears kernel, expansion and what it has besides: groups (_g), stacked depthwise convs (_x),
    squeeze-and-excite (_se), copies (_r); where that does not tell two apart, the fields in which they differ. Choices
    of a variable that is named by no block of the stages bear their value.
    """
    rows: Dict[str, Row] = {}
    for row in space.rows():
        for name in row.variables:
            rows.setdefault(name, row)
    names = []
    for variable in space.variables:
        if variable.name in rows:
            row = rows[variable.name]
            first = {name: 0 for name in row.variables}
            blocks = [space.block(row, {**first, variable.name: i}) for i in range(len(variable.choices))]
            names.append(_numbered(_told_apart(blocks)))
        else:
            names.append(_numbered(_value_names(variable)))
    return names


def _value_names(variable: Variable) -> List[str]:
    """Names of values that are no blocks: words and numbers themselves, others by their number."""
    plain = (bool, int, float, str)
    return [str(value)[:40] if isinstance(value, plain) else f"choice{i}" for i, value in enumerate(variable.choices)]


def _label(block: BlockSpec) -> str:
    words = [] if block.op == "mb" else [block.op]
    for letter, key, usual in (("k", "kernel", 0), ("e", "expansion", 0), ("g", "groups", 1), ("x", "cascade", 1)):
        value = getattr(block, key, usual)
        words += [f"{letter}{value:g}"] if value != usual else []
    words += ["se"] if getattr(block, "se", None) is not None else []
    words += [f"r{block.repeat}"] if block.repeat > 1 else []
    return "_".join(words)


def _told_apart(blocks: Sequence[BlockSpec]) -> List[str]:
    """Labels; those that several blocks have get the fields in which these differ."""
    names = [_label(block) for block in blocks]
    for name in [name for name, times in Counter(names).items() if times > 1]:
        alike = [i for i, other in enumerate(names) if other == name]
        first = vars(blocks[alike[0]])
        for key in [key for key in first if any(vars(blocks[i]).get(key) != first[key] for i in alike)]:
            for i in alike:
                names[i] += f"_{key}{_field_text(vars(blocks[i]).get(key))}"
    return names


def _field_text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "1", False: "0", None: "auto"}[value]
    if isinstance(value, (int, float)):
        return repr(int(value) if float(value).is_integer() else value)
    return "_" + value if isinstance(value, str) else "_".join(["", *(str(part) for part in vars(value).values())])


def _numbered(names: List[str]) -> List[str]:
    """The second and later of equal names get a number."""
    taken, unique = set(names), []
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        new, number = name, seen[name]
        while number > 1 and new in taken:
            new, number = f"{name}_{number}", number + 1
        taken.add(new)
        unique.append(new)
    return unique
