"""What whole-network times can tell of a layer-wise space: which costs add up, and up to which constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arch import Layer, SearchSpace, SkipSpec
from ..arch.spec import Resolution
from .errors import LatencyError
from .layerwise import Layerwise, layerwise
from .operators import Operator, layer_operator


@dataclass(frozen=True)
class Design:
    """The additive model of a space: LAT(network) = constant + counts(network) @ u (FBNet eq. 3).

    ``u`` holds the µs of the P operators that variables choose between. Times of whole networks determine it up to
    what no choice changes: in a layer without an identity skip, adding 1 µs to each candidate and taking it from the
    constant gives the same network times. ``gauge`` removes that freedom: ``gauge @ u`` has 0 at one reference per
    such layer and differs from ``u`` by what the constant takes up.

    Attributes:
        operators: P operators, in order of first use.
        fixed: operators that every network runs (stem, head, classifier), with repetition.
        runs: how often a choice runs each operator, variables one after another; shape (choices of all variables, P).
        first: row of ``runs`` at which each variable starts, shape (L + 1,).
        reference: per variable the choice that differences are taken to, shape (L,): its skip, else its first choice.
        identity: operators that compute nothing and cost 0, shape (P,).
        in_constant: reference operators that the gauge sets to 0, shape (P,).
        gauge: shape (P, P).
        features: physical quantities of each operator, shape (P, F); see ``layer_features``.
    """

    space: str
    operators: tuple[Operator, ...]
    fixed: tuple[Operator, ...]
    runs: np.ndarray
    first: np.ndarray
    reference: np.ndarray
    identity: np.ndarray
    in_constant: np.ndarray
    gauge: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, space: SearchSpace, resolution: Resolution | None = None) -> Design:
        """Takes a space apart.

        Args:
            space: each variable changes layers of its own, and no shape between layers.
            resolution: image px; default: that of the space.

        Raises:
            ArchError: the space is not layer-wise.
            LatencyError: it has nothing to choose.
        """
        layers = layerwise(space, resolution)
        operators = tuple(dict.fromkeys(layers.searched()))
        if not operators:
            raise LatencyError(f"{space.name}: no variable chooses an operator, expected a space with choices")
        number = {operator: place for place, operator in enumerate(operators)}
        choices = [choice for candidates in layers.candidates for choice in candidates]
        runs = np.zeros((len(choices), len(operators)))
        for row, choice in enumerate(choices):
            for operator in choice:
                runs[row, number[operator]] += 1
        first = np.cumsum([0] + [len(candidates) for candidates in layers.candidates])
        identity = np.array([operator.is_identity for operator in operators])
        reference = _reference_choices(layers, identity, number)
        in_constant, gauge = _gauge(runs, first, first[:-1] + reference, identity)
        features = _features(space, resolution, number)
        return cls(space.name, operators, layers.fixed, runs, first, reference, identity, in_constant, gauge, features)

    def rows(self, points: Any) -> np.ndarray:
        """Row of ``runs`` of each choice, int64 of shape (n, L).

        Args:
            points: choice indices, shape (n, L).

        Raises:
            LatencyError: another shape, no integers, or a choice that a variable does not have.
        """
        array, sizes = np.asarray(points), np.diff(self.first)
        if array.ndim != 2 or array.shape[1] != len(sizes) or array.dtype.kind not in "iu":
            got = f"{array.dtype} of shape {array.shape}"
            raise LatencyError(f"points: got {got}, expected choice indices of shape (n, {len(sizes)})")
        wrong = np.argwhere((array < 0) | (array >= sizes))
        if len(wrong):
            row, place = wrong[0]
            got = f"points[{row}, {place}]: got {array[row, place]}"
            raise LatencyError(f"{got}, expected an index from 0 to {sizes[place] - 1}, as {self.space} has there")
        return self.first[:-1] + array.astype(np.int64)

    def counts(self, points: Any) -> np.ndarray:
        """How often each network runs each operator: float64 of shape (n, P). Raises: as ``rows``."""
        rows = self.rows(points)
        chosen = np.zeros((len(rows), len(self.runs)))
        np.put_along_axis(chosen, rows, 1.0, axis=1)
        return chosen @ self.runs

    def variance(self, us: np.ndarray) -> np.ndarray:
        """Variance of ``counts @ us`` over networks drawn uniformly, per column of ``us`` (P, k): shape (k,)."""
        values = self.runs @ us
        return np.add.reduce([values[a:b].var(axis=0) for a, b in zip(self.first[:-1], self.first[1:])])

    def differences(self) -> np.ndarray:
        """Each choice minus its variable's reference, as rows over operators: shape of ``runs``."""
        references = np.repeat(self.first[:-1] + self.reference, np.diff(self.first))
        return self.runs - self.runs[references]

    def by_layer(self, values: np.ndarray) -> np.ndarray:
        """One value per row of ``runs`` as shape (L, most candidates), NaN beyond a layer's candidates."""
        sizes = np.diff(self.first)
        table = np.full((len(sizes), sizes.max()), np.nan)
        table[np.arange(sizes.max()) < sizes[:, None]] = values
        return table


def _reference_choices(layers: Layerwise, identity: np.ndarray, number: dict[Operator, int]) -> np.ndarray:
    """Per variable: the first choice of nothing but identities, else of nothing but skips, else the first."""
    found = []
    for candidates in layers.candidates:
        ranks = [
            0 if all(identity[number[one]] for one in choice) else 1 if all(one.op == "skip" for one in choice) else 2
            for choice in candidates
        ]
        found.append(ranks.index(min(ranks)) if min(ranks) < 2 else 0)
    return np.array(found, dtype=np.int64)


def _gauge(
    runs: np.ndarray, first: np.ndarray, references: np.ndarray, identity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reference operators, shape (P,), and the matrix that sets them to 0 and keeps all differences, shape (P, P).

    An operator of a reference choice becomes a reference unless network times determine it, as they do when another
    layer can choose it or an identity.
    """
    within = np.concatenate([runs[a:b] - runs[a] for a, b in zip(first[:-1], first[1:])]) * ~identity
    rank = np.linalg.matrix_rank(within)
    in_constant = np.zeros(runs.shape[1], dtype=bool)
    for place in np.flatnonzero((runs[references].sum(axis=0) > 0) & ~identity):
        in_constant[place] = True
        in_constant[place] = np.linalg.matrix_rank(within[:, ~in_constant]) == rank
    # Directions of u that no network time sees.
    free = np.flatnonzero(~identity)
    hidden = np.linalg.svd(within[:, free])[2][rank:].T
    gauge = np.diag((~identity).astype(np.float64))
    at_reference = hidden[in_constant[free]]
    if in_constant.any():
        gauge[np.ix_(free, np.flatnonzero(in_constant))] -= hidden @ np.linalg.pinv(at_reference)
        gauge[in_constant] = 0.0
    return in_constant, gauge


def _features(space: SearchSpace, resolution: Resolution | None, number: dict[Operator, int]) -> np.ndarray:
    """Features of all operators, shape (P, F)."""
    found: dict[Operator, dict[str, float]] = {}
    for place, variable in enumerate(space.variables):
        point = np.zeros(len(space.variables), dtype=np.int64)
        for point[place] in range(len(variable.choices)):
            for layer in space.arch(point).layers(resolution):
                operator = layer_operator(layer)
                if operator in number and operator not in found:
                    found[operator] = layer_features(layer)
    names = sorted({name for features in found.values() for name in features})
    return np.array([[found[operator].get(name, 0.0) for name in names] for operator in number])


def layer_features(layer: Layer) -> dict[str, float]:
    """What a layer's latency plausibly grows with; nothing at all for an identity.

    Returns:
        counts of layers, of blocks with expanded channels, of grouped and of squeeze-and-excite blocks; MACs,
        weights, elements read and written by the block, elements of the expanded map before and after its k x k
        convolution; per kernel size the elements that this convolution reads.
    """
    block, shape, out = layer.block, layer.input, layer.output
    if isinstance(block, SkipSpec) and block.is_identity(int(shape.channels)):
        return {}
    fields = dict(layer_operator(layer).fields)
    pixels_in, pixels_out = shape.height * shape.width, out.height * out.width
    mid, kernel = fields.get("mid", 0), fields.get("kernel", 1)
    features = {
        "expanded_blocks": mid > 0,
        "grouped_blocks": fields.get("groups", 1) > 1,
        "se_blocks": "se" in fields,
        "macs": layer.cost.macs,
        "weights": layer.cost.weights,
        "elements": shape.channels * pixels_in + out.channels * pixels_out,
        "expanded_elements": mid * (pixels_in + pixels_out),
    }
    if kernel > 1:
        features[f"reads_k{kernel}"] = kernel**2 * (mid or out.channels) * pixels_out
    return {name: float(value) for name, value in features.items()}
