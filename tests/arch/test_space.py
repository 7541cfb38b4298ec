"""Search spaces: the papers' two, and what happens to a space file with something wrong in it."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fbnet_plugin.arch import ArchError, ArchSpec, SearchSpace, get_arch, list_spaces, load_space
from fbnet_plugin.arch.blocks import InvertedResidualSpec, SkipSpec

V3 = load_space("fbnet_v3")

SMALL = """
name: small
notes: for the tests
variables:
  width: {low: 8, high: 24, step: 8}
  size: {choices: [32, 64]}
  block:
    choices:
    - {op: mb, kernel: 5, expansion: 2}
    - {op: skip}
architecture:
  resolution: $size
  defaults:
    mb: {act: hswish}
  stages:
  - - {op: conv, out: $width, stride: 2}
    - {use: $block, out: $width}
  - - {use: $block, out: 16, stride: 2}
  head: {num_classes: 10}
"""


def load(text: str, folder: Path) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return load_space(path)


# ---------------------------------------------------------------------------------------------
# The papers' spaces
# ---------------------------------------------------------------------------------------------


def test_fbnet_space() -> None:
    """FBNet Tables 1 and 2: 22 layers with 9 candidates each."""
    space = load_space("fbnet")
    assert [len(variable.choices) for variable in space.variables] == [9] * 22
    assert space.size == 9**22
    skips = space.arch([8] * 22)
    assert [block.op for stage in skips.stages for block in stage.blocks] == ["conv"] + ["skip"] * 22
    expansive = space.arch([7] * 22)
    assert [stage.out for stage in expansive.stages] == [16, 24, 32, 112, 352]
    assert expansive.cost().macs > 2 * get_arch("fbnet_a").cost().macs > 4 * skips.cost().macs


@pytest.mark.parametrize("name", ["fbnet_a", "fbnet_s8", "fbnet_iphonex"])
def test_published_fbnets_are_points_of_the_space(name: str) -> None:
    space = load_space("fbnet")
    published = get_arch(name)
    blocks = [block for stage in published.stages for block in stage.blocks][1:]
    arch = space.arch([candidate_index(block) for block in blocks])
    assert (arch.stages, arch.head, arch.resolution) == (published.stages, published.head, published.resolution)


def candidate_index(block) -> int:
    """Position of a block in the file's list of candidates."""
    if isinstance(block, SkipSpec):
        return 8
    assert isinstance(block, InvertedResidualSpec)
    return [(1, 1), (1, 2), (3, 1), (6, 1)].index((block.expansion, block.groups)) + 4 * (block.kernel == 5)


def values_of(spec: ArchSpec) -> dict[str, float]:
    """The value that a published FBNetV3 has for each variable of the space."""
    (stem, s1), (f2, r2), (f3, r3), (f4, r4, f5, r5), (f6, r6, last) = (stage.blocks for stage in spec.stages)
    assert f4.expansion == f5.expansion and r4.expansion == r5.expansion or spec.name == "fbnet_v3_c"
    values = {"resolution": spec.resolution, "c0": stem.out, "k1": s1.kernel, "c1": s1.out, "n1": s1.repeat}
    for i, first, rest in ((2, f2, r2), (3, f3, r3), (4, f4, r4), (5, f5, r5), (6, f6, r6)):
        e = "45" if i in (4, 5) else i
        values |= {f"k{i}_first": first.kernel, f"k{i}_rest": rest.kernel, f"c{i}": first.out, f"rest{i}": rest.repeat}
        values |= {f"e{e}_first": first.expansion, f"e{e}_rest": rest.expansion}
        assert first.out == rest.out
    return {**values, "k7": last.kernel, "c7": last.out}


# What lies outside the ranges that Table 2 of the paper prints.
EXCEPTIONS = {"fbnet_v3_b": {}, "fbnet_v3_c": {"c4": 88}, "fbnet_v3_d": {"c7": 240}, "fbnet_v3_e": {"c7": 240}}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_published_fbnet_v3_are_points_of_the_space(name: str) -> None:
    spec = get_arch(name).with_padding("same")  # the table does not know the published padding
    values = values_of(spec)
    assert set(values) == {variable.name for variable in V3.variables}
    outside = {v.name: values[v.name] for v in V3.variables if values[v.name] not in v.choices}
    assert outside == EXCEPTIONS[name]
    if not outside:
        arch = V3.arch([variable.choices.index(values[variable.name]) for variable in V3.variables])
        assert (arch.resolution, arch.stages, arch.head) == (spec.resolution, spec.stages, spec.head)


def test_fbnet_v3_space_ranges() -> None:
    """FBNetV3 Table 2, bounds inclusive."""
    choices = {variable.name: variable.choices for variable in V3.variables}
    assert choices["resolution"] == (224, 232, 240, 248, 256, 264, 272)
    assert choices["c4"] == (56, 60, 64, 68, 72, 76, 80, 84) and choices["e6_rest"] == (4, 5, 6, 7)
    assert choices["rest5"] == (5, 6, 7, 8, 9) and choices["k7"] == (3, 5)
    assert 10**20 > V3.size / 2**10 > 10**16  # the paper says 10^17; how it counts kernels it does not say


def test_shared_variables_share_their_value() -> None:
    for point in V3.sample(30, np.random.default_rng(3)):
        first4, rest4, first5, rest5 = V3.arch(point).stages[3].blocks
        assert first4.expansion == first5.expansion and rest4.expansion == rest5.expansion


@pytest.mark.parametrize("name", list_spaces())
def test_random_points_are_valid_and_repeatable(name: str) -> None:
    space = load_space(name)
    points = space.sample(50, np.random.default_rng(0))
    assert points.shape == (50, len(space.variables)) and points.dtype == np.int64
    assert np.array_equal(points, space.sample(50, np.random.default_rng(0)))
    for point in points:
        spec = space.arch(point, name="sampled").validate()
        assert spec.name == "sampled" and spec == space.arch(point.tolist(), name="sampled")


def test_sampling_reaches_every_choice() -> None:
    points = V3.sample(2000, np.random.default_rng(0))
    for column, variable in zip(points.T, V3.variables):
        assert set(column) == set(range(len(variable.choices)))


# ---------------------------------------------------------------------------------------------
# Parts of a space
# ---------------------------------------------------------------------------------------------


def test_a_space_with_fewer_choices() -> None:
    part = V3.restrict({"resolution": 240, "c2": (32, 20)})
    assert part.size == V3.size // 7 // 2 and part.name == "fbnet_v3"
    assert [part.variables[place].choices for place in (0, 9)] == [(240,), (20, 32)]  # in the file's order
    assert {part.arch(point).resolution for point in part.sample(20, np.random.default_rng(0))} == {240}
    assert V3.restrict({}).variables == V3.variables


def test_a_choice_that_is_a_mapping() -> None:
    space = load_space("fbnet")
    part = space.restrict(
        {"layer3": {"op": "skip"}, "layer4": ({"op": "skip"}, {"op": "mb", "kernel": 3, "expansion": 1})}
    )
    assert [len(variable.choices) for variable in part.variables[:5]] == [9, 9, 1, 2, 9]
    assert part.arch([0] * 22).stages[1].blocks[1] == SkipSpec(24)


@pytest.mark.parametrize(
    "fixed, message",
    [
        ({"c8": 3}, "c8: no variable of fbnet_v3, expected one of resolution, c0, k1"),
        ({"c0": 17}, "fbnet_v3.c0: got 17, expected one of 16, 18, 20, 22, 24"),
        ({"c0": (16, 17)}, "fbnet_v3.c0: got 17, expected one of"),
        ({"c0": "16"}, "fbnet_v3.c0: got '16', expected one of"),
        ({"c0": ()}, "fbnet_v3.c0: got (), expected at least one of its values"),
    ],
)
def test_choices_that_a_space_does_not_have(fixed, message: str) -> None:
    with pytest.raises(ArchError) as caught:
        V3.restrict(fixed)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", list_spaces())
def test_rows_and_frame_make_the_network(name: str) -> None:
    space = load_space(name)
    for point in space.sample(5, np.random.default_rng(0)):
        arch = space.arch(point)
        chosen = dict(zip((variable.name for variable in space.variables), point.tolist()))
        stages: dict[int, list] = {}
        for row in space.rows():
            stages.setdefault(row.stage, []).append(space.block(row, {one: chosen[one] for one in row.variables}))
        assert [tuple(blocks) for blocks in stages.values()] == [stage.blocks for stage in arch.stages]
        frame = space.frame(chosen)
        assert (frame.resolution, frame.head, frame.in_channels) == (arch.resolution, arch.head, arch.in_channels)


def test_variables_by_place(tmp_path: Path) -> None:
    assert V3.variables_of("resolution", "head", "box_head") == ("resolution",)
    space = load(SMALL.replace("num_classes: 10", "num_classes: $width, blocks: [{use: $block, out: $size}]"), tmp_path)
    assert space.variables_of("head") == ("width", "size", "block") and space.variables_of("in_channels") == ()
    assert [row.variables for row in space.rows()] == [("width",), ("block", "width"), ("block",)]
    assert space.frame({}).head.num_classes == 8 and space.frame({"width": 2}).head.num_classes == 24


# ---------------------------------------------------------------------------------------------
# Space files
# ---------------------------------------------------------------------------------------------


def test_a_small_space(tmp_path: Path) -> None:
    space = load(SMALL, tmp_path)
    assert space.size == 12 and space.name == "small"
    assert [variable.choices[0] for variable in space.variables] == [8, 32, {"op": "mb", "kernel": 5, "expansion": 2}]
    spec = space.arch([2, 1, 0])
    assert (spec.name, spec.resolution, spec.stages[0].out, spec.head.num_classes) == ("small", 64, 24, 10)
    assert spec.stages[1].blocks == (InvertedResidualSpec(16, 2, kernel=5, expansion=2, act="hswish"),)
    assert space.arch([0, 0, 1]).stages[1].blocks == (SkipSpec(16, 2),)


@pytest.mark.parametrize(
    "point", [[0, 0], [0, 0, 0, 0], [0.0, 0, 0], [True, False, True], [[0, 0, 0]], ["a", 0, 0], []]
)
def test_points_of_the_wrong_kind(point, tmp_path: Path) -> None:
    with pytest.raises(ArchError, match="point: got .*, expected 3 choice indices"):
        load(SMALL, tmp_path).arch(point)


@pytest.mark.parametrize(
    "point, problem", [([3, 0, 0], "width: got 3, .* 0 to 2"), ([0, -1, 0], "size: got -1, .* 0 to 1")]
)
def test_points_out_of_range(point, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ArchError, match=problem):
        load(SMALL, tmp_path).arch(point)


ERRORS = [
    ("name: small", "name: 3", "name: got 3, expected a text of 1 to 100 printable characters"),
    ("notes: for", "remarks: for", "remarks: unknown key, expected one of name, notes, variables, architecture"),
    ("variables:", "variables: 3\nnotes2:", "notes2: unknown key"),
    ("low: 8", "low: 32", "variables.width: got {"),
    ("step: 8", "step: 0", "expected {choices: [...]} or {low: INT, high: INT, step: INT}"),
    ("high: 24", "high: 24000000", "at most 1000"),
    ("[32, 64]", "[]", "variables.size: 0 choices, expected 1 to 1000"),
    ("[32, 64]", "64", "variables.size.choices: got 64, expected a list"),
    ("[32, 64]", "[32, 64], ordered: 1", "variables.size.ordered: got 1, expected true or false"),
    ("[32, 64]", "[64, 32], ordered: true", "variables.size.choices: got [64, 32], expected increasing numbers"),
    ("[32, 64]", "[true, 2], ordered: true", "variables.size.choices: got [True, 2], expected increasing numbers"),
    ("[32, 64]", "[32, 64], sorted: true", "variables.size: got {"),
    ("[32, 64]", "[32, 6.5]", "architecture.resolution: got 6.5, expected an integer from 1 to 8192"),
    ("[32, 64]", "[32, 1, 64, .nan]", "architecture.resolution: got nan"),
    ("  size:", "  the size:", "variables.the size: a bad name, expected letters, digits and underscores"),
    ("  size:", "  3:", "variables.3: a bad name"),
    ("$width, stride", "$widht, stride", "architecture: unknown variable $widht, expected one of width, size, block"),
    ("use: $block, out: $width", "use: $size, out: $width", "stages[0].blocks[1].use: got 32, expected a variable"),
    ("use: $block, out: $width", "use: 3, out: $width", "stages[0].blocks[1].use: got 3, expected a variable"),
    ("kernel: 5", "kernel: 4", "architecture.stages[0].blocks[1].kernel: got 4, expected an odd integer"),
    ("- {op: skip}", "- {op: skop}", "architecture.stages[0].blocks[1].op: got 'skop', expected one of conv"),
    ("- {op: skip}", "- skip", "architecture.stages[0].blocks[1].use: got 'skip', expected a variable"),
    ("act: hswish", "act: gelu", "architecture.defaults.mb.act: got 'gelu', expected one of relu"),
    ("num_classes: 10", "num_classes: $block", "head.num_classes: got {'expansion': 2, 'kernel': 5, 'op': 'mb'}"),
    ("  - - {use: $block, out: 16, stride: 2}", "  - []", "stages[1]: is empty, expected at least one block"),
    ("  - - {use: $block, out: 16, stride: 2}", "  - 3", "architecture.stages: got [[{"),
    ("  resolution: $size\n", "", "architecture.resolution: is missing"),
    ("  resolution:", "  size:", "architecture.size: unknown key, expected one of name, resolution"),
    ("stride: 2}\n  head", "stride: 8, groups: 3}\n  head", "architecture.stages[1].blocks[0].groups: unknown key"),
    ("kernel: 5", "groups: 16", "with the first choices: got 16, expected a divisor of the 8 input channels"),
    ("op: conv", "op: $block", "architecture.stages[0].blocks[0].op: got {"),
]  # fmt: skip


@pytest.mark.parametrize("old, new, message", ERRORS)
def test_errors_say_where_and_what(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert SMALL.count(old) >= 1
    with pytest.raises(ArchError) as caught:
        load(SMALL.replace(old, new, 1), tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'space.yaml'}: ") and message in text and text.count("space.yaml") == 1, text


def test_every_choice_is_checked_not_only_the_first_and_the_last(tmp_path: Path) -> None:
    with pytest.raises(ArchError, match=r"stages\[0\]\.blocks\[1\]\.expansion: got 'six'"):
        load(SMALL.replace("    - {op: skip}", "    - {op: mb, expansion: six}\n    - {op: skip}"), tmp_path)


@pytest.mark.parametrize("name", ["fbnet_v4", "", "fbnet_v3.yam", 3, None])
def test_unknown_spaces(name) -> None:
    with pytest.raises(ArchError, match="space: got .*, expected a .yaml path or one of fbnet, .*fbnet_v3"):
        load_space(name)


def test_a_vast_space_is_refused_at_once(tmp_path: Path) -> None:
    stage = "  - - {op: skip, out: 8}\n" + "    - {op: mb, out: $width}\n" * 400
    text = SMALL.replace("high: 24, step: 8", "high: 1007").replace("  - - {use: $block, out: 16, stride: 2}\n", stage)
    start = time.process_time()
    with pytest.raises(ArchError, match="architecture.stages: too large: the rows have more than 20000 choices"):
        load(text, tmp_path)
    assert time.process_time() - start < 5


nasty = st.sampled_from(
    [None, True, 0, -1, 3, 10**30, 0.5, float("nan"), "", "$", "$width", "$x", "mb", [], {}, [[]], {"a": 1}]
)


@given(st.data())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_changed_files_give_a_space_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    plain = yaml.safe_load(SMALL)
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(walk_places(plain))
        container, key = data.draw(st.sampled_from(places))
        container[key] = copy.deepcopy(data.draw(nasty | st.sampled_from([box[place] for box, place in places])))
    try:
        space = load(yaml.safe_dump(plain), tmp_path_factory.getbasetemp())
    except ArchError as error:
        assert "space.yaml: " in str(error) and str(error).isprintable()
        return
    for point in space.sample(5, np.random.default_rng(0)):
        try:
            spec = space.arch(point)
            assert spec.cost() == spec.validate().cost()
        except ArchError as error:  # choices that only do not fit each other
            assert str(error).isprintable()


def walk_places(data):
    """(container, key) of every value in ``data``."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield data, key
        yield from walk_places(value)
