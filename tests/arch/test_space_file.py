"""Writing search spaces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.arch import (
    ArchError,
    SearchSpace,
    dump_space,
    get_arch,
    list_spaces,
    load_space,
    save_space,
    scale_space,
)
from fbnet_plugin.arch.space import SPACES, Variable


def assert_equal(again: SearchSpace, space: SearchSpace) -> None:
    assert (again.name, again.variables, again.template) == (space.name, space.variables, space.template)
    assert repr([v.choices for v in again.variables]) == repr([v.choices for v in space.variables])  # 6 is not 6.0
    for point in space.sample(20, np.random.default_rng(0)):
        assert again.arch(point) == space.arch(point)


@pytest.mark.parametrize("name", list_spaces())
def test_spaces_round_trip(name: str, tmp_path: Path) -> None:
    space = load_space(name)
    save_space(space, tmp_path / "new" / "again.yaml", header="Two lines,\nnothing else.")
    assert (tmp_path / "new" / "again.yaml").read_text().startswith(f"# Two lines,\n# nothing else.\nname: {name}\n")
    assert_equal(load_space(tmp_path / "new" / "again.yaml"), space)


def test_the_file_has_the_form_of_the_projects_own() -> None:
    """FBNet's, but for comments, line by line."""
    lines = (SPACES / "fbnet.yaml").read_text(encoding="utf-8").splitlines()
    expected = [line.split(" #")[0].rstrip() for line in lines if not line.startswith("#")]
    assert dump_space(load_space("fbnet")).splitlines() == expected


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
def test_parts_of_spaces_round_trip(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Variables with different lists of candidates, some of them equal."""
    rng = np.random.default_rng(seed)
    space = load_space(list_spaces()[rng.integers(len(list_spaces()))])
    lists = [rng.random(1000) < 0.5 for _ in range(3)]
    keep = {}
    for variable in space.variables:
        wanted = lists[rng.integers(3)]
        keep[variable.name] = tuple(c for i, c in enumerate(variable.choices) if wanted[i]) or variable.choices[:1]
    part = space.restrict(keep)
    if not space.name.startswith("fbnet_v3"):  # their channels are searched
        part = scale_space(part, float(rng.uniform(0.1, 2)), int(rng.integers(1, 400)))
    path = tmp_path_factory.getbasetemp() / "part.yaml"
    save_space(part, path)
    assert_equal(load_space(path), part)
    text = path.read_text()
    assert text.count("&candidates") <= 3 < text.count("*candidates") + 4


scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(max_size=8)
plain = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3))


@given(st.lists(st.lists(plain, min_size=1, max_size=4), max_size=4), st.text(max_size=30))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_any_plain_choices_round_trip_or_are_refused(tmp_path_factory, choices: list[list[Any]], header: str) -> None:
    """Choices that nothing names are not checked by the space; the file must give them back all the same."""
    names = ["yes", "null", "straße", "_1"]
    template = {"resolution": 32, "stages": [[{"op": "conv", "out": 8}]], "notes": header}
    space = SearchSpace("a: {b} # c", [Variable(n, tuple(c)) for n, c in zip(names, choices)], template)
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    try:
        save_space(space, path, header)
    except ArchError as error:  # such as a list as key, or a surrogate
        assert str(error).isprintable()
        return
    assert_equal(load_space(path), space)


def test_ranges_are_written_as_ranges(tmp_path: Path) -> None:
    variables = [
        Variable("steps", (16, 20, 24), ordered=True),
        Variable("ones", (3, 4), ordered=True),
        Variable("one", (7,), ordered=True),
        Variable("gaps", (1, 2, 4), ordered=True),
        Variable("fractions", (0.5, 1.0), ordered=True),
        Variable("words", (16, 20, 24)),
    ]
    space = SearchSpace("ranges", variables, {"resolution": 32, "stages": [[{"op": "conv", "out": 8}]]})
    lines = dump_space(space).splitlines()[2:8]
    assert lines == [
        "  steps: {low: 16, high: 24, step: 4}",
        "  ones: {low: 3, high: 4}",
        "  one: {low: 7, high: 7}",
        "  gaps: {choices: [1, 2, 4], ordered: true}",
        "  fractions: {choices: [0.5, 1.0], ordered: true}",
        "  words: {choices: [16, 20, 24]}",
    ]
    save_space(space, tmp_path / "ranges.yaml")
    assert_equal(load_space(tmp_path / "ranges.yaml"), space)


def test_candidates_are_written_once() -> None:
    text = dump_space(load_space("fbnet"))
    assert text.count("{op: skip}") == 1 and text.count("*candidates") == 21
    other = load_space("fbnet").restrict({"layer2": {"op": "skip"}, "layer3": ({"op": "skip"},)})
    assert dump_space(other).count("&candidates2") == 1
    alone = dump_space(load_space("fbnet").restrict({"layer2": {"op": "skip"}}))
    assert "&candidates2" not in alone and "  layer2:\n    choices:\n    - {op: skip}\n" in alone


def test_what_python_made(tmp_path: Path) -> None:
    """Tuples, NumPy's numbers and shared parts become plain data."""
    row = {"op": "conv", "out": np.int64(8)}
    space = SearchSpace("made", [Variable("px", (np.int64(32), 64))], {"resolution": "$px", "stages": [[row, row]]})
    save_space(space, tmp_path / "made.yaml")
    assert "&" not in (tmp_path / "made.yaml").read_text()
    again = load_space(tmp_path / "made.yaml")
    assert again.variables == space.variables and again.arch([1]) == space.arch([1])
    space = SearchSpace("fixed", [], {"resolution": 32, "stages": [[row]], "head": None})
    save_space(space, tmp_path / "fixed.yaml")
    assert load_space(tmp_path / "fixed.yaml").arch([]) == space.arch([])


@pytest.mark.parametrize(
    "variable, message",
    [
        (Variable("a b", (1,)), "variable: got 'a b', expected a name of letters"),
        (Variable("a", ({1, 2},)), "a file cannot hold {1, 2}, a value of type set"),
        (Variable("a", (float("nan"),)), "holds values that a file does not give back"),
        (Variable("a", (10**50,)), "a number of 51 characters"),
        (Variable("a", tuple(range(1001))), "a: 1001 choices, expected 1 to 1000"),
        (Variable("a", ("x" * 300_000,)), "is too long"),
        (Variable("a", (2, 1), ordered=True), "variables.a.choices: got [2, 1], expected increasing numbers"),
    ],
)
def test_what_a_file_cannot_hold(variable: Variable, message: str) -> None:
    template = {"resolution": 32, "stages": [[{"op": "conv", "out": 8}]]}
    with pytest.raises(ArchError) as caught:
        dump_space(SearchSpace("odd", [variable], template))
    assert message in str(caught.value)


def test_saving_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "space.yaml"
    space = load_space("fbnet")
    save_space(space, path)
    before = path.read_bytes()
    impossible = SearchSpace("fbnet", space.variables, {**space.template, "resolution": 0})
    with pytest.raises(ArchError, match="resolution: got 0"):
        save_space(impossible, path)
    with pytest.raises(ArchError, match=r"path: got '.*space', expected the name of a .yaml file"):
        save_space(space, tmp_path / "space")

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_space(scale_space(space, 0.5), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["space.yaml"]


def test_a_network_of_the_zoo_is_found_again(tmp_path: Path) -> None:
    save_space(load_space("fbnet"), tmp_path / "copy.yaml")
    point = [8, 2, 0, 8, 8, 7, 2, 4, 2, 7, 6, 5, 7, 3, 5, 6, 1, 7, 7, 6, 7, 7]
    assert load_space(tmp_path / "copy.yaml").arch(point).stages == get_arch("fbnet_a").stages
