"""Numbers, recipes and architectures of a search as short text, the same in status and report."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ..arch import ArchError, ArchSpec, BlockSpec, FusedSpec, InvertedResidualSpec, SkipSpec
from ..arch.yaml_file import arch_from_dict
from ..nars.run_data import CandidateData

NOTHING = "–"
COST_NAMES = {"macs": "MACs (M)", "params": "params (M)", "latency_us": "latency (ms)"}
COST_UNITS = {"macs": 1e6, "params": 1e6, "latency_us": 1e3}


def few_digits(value: float) -> str:
    """Three significant digits, and all of those before the point: 1,234, 461, 7.30, 0.0421."""
    if not math.isfinite(value):
        return NOTHING
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def round_name(number: int) -> str:
    """ "round 1 (random)", "round 2"."""
    return "round 1 (random)" if number == 1 else f"round {number}"


def percent(accuracy: Optional[float], std: Optional[float] = None) -> str:
    """An accuracy with two digits, and its uncertainty: "93.41 ± 0.30"."""
    if accuracy is None or not math.isfinite(accuracy):
        return NOTHING
    if std is None or not math.isfinite(std):
        return f"{accuracy:.2f}"
    return f"{accuracy:.2f} ± {std:.2f}"


def duration(seconds: float) -> str:
    """Wall time in the two units that matter: "45 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def cost_columns(candidates: Iterable[CandidateData]) -> List[Tuple[str, str]]:
    """(metric, heading with unit) of all costs that candidates have; MACs, params and latency first."""
    found = dict.fromkeys(metric for candidate in candidates for metric in candidate.costs)
    metrics = [metric for metric in COST_NAMES if metric in found] + sorted(set(found) - set(COST_NAMES))
    return [(metric, COST_NAMES.get(metric, metric)) for metric in metrics]


def cost_text(candidate: CandidateData, metric: str) -> str:
    """A cost in the unit of its heading."""
    value = candidate.costs.get(metric)
    return NOTHING if value is None else few_digits(value / COST_UNITS.get(metric, 1.0))


def flat(data: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    out: Dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        out.update(flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return out


def recipe_columns(candidates: Iterable[CandidateData]) -> List[str]:
    """Names of all recipe values of ``candidates``, in the order of the files."""
    return list(dict.fromkeys(key for candidate in candidates for key in flat(candidate.recipe)))


def value_text(value: Any) -> str:
    """A recipe's value: yes or no, four significant digits, or as it is."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def arch_text(data: Mapping[str, Any]) -> str:
    """An architecture in a line: input size, then for each stage its rows of alike blocks.

    "24×4 k5 e5/2 se" is four blocks of 24 channels, kernel 5, first of expansion 5 and then of 2, with
    squeeze-and-excite. Data that is no architecture gives "".
    """
    try:
        arch = arch_from_dict(dict(data))
    except ArchError:
        return ""
    return f"{arch.resolution} px: " + " | ".join(_stage_text(blocks) for blocks in _stages(arch))


def _stages(arch: ArchSpec) -> List[List[BlockSpec]]:
    by_part: Dict[str, List[BlockSpec]] = {}
    for layer in arch.layers():
        if layer.part.startswith("stages"):
            by_part.setdefault(layer.part, []).append(layer.block)
    return list(by_part.values())


def _stage_text(blocks: Sequence[BlockSpec]) -> str:
    """Runs of equal output channels, kind and kernel of a stage."""
    runs: List[List[BlockSpec]] = []
    for block in blocks:
        if runs and _alike(runs[-1][0], block):
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(_run_text(run) for run in runs)


def _alike(first: BlockSpec, second: BlockSpec) -> bool:
    def look(block: BlockSpec) -> Tuple[Any, ...]:
        se = getattr(block, "se", None) is not None
        return type(block), block.out, getattr(block, "kernel", None), se

    return look(first) == look(second)


def _run_text(run: Sequence[BlockSpec]) -> str:
    first = run[0]
    words = [f"{first.out}×{len(run)}"]
    if isinstance(first, SkipSpec):
        return f"{words[0]} skip"
    if not isinstance(first, (InvertedResidualSpec, FusedSpec)):
        words.insert(0, getattr(first, "op", "") or type(first).__name__.replace("Spec", "").lower())
    kernel = getattr(first, "kernel", None)
    words += [f"k{kernel}"] if kernel is not None else []
    expansions = list(dict.fromkeys(f"{getattr(block, 'expansion', 0):g}" for block in run))
    words += [f"e{'/'.join(expansions)}"] if expansions != ["0"] else []
    return " ".join([*words, *(["se"] if getattr(first, "se", None) is not None else [])])
