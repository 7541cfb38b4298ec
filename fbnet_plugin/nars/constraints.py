"""Resource constraints of a search: g_i(A) <= C_i (FBNetV3 eq. 1), as text and on arrays of costs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from .errors import NARSError

METRICS = ("macs", "params", "latency_us")
ACCEPTED = (
    '"macs <= 450M" or "400M <= macs <= 800M, params <= 9M", metrics macs, params and latency_us (µs), '
    "numbers such as 450000000, 4.5e8 or 450M (k, M, G)"
)

_UNITS = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9}  # powers of ten
_NUMBER = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([kKMG]?)")
_SIGN = re.compile(r"(<=|>=)")


@dataclass(frozen=True)
class Constraint:
    """Inclusive bounds of one metric.

    Attributes:
        metric: "macs", "params" or "latency_us".
        low, high: MACs, number of parameters or µs.

    Raises:
        NARSError: another metric, a negative bound, or ``low`` above ``high``.
    """

    metric: str
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise NARSError(f"constraint: got {self.metric!r}, expected one of the metrics {', '.join(METRICS)}")
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if not (self.low <= self.high and (self.low >= 0 or self.low == -math.inf)):  # NaN fails too
            raise NARSError(
                f"constraint: got {self.metric} from {self.low:g} to {self.high:g}, expected bounds from 0, in order"
            )


def parse_constraints(text: str) -> Tuple[Constraint, ...]:
    """Constraints from a text such as "400M <= macs <= 800M, params <= 9M".

    Args:
        text: separated by commas; "" is none. Several for one metric are taken together.

    Returns:
        one constraint per metric, in the order of the text.

    Raises:
        NARSError: the text, and what is accepted.
    """
    if not isinstance(text, str):
        raise NARSError(f"constraints: got {text!r}, expected a text such as {ACCEPTED}")
    bounds: Dict[str, Tuple[float, float]] = {}
    for part in text.split(",") if text.strip() else []:
        metric, low, high = _read(part.strip(), text)
        before = bounds.get(metric, (-math.inf, math.inf))
        bounds[metric] = max(low, before[0]), min(high, before[1])
    for metric, (low, high) in bounds.items():
        if low > high:
            raise NARSError(
                f"constraints: {text!r}: {metric} cannot be at least {_number_text(low, metric)} and "
                f"at most {_number_text(high, metric)}"
            )
    return tuple(Constraint(metric, low, high) for metric, (low, high) in bounds.items())


def _read(part: str, text: str) -> Tuple[str, float, float]:
    """(metric, low, high) of one part: a metric and one or two signs with their numbers."""
    words = [word.strip() for word in _SIGN.split(part)]
    terms, signs = words[::2], words[1::2]
    names = [place for place, term in enumerate(terms) if term in METRICS]
    if len(names) != 1 or len(terms) not in (2, 3) or (len(terms) == 3 and (names != [1] or signs[0] != signs[1])):
        raise NARSError(f"constraints: got {part!r} in {text!r}, expected {ACCEPTED}")
    place = names[0]
    low, high = -math.inf, math.inf
    for index, term in enumerate(terms):
        if index == place:
            continue
        value = _read_number(term, text)
        sign = signs[min(index, place)]
        if (sign == "<=") == (index < place):
            low = value
        else:
            high = value
    return terms[place], low, high


def _read_number(term: str, text: str) -> float:
    match = _NUMBER.fullmatch(term)
    value = float(Decimal(match[1]).scaleb(_UNITS[match[2]])) if match else math.inf
    if math.isinf(value):
        raise NARSError(f"constraints: got {term!r} in {text!r} for a number, expected {ACCEPTED}")
    return value


def format_constraints(constraints: Sequence[Constraint]) -> str:
    """The text of constraints; ``parse_constraints`` gives them back exactly. "" where there are none."""
    parts: List[str] = []
    for one in constraints:
        low, high = _number_text(one.low, one.metric), _number_text(one.high, one.metric)
        if one.low == -math.inf:
            parts += [f"{one.metric} <= {high}"] if one.high < math.inf else []
        else:
            parts.append(f"{low} <= {one.metric} <= {high}" if one.high < math.inf else f"{one.metric} >= {low}")
    return ", ".join(parts)


def _number_text(value: float, metric: str) -> str:
    """450M rather than 450000000.0; latencies are written out."""
    if not 1e-3 <= value < 1e15:
        return "0" if value == 0 else repr(value)
    for unit, power in (("G", 9), ("M", 6), ("k", 3)):
        if value >= 10**power and metric != "latency_us":
            return _plain(Decimal(repr(value)).scaleb(-power)) + unit
    return _plain(Decimal(repr(value)))


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_cost(value: float, metric: str, rounding: Callable[[float], float] = round) -> str:
    """A cost for the reader in four digits: "213.4M macs", "5.3M params", "20410 µs".

    Args:
        rounding: of the last digit: ``round``, ``math.ceil`` or ``math.floor``.
    """
    unit, power = "", 0
    if metric != "latency_us":
        unit, power = next(
            ((unit, power) for unit, power in (("G", 9), ("M", 6), ("k", 3)) if value >= 10**power), ("", 0)
        )
    scaled = value / 10**power
    step = 10.0 ** (math.floor(math.log10(scaled)) - 3) if scaled > 0 else 1.0
    text = _plain(Decimal(repr(float(f"{rounding(scaled / step) * step:.12g}"))))
    return f"{text} µs" if metric == "latency_us" else f"{text}{unit} {metric}"


def satisfied(costs: Mapping[str, np.ndarray], constraints: Sequence[Constraint]) -> np.ndarray:
    """Which points meet all constraints.

    Args:
        costs: metric -> values, shape (n,); as ``Costs`` gives them.

    Returns:
        bool, shape (n,); NaN meets nothing.

    Raises:
        NARSError: a metric that ``costs`` does not have.
    """
    good = np.ones(_length(costs), dtype=bool)
    for one in constraints:
        values = _values(costs, one.metric)
        good &= (values >= one.low) & (values <= one.high)
    return good


def violation(costs: Mapping[str, np.ndarray], constraints: Sequence[Constraint]) -> np.ndarray:
    """By how much points miss the constraints.

    Args:
        costs: as for ``satisfied``.

    Returns:
        float64, shape (n,): the sum of the relative excesses over the bounds; 0 where all are met, inf for NaN.

    Raises:
        NARSError: a metric that ``costs`` does not have.
    """
    total = np.zeros(_length(costs))
    for one in constraints:
        values = _values(costs, one.metric)
        for bound, excess in ((one.high, values - one.high), (one.low, one.low - values)):
            if math.isfinite(bound):
                total += np.where(np.isnan(excess), math.inf, np.maximum(excess, 0) / max(abs(bound), 1e-9))
    return total


def _length(costs: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(costs.values()))) if costs else 0


def _values(costs: Mapping[str, np.ndarray], metric: str) -> np.ndarray:
    if metric not in costs:
        raise missing_metric(metric, tuple(costs))
    return np.asarray(costs[metric], dtype=np.float64)


def missing_metric(metric: str, known: Sequence[str]) -> NARSError:
    """The error that a constraint is on a metric that nobody counts."""
    hint = ", which needs a latency table: set LATENCY.TABLE" if metric == "latency_us" else ""
    return NARSError(f"constraints: there is no {metric}{hint}; known here: {', '.join(known) or 'none'}")
