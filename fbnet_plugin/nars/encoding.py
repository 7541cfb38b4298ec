"""From points of a space to the predictor's input (FBNetV3 section 3.1): one-hot categories, min-max numbers."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np

from fbnet_plugin.arch.space import Variable

from .errors import NARSError


class Encoding:
    """The columns of a space's codes, those of the architecture first.

    An ordered variable is one column, 0 for its lowest choice, 1 for its highest, those between at equal steps: the
    min-max number of a range, and of choices at equal ratios that of their logarithm. Another variable is one column
    per choice; one with a single choice has none.

    Args:
        variables: of the space, those of the architecture first.
        num_arch: number of the latter.

    Attributes:
        width: number of columns.
        arch_width: number of the architecture's columns, which come first.
        columns: their names, such as "c0" or "optimizer=sgd".
    """

    def __init__(self, variables: Sequence[Variable], num_arch: int):
        self.variables, self.num_arch = tuple(variables), num_arch
        parts = [_Part.of(variable) for variable in self.variables]
        starts = np.cumsum([0, *(part.codes.shape[1] for part in parts)])
        self._parts = [(part, slice(int(at), int(end))) for part, at, end in zip(parts, starts, starts[1:])]
        self.width, self.arch_width = int(starts[-1]), int(starts[num_arch])
        self.columns: Tuple[str, ...] = tuple(name for part in parts for name in part.names)

    def encode(self, points: Any) -> np.ndarray:
        """Codes of points.

        Args:
            points: choice indices, int, shape (n, len(variables)).

        Returns:
            float32, shape (n, width), from 0 to 1.

        Raises:
            NARSError: the points have another shape, or an index is out of range.
        """
        points = self._checked(points)
        codes = np.empty((len(points), self.width), dtype=np.float32)
        for (part, columns), choice in zip(self._parts, points.T):
            codes[:, columns] = part.codes[choice]
        return codes

    def decode(self, codes: Any) -> np.ndarray:
        """The points that codes stand for: per variable the nearest choice.

        Args:
            codes: shape (n, width).

        Returns:
            int64, shape (n, len(variables)); ``decode(encode(points))`` is ``points``.

        Raises:
            NARSError: the codes have another width.
        """
        codes = np.asarray(codes, dtype=np.float32)
        if codes.ndim != 2 or codes.shape[1] != self.width:
            raise NARSError(f"codes: got shape {codes.shape}, expected (n, {self.width})")
        points = np.zeros((len(codes), len(self.variables)), dtype=np.int64)
        for place, (part, columns) in enumerate(self._parts):
            if part.ordered and part.codes.size:
                points[:, place] = _nearest(part.codes[:, 0], codes[:, columns][:, 0])
            elif part.codes.size:
                points[:, place] = codes[:, columns].argmax(axis=1)
        return points

    def _checked(self, points: Any) -> np.ndarray:
        indices = np.asarray(points)
        if indices.ndim != 2 or indices.shape[1] != len(self.variables) or indices.dtype.kind not in "iu":
            raise NARSError(f"points: got shape {indices.shape}, expected choice indices (n, {len(self.variables)})")
        for variable, column in zip(self.variables, indices.T):
            if len(column) and not 0 <= column.min() <= column.max() < len(variable.choices):
                accepted = f"indices from 0 to {len(variable.choices) - 1}"
                raise NARSError(f"{variable.name}: got {column.min()} to {column.max()}, expected {accepted}")
        return indices


class _Part(NamedTuple):
    """One variable's codes, shape (choices, columns), and the names of the columns."""

    codes: np.ndarray
    names: List[str]
    ordered: bool

    @classmethod
    def of(cls, variable: Variable) -> _Part:
        count = len(variable.choices)
        if count == 1:
            return cls(np.zeros((1, 0), np.float32), [], variable.ordered)
        if variable.ordered:
            return cls(np.linspace(0, 1, count, dtype=np.float32)[:, None], [variable.name], True)
        names = [f"{variable.name}={_word(value, number)}" for number, value in enumerate(variable.choices)]
        return cls(np.eye(count, dtype=np.float32), names, False)


def _nearest(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Place of the level nearest to each value; ``levels`` increase."""
    right = np.clip(np.searchsorted(levels, values), 1, len(levels) - 1)
    return np.where(values - levels[right - 1] <= levels[right] - values, right - 1, right)


def _word(value: Any, number: int) -> str:
    """A choice in a column's name; of a mapping, its number."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float, str)) else str(number)
