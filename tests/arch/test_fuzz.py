"""Whatever a file holds, reading it gives a valid spec or an ArchError, and soon."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import check, check_spec

from fbnet_plugin.arch import (
    ArchError,
    ArchSpec,
    BlockSpec,
    ConvSpec,
    FusedSpec,
    HeadSpec,
    InvertedResidualSpec,
    PoolSpec,
    Published,
    SESpec,
    SkipSpec,
    StageSpec,
    batch_cost,
    dump_arch,
    list_archs,
    parse_arch,
)
from fbnet_plugin.arch.block_base import ACTIVATIONS, GATES, MAX_BLOCKS, MAX_CHANNELS, SE_WIDTHS
from fbnet_plugin.arch.plain_yaml import MAX_TEXT
from fbnet_plugin.arch.zoo import ZOO

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # an overflow is only a warning in NumPy

TEXTS = {name: (ZOO / f"{name}.yaml").read_text(encoding="utf-8") for name in list_archs()}
# One of each family, so that shrinking stays readable; together they use every kind of block.
SAMPLE = ["fbnet_b", "fbnet_a_se", "fbnet_v2_f1", "fbnet_v3_c", "fbnet_v3_e_gpu", "fbnet_v3_a_dsmask_det"]
few = settings(max_examples=150, deadline=None, derandomize=True, database=None)


# ---------------------------------------------------------------------------------------------
# Real files with something wrong in them
# ---------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70),
    st.sampled_from([10**40 - 1, -(10**18), 2**31, 2**63, 65536, 65537, 8192, 1024, 512]),
    st.floats(),
    st.sampled_from([0.01, 1e-300, 64.0, 0.5, 5.4566, 16.0, -0.0]),
    st.sampled_from(
        ["", "mb", "skip", "pool", "conv", "fused", "relu", "sigmoid", "input", "$k", "1e3", "\ud800", "é\n"]
    ),
    st.text(max_size=8),
    st.sampled_from([b"\x00\xff", datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 1)]),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
keys = st.sampled_from(["kernel", "expansion", "out", "groups", "pad", "se", "cascade", "dw_group_width", "repeat"])


def places(data: Any) -> list[tuple[Any, Any]]:
    """(container, key or index) of every value in ``data``."""
    items = list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
    return [(data, key) for key, _ in items] + [place for _, value in items for place in places(value)]


def mutate(draw: st.DrawFn, data: Any) -> None:
    container, key = draw(st.sampled_from(places(data)))
    kind = draw(st.sampled_from(["replace", "replace", "delete", "double", "swap", "add"]))
    if kind == "replace":
        container[key] = draw(values)
    elif kind == "delete":
        del container[key]
    elif kind == "double" and isinstance(container, list):
        container[key:key] = [container[key]] * draw(st.integers(1, 600))
    elif kind == "swap":
        other, place = draw(st.sampled_from(places(data)))
        container[key] = copy.deepcopy(other[place])
    elif isinstance(container, dict):
        container[draw(keys)] = draw(values)


@given(st.data())
@few
def test_changed_values_give_a_spec_or_an_error(data: st.DataObject) -> None:
    plain = yaml.safe_load(TEXTS[data.draw(st.sampled_from(SAMPLE))])
    for _ in range(data.draw(st.integers(1, 3))):
        if places(plain):
            mutate(data.draw, plain)
    check(yaml.safe_dump(plain, sort_keys=False))


FRAGMENTS = [
    "&a", "*a", "<<: *a", "{", "}", "[", "]", "- ", ": ", "? ", "!!int ", "!!python/object:os.system ", "!x ", "| ",
    "> ", "#", "'", '"', "---\n", "...\n", "%YAML 9.9\n", "\t", "\n", "\x00", "\x85", "\u2028", "\ufeff", "~", "0x10",
    "1:30", ".inf", ".nan", "1e400", "0", "-", "null", "yes", "=", "9" * 60,
]  # fmt: skip


@given(st.data())
@few
def test_changed_text_gives_a_spec_or_an_error(data: st.DataObject) -> None:
    text = TEXTS[data.draw(st.sampled_from(SAMPLE))]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = min(len(text), start + data.draw(st.sampled_from([0, 0, 1, 2, 10, 200])))
        new = data.draw(st.sampled_from(FRAGMENTS) | st.text(max_size=3))
        text = text[:start] + new + text[stop:]
    check(text)


@given(st.text(max_size=60))
@few
def test_any_text_gives_a_spec_or_an_error(text: str) -> None:
    check(text)


# ---------------------------------------------------------------------------------------------
# Specs made in Python
# ---------------------------------------------------------------------------------------------

channels = st.sampled_from([1, 3, 8, 16, 24, 31, 64, 1984, MAX_CHANNELS]) | st.integers(1, MAX_CHANNELS)
common = {"out": channels, "stride": st.integers(1, 8), "repeat": st.integers(1, 5)}
squeezes = st.builds(SESpec, st.sampled_from(GATES), st.sampled_from(SE_WIDTHS), st.floats(0.001, 16))
kernels = st.integers(0, 15).map(lambda half: 2 * half + 1)
residual = {
    **common,
    "kernel": kernels,
    "expansion": st.floats(0.01, 64) | st.integers(1, 8),
    "act": st.sampled_from(ACTIVATIONS),
    "se": st.none() | squeezes,
    "bias": st.booleans(),
    "divisor": st.sampled_from([1, 4, 8, 1024]),
    "floor_ratio": st.floats(0, 1),
    "zero_init": st.booleans(),
}
blocks: st.SearchStrategy[BlockSpec] = st.one_of(
    st.builds(ConvSpec, **common, kernel=kernels, act=st.sampled_from(ACTIVATIONS), bias=st.booleans()),
    st.builds(SkipSpec, **common),
    st.builds(PoolSpec, out=channels, expansion=st.floats(0.01, 64), bias=st.booleans()),
    st.builds(FusedSpec, **residual, project=st.booleans()),
    st.builds(
        InvertedResidualSpec,
        **residual,
        groups=st.sampled_from([1, 1, 2, 8]),
        pad=st.none() | st.integers(0, 31),
        dw_norm_act=st.booleans(),
        expand_always=st.booleans(),
        cascade=st.integers(1, 8),
        dw_group_width=st.sampled_from([1, 1, 1, 8]),
    ),
)
rows = st.lists(blocks, min_size=1, max_size=4).map(tuple)
texts = st.text(max_size=30)
lines = st.text(min_size=1, max_size=20).filter(str.isprintable)
percents = st.none() | st.floats(0, 100)
published = st.builds(
    Published, percents, percents, percents, percents, st.none() | st.integers(1, 8192), st.none() | lines
)
specs = st.builds(
    ArchSpec,
    name=lines,
    resolution=st.integers(1, 8192) | st.sampled_from([224, 8192]),
    stages=st.lists(st.builds(StageSpec, rows), min_size=1, max_size=4).map(tuple),
    head=st.none() | st.builds(HeadSpec, st.just(()) | rows, st.integers(1, 1 << 24)),
    box_head=st.just(()) | rows,
    in_channels=st.integers(1, 1024),
    source=texts,
    notes=texts,
    published=published,
)


@given(specs)
@few
def test_any_spec_round_trips_or_says_why_not(spec: ArchSpec) -> None:
    try:
        spec.validate()
    except ArchError as error:
        with pytest.raises(ArchError) as second:
            dump_arch(spec)
        assert str(second.value) == str(error)
        if not error.where.startswith("box_head"):  # which is not part of a network's cost
            with pytest.raises(ArchError):
                batch_cost([spec])
    else:
        check_spec(spec)


def test_the_largest_spec_still_fits_in_a_file() -> None:
    longest = [
        InvertedResidualSpec(
            MAX_CHANNELS - 8 * i, 8, kernel=31, expansion=0.012345678901234567, groups=8, act="relu6",
            se=SESpec("sigmoid", "expanded", 0.001234567890123456), pad=31, bias=i % 2 > 0, dw_norm_act=i % 2 > 0,
            expand_always=i % 2 > 0, cascade=8, dw_group_width=8, divisor=1000, floor_ratio=0.012345678901234567,
            zero_init=i % 2 > 0,
        )
        for i in range(MAX_BLOCKS)
    ]  # fmt: skip
    texts = {"source": "\x01" * 1000, "notes": "\x01" * 4000}
    spec = ArchSpec("n" * 100, 8192, (StageSpec(tuple(longest)),), in_channels=1024, **texts)
    text = dump_arch(spec)
    assert len(text) < MAX_TEXT
    assert parse_arch(text) == spec
