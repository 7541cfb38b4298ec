"""Alternation and temperature of appendix A."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbnet_plugin.dnas.errors import SearchError
from fbnet_plugin.dnas.schedule import SearchSchedule

PAPER = SearchSchedule(epochs=90, weight_steps=534, theta_steps=133)  # 100 classes of ImageNet, batch 192


def test_the_paper_s_search():
    assert PAPER.iterations == 90 * 534 + 80 * 133
    assert PAPER.total_weight_steps == 90 * 534
    assert PAPER.at(0) == (0, "weights", 0, False)
    assert PAPER.at(533) == (0, "weights", 533, True)  # no theta in the first ten epochs
    assert PAPER.at(10 * 534 - 1) == (9, "weights", 5339, True)
    assert PAPER.at(11 * 534 - 1) == (10, "weights", 5873, False)
    assert PAPER.at(11 * 534) == (10, "theta", 0, False)
    assert PAPER.at(11 * 534 + 132) == (10, "theta", 132, True)
    assert PAPER.at(PAPER.iterations - 1) == (89, "theta", 80 * 133 - 1, True)


def test_temperature():
    """5.0, times about 0.956 each epoch (appendix A)."""
    assert PAPER.temperature_at(0) == 5.0
    assert PAPER.temperature_at(1) / PAPER.temperature_at(0) == pytest.approx(0.956, abs=1e-3)
    assert PAPER.temperature_at(89) == pytest.approx(5.0 * math.exp(-0.045 * 89))
    assert SearchSchedule(1000, 1, 1).temperature_at(999) == 1e-3


schedules = st.builds(
    lambda epochs, start, weights, theta: SearchSchedule(epochs, weights, theta, min(start, epochs - 1)),
    st.integers(1, 8), st.integers(0, 7), st.integers(1, 5), st.integers(1, 5),
)  # fmt: skip


@given(schedules)
def test_agrees_with_walking_through_it(schedule):
    walked, counts = [], {"weights": 0, "theta": 0}
    for epoch in range(schedule.epochs):
        phases = ["weights"] * schedule.weight_steps
        phases += ["theta"] * schedule.theta_steps * (epoch >= schedule.theta_start)
        for number, phase in enumerate(phases):
            assert schedule.steps_before(len(walked)) == counts
            walked.append((epoch, phase, counts[phase], number == len(phases) - 1))
            counts[phase] += 1
    assert [tuple(schedule.at(i)) for i in range(schedule.iterations)] == walked
    assert schedule.steps_before(schedule.iterations) == counts
    assert schedule.total_weight_steps == counts["weights"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", 0), ("theta_start", 4), ("theta_start", -1), ("temperature", 0), ("decay", -0.1)],
)
def test_values_that_make_no_schedule(key, value):
    with pytest.raises(SearchError, match=r"DNAS\.\w+ is .*, expected"):
        SearchSchedule(**{"epochs": 4, "weight_steps": 2, "theta_steps": 1, "theta_start": 1, key: value})
