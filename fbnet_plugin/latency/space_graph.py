"""All networks of a search space as the paths of a graph, without listing the networks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ..arch import ArchError, BlockSpec, SearchSpace, Shape
from ..arch.block_base import MAX_BLOCKS
from ..arch.space import Row
from ..arch.spec import Resolution, image_size
from .operators import Operator, classifier_of, operator_of

MAX_EDGES = 2_000_000

Chosen = Mapping[str, int]  # variable -> index of its choice


class Step(NamedTuple):
    """The edges of one step: all choices that one row leaves open, from each node before it to one behind it.

    Edges are grouped by the node that they leave; node and edge numbers count from 0 in every step.

    Attributes:
        variables: names of the variables that the edges choose.
        choices: choice indices of each edge, shape (edges, len(variables)).
        first_edge: of each node, shape (nodes + 1,); the last entry is the number of edges.
        target: each edge's node in the next step, shape (edges,).
        operators: numbers of the operators that the edges run, edge by edge. Every edge starts with the number that
            stands for no operator, ``len(SpaceGraph.operators)``.
        first_operator: of each edge in ``operators``, shape (edges + 1,).
    """

    variables: tuple[str, ...]
    choices: np.ndarray
    first_edge: np.ndarray
    target: np.ndarray
    operators: np.ndarray
    first_operator: np.ndarray


class SpaceGraph:
    """All networks of a space.

    A node stands for what the rows behind it depend on: the feature map, and the choices of those variables that rows
    before and behind it share. Thus the graph stays small where the space is not (FBNetV3's 10^20 networks are
    37,574 edges), and each path from its first node to its last is a network that fits together.

    Args:
        space: any space.
        resolution: image px for all networks, one side or (height, width); default: each network's own.

    Attributes:
        operators: every operator that some network runs, in order of execution.
        steps: image, rows of the stages, head.

    Raises:
        ArchError: no network of the space fits the resolution, or the graph would have more than ``MAX_EDGES`` edges.
    """

    def __init__(self, space: SearchSpace, resolution: Resolution | None = None):
        self.space = space
        size = None if resolution is None else image_size(resolution)
        parts = _parts(space, size)
        layers, most_blocks = _layers(space, parts, count_blocks=False)
        if most_blocks > MAX_BLOCKS:
            layers, _ = _layers(space, parts, count_blocks=True)
        layers = _without_dead_ends(layers)
        if not layers[0].edges:
            image = "its own resolution" if size is None else f"an image of {size[0]}x{size[1]} px"
            raise ArchError(f"no network of the space fits {image}", space.name)
        numbers = {operator: None for layer in layers for edge in layer.edges for operator in edge.operators}
        self.operators: list[Operator] = list(numbers)
        self.number = {operator: number for number, operator in enumerate(self.operators)}
        self.steps = [self._step(layer) for layer in layers]

    def _step(self, layer: _Layer) -> Step:
        nothing = len(self.operators)
        runs = [[nothing, *(self.number[operator] for operator in edge.operators)] for edge in layer.edges]
        sources = np.array([edge.source for edge in layer.edges])
        return Step(
            variables=layer.variables,
            choices=np.array([edge.choice for edge in layer.edges], np.int64).reshape(len(sources), -1),
            first_edge=np.append(np.flatnonzero(np.diff(sources, prepend=-1)), len(sources)),
            target=np.array([edge.target for edge in layer.edges]),
            operators=np.fromiter(itertools.chain.from_iterable(runs), np.int64),
            first_operator=np.cumsum([0, *map(len, runs)]),
        )

    def point(self, path: Iterable[int]) -> np.ndarray:
        """The point of the space that a path leads to, shape (variables,); what no step chooses is its first choice.

        Args:
            path: an edge number per step.
        """
        chosen: dict[str, int] = {}
        for step, edge in zip(self.steps, path):
            chosen.update(zip(step.variables, step.choices[edge].tolist()))
        return np.array([chosen.get(variable.name, 0) for variable in self.space.variables], np.int64)


class _Run(NamedTuple):
    """What a row with its choices made does to its input."""

    operators: tuple[Operator, ...]
    output: Shape
    blocks: int


class _Part(NamedTuple):
    """A row before its choices are made: the variables in it, and from (choices, input) to what it does."""

    variables: tuple[str, ...]
    run: Callable[[Chosen, Shape], _Run]


class _Edge(NamedTuple):
    source: int
    choice: tuple[int, ...]
    target: int
    operators: tuple[Operator, ...]


class _Layer(NamedTuple):
    variables: tuple[str, ...]
    edges: list[_Edge]
    targets: int


class _State(NamedTuple):
    """A node; ``blocks`` before it count only in spaces where some networks have too many of them."""

    shape: Shape
    blocks: int
    choices: tuple[int, ...]


def _parts(space: SearchSpace, size: tuple[int, int] | None) -> list[_Part]:
    runner = _Runner()

    def image(chosen: Chosen, _: Shape) -> _Run:
        frame = space.frame(chosen)
        shape = Shape(frame.in_channels, *(size or image_size(frame.resolution)))
        return _Run((), shape, sum(block.repeat for block in frame.box_head))

    def one_row(row: Row, chosen: Chosen, shape: Shape) -> _Run:
        return runner.row(space.block(row, chosen), shape)

    def head(chosen: Chosen, shape: Shape) -> _Run:
        found = space.frame(chosen).head
        if found is None:
            return _Run((), shape, 0)
        runs = list(runner.rows(found.blocks, shape))
        shape = runs[-1].output if runs else shape
        operators = itertools.chain.from_iterable(run.operators for run in runs)
        return _Run((*operators, classifier_of(found.num_classes, shape)), shape, sum(run.blocks for run in runs))

    of_image = space.variables_of("in_channels", *([] if size else ["resolution"]))
    rows = [_Part(row.variables, functools.partial(one_row, row)) for row in space.rows()]
    return [_Part(of_image, image), *rows, _Part(space.variables_of("head"), head)]


class _Runner:
    """Runs rows on shapes, each row on each shape once, and equal blocks of different rows once as well."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, Shape], _Run] = {}
        self._blocks: dict[tuple[BlockSpec, Shape], tuple[Operator, Shape]] = {}
        self._kept: list[BlockSpec] = []  # an object that is gone could give its id to another

    def rows(self, rows: Iterable[BlockSpec], shape: Shape) -> Iterable[_Run]:
        for row in rows:
            run = self.row(row, shape)
            yield run
            shape = run.output

    def row(self, row: BlockSpec, shape: Shape) -> _Run:
        found = self._rows.get((id(row), shape))
        if found is None:
            self._kept.append(row)
            operators, after = [], shape
            for block in row.copies():
                operator, after = self._block(block, after)
                operators.append(operator)
            found = self._rows[id(row), shape] = _Run(tuple(dict.fromkeys(operators)), after, row.repeat)
        return found

    def _block(self, block: BlockSpec, shape: Shape) -> tuple[Operator, Shape]:
        found = self._blocks.get((block, shape))
        if found is None:
            found = self._blocks[block, shape] = operator_of(block, shape), block.count(shape)[1]
        return found


def _layers(space: SearchSpace, parts: list[_Part], count_blocks: bool) -> tuple[list[_Layer], int]:
    """The graph's edges, dead ends included, and the most blocks (copies counted) on any path.

    Args:
        parts: image, rows, head.
        count_blocks: keep networks with different numbers of blocks apart, and drop those with too many.
    """
    sizes = {variable.name: len(variable.choices) for variable in space.variables}
    layers: list[_Layer] = []
    states = {_State(Shape(0, 0, 0), 0, ()): 0}  # state -> most blocks before it
    carried: tuple[str, ...] = ()  # variables whose choices the states hold
    for number, part in enumerate(parts):
        later = {name for other in parts[number + 1 :] for name in other.variables}
        new = tuple(name for name in part.variables if name not in carried)
        kept = tuple(name for name in (*carried, *new) if name in later)
        edges: list[_Edge] = []
        behind: dict[_State, int] = {}
        index: dict[_State, int] = {}
        for source, (state, before) in enumerate(states.items()):
            chosen = dict(zip(carried, state.choices))
            for choice in itertools.product(*(range(sizes[name]) for name in new)):
                chosen.update(zip(new, choice))
                try:
                    run = part.run(chosen, state.shape)
                except ArchError:  # these choices do not fit each other, or not the input
                    continue
                blocks = before + run.blocks
                if count_blocks and blocks > MAX_BLOCKS:
                    continue
                after = _State(run.output, blocks if count_blocks else 0, tuple(chosen[name] for name in kept))
                behind[after] = max(behind.get(after, 0), blocks)
                edges.append(_Edge(source, choice, index.setdefault(after, len(index)), run.operators))
            if len(edges) > MAX_EDGES:
                raise ArchError(f"too many variables are shared between distant rows ({', '.join(kept)})", space.name)
        layers.append(_Layer(new, edges, len(behind)))
        states, carried = behind, kept
    return layers, max(states.values(), default=0)


def _without_dead_ends(layers: list[_Layer]) -> list[_Layer]:
    """The same layers without the edges from which no path leads to the end."""
    trimmed: list[_Layer] = []
    alive = set(range(layers[-1].targets))
    for layer in reversed(layers):
        number = {node: place for place, node in enumerate(sorted(alive))}
        edges = [edge._replace(target=number[edge.target]) for edge in layer.edges if edge.target in alive]
        trimmed.append(_Layer(layer.variables, edges, len(alive)))
        alive = {edge.source for edge in edges}
    return trimmed[::-1]
