"""Figures of latency tables: what is drawn, and that it can be read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fbnet_plugin.arch import get_arch
from fbnet_plugin.latency import Entry, LatencyError, LatencyTable, Operator, Setting, arch_operators
from fbnet_plugin.latency.compare import Comparison, compare_tables
from fbnet_plugin.plotting import latency as plots

OPERATORS = list(dict.fromkeys(operator for _, operator in arch_operators(get_arch("fbnet_v3_a"))))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    kept: list[Figure] = []
    save = plots._save

    def save_and_keep(figure: Figure, path: Any) -> None:
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "_save", save_and_keep)
    return kept


def comparison_of(*columns: list[float]) -> Comparison:
    names = ("Intel Xeon (Skylake, IBRS)", "Apple A11", "c")
    return compare_tables([
        LatencyTable(Setting("cpu", name, "eager"), {operator: Entry(us) for operator, us in zip(OPERATORS, column)})
        for name, column in zip(names, columns)
    ])  # fmt: skip


def bars(axes: Axes) -> list[list[float]]:
    """Widths of the bars from top to bottom, device by device."""
    return [[bar.get_width() for bar in container] for container in axes.containers]


def check_labels_are_apart(figure: Figure) -> None:
    """No two texts overlap."""
    FigureCanvasAgg(figure).draw()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1), f"{one!r} lies on {other!r}"


def test_bars_are_grouped_where_devices_are_about_as_fast(figures: list[Figure], tmp_path: Path) -> None:
    comparison = comparison_of([100.0, 200.0, 300.0, 400.0], [200.0, 50.0, 900.0, 400.0])
    plots.plot_comparison(comparison, tmp_path / "deep" / "f.png", top=4, title="Two devices")
    (axes,) = figures[0].axes
    # Ratios 2, 1/4, 3, 1 with the median 1.5: the third and the first operator suit the first device.
    assert bars(axes) == [[300, 100, 400, 200], [900, 200, 400, 50]]
    shown = [OPERATORS[place] for place in (2, 0, 3, 1)]
    assert [label.get_text() for label in axes.get_yticklabels()] == [plots.operator_label(one) for one in shown]
    assert axes.get_ylim()[0] > axes.get_ylim()[1] and axes.get_xlabel() == "latency (µs)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Intel Xeon (Skylake, IBRS)", "Apple A11"]
    colours = {container[0].get_facecolor() for container in axes.containers}
    assert len(colours) == 2
    check_labels_are_apart(figures[0])
    with Image.open(tmp_path / "deep" / "f.png") as image:
        assert image.format == "PNG" and image.width > 800


def test_devices_of_different_speed_get_an_axis_each(figures: list[Figure], tmp_path: Path) -> None:
    fast, slow = [1.0, 2.0, 3.0, 4.0], [8000.0, 1000.0, 20_000.0, 4321.0]
    plots.plot_comparison(comparison_of(fast, slow), tmp_path / "f.png", top=4)
    left, right = figures[0].axes
    assert bars(left) == [[1, 3, 4, 2]] and bars(right) == [[8000, 20_000, 4321, 1000]]
    assert [text.get_text() for text in right.texts][:4] == ["8,000", "20,000", "4,321", "1,000"]
    assert (left.get_title("left"), right.get_title("left")) == ("Intel Xeon (Skylake, IBRS)", "Apple A11")
    check_labels_are_apart(figures[0])


@pytest.mark.parametrize("count", [3, 12, 20])
def test_many_operators_and_three_devices_can_be_read(figures: list[Figure], tmp_path: Path, count: int) -> None:
    columns = np.random.default_rng(0).uniform(100, 900, (3, len(OPERATORS))).tolist()
    plots.plot_comparison(comparison_of(*columns), tmp_path / "f.png", top=count)
    check_labels_are_apart(figures[0])
    marks = [text.get_text() for text in figures[0].axes[-1].texts if text.get_text().startswith("relatively")]
    assert marks == ["relatively\nfast on\nIntel Xeon\n(Skylake, IBRS)", "relatively\nfast on\nApple A11",
                     "relatively\nfast on\nc"]  # fmt: skip


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    names = tuple("abcdefgh")
    with pytest.raises(LatencyError, match="8 tables and 1 operators, expected at most 7 and at least 1"):
        rows = comparison_of([1.0], [2.0]).rows
        plots.plot_comparison(Comparison(names, (1.0,) * 8, rows), tmp_path / "f.png")
    with pytest.raises(LatencyError, match="expected two arrays of the same length"):
        plots.plot_validation([1.0, 2.0], [1.0], tmp_path / "f.png")
    with pytest.raises(LatencyError, match="a: 2 numbers and 1 scores"):
        plots.plot_learning_curve({"a": ([1, 2], [0.5])}, tmp_path / "f.png")
    with pytest.raises(LatencyError, match="0 curves, expected 1 to 7"):
        plots.plot_learning_curve({}, tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fields, label",
    [
        ({"op": "mb", "kernel": 5, "stride": 2, "mid": 96, "out": 24, "groups": 2, "act": "relu"},
         "mb k5 s2 g2 16-96-24 relu, 112x56"),
        ({"op": "mb", "kernel": 3, "mid": 16, "out": 16, "se": 8, "gate": "hsigmoid", "act": "hswish"},
         "mb k3 16-16-16 se8 hswish, 112x56"),
        ({"op": "mb", "kernel": 3, "mid": 16, "out": 16, "expand": False, "act": "relu"},
         "mb k3 16-16-16 expand=False relu, 112x56"),
        ({"op": "skip", "out": 16}, "skip 16-16, 112x56"),
        ({"op": "classifier", "out": 10}, "classifier 16-10, 112x56"),
    ],
)  # fmt: skip
def test_operator_labels(fields: dict[str, Any], label: str) -> None:
    assert plots.operator_label(Operator.from_dict({**fields, "input": [16, 112, 56]})) == label


def test_labels_tell_the_operators_of_a_network_apart() -> None:
    assert len({plots.operator_label(operator) for operator in OPERATORS}) == len(OPERATORS)


def test_validation_has_the_line_of_equality_and_the_one_after_the_constant(
    figures: list[Figure], tmp_path: Path
) -> None:
    """Differences 2, 3 and 10 ms: the constant is their median."""
    measured, predicted = [12_000.0, 23_000.0, 40_000.0], [10_000.0, 20_000.0, 30_000.0]
    plots.plot_validation(measured, predicted, tmp_path / "v.png", title="Three networks")
    (axes,) = figures[0].axes
    assert axes.collections[0].get_offsets().tolist() == [[10, 12], [20, 23], [30, 40]]
    equal, shifted = axes.lines
    assert (equal.get_ydata() - equal.get_xdata()).tolist() == [0, 0]
    assert (shifted.get_ydata() - shifted.get_xdata()).tolist() == pytest.approx([3, 3])
    assert shifted.get_label() == "measured = sum + 3 ms" and axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[0] < 10 and axes.get_xlim()[1] > 40
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("sum of operators (ms)", "measured end to end (ms)")
    check_labels_are_apart(figures[0])


def test_validation_with_a_given_constant(figures: list[Figure], tmp_path: Path) -> None:
    plots.plot_validation([5000.0], [6000.0], tmp_path / "v.png", constant_us=-1500.0)
    assert figures[0].axes[0].lines[1].get_label() == "measured = sum - 1.5 ms"


def test_learning_curve(figures: list[Figure], tmp_path: Path) -> None:
    counts = [25, 50, 100, 200, 400, 800, 1600, 3200]
    curves = {"pixel3": (counts, [0.5, 0.7, 0.9, 0.96, 0.98, 0.99, 1.0, 1.0]), "raspi4": (counts[:2], [0.6, 0.8])}
    plots.plot_learning_curve(curves, tmp_path / "l.png", target=0.95, title="Networks needed")
    (axes,) = figures[0].axes
    first, second, target = axes.lines
    assert first.get_xdata().tolist() == counts and second.get_ydata().tolist() == [0.6, 0.8]
    assert set(target.get_ydata()) == {0.95} and axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()][-2:] == ["1,600", "3,200"]
    check_labels_are_apart(figures[0])
