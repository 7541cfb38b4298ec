"""Pictures of ablations: the numbers that are drawn, and that they can be read."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Dict, List

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fbnet_plugin.ablation.outcome import Outcome
from fbnet_plugin.ablation.plan import RECIPES, TECHNIQUES, Entry, Outline
from fbnet_plugin.ablation.recipes import COLUMNS as SIDES
from fbnet_plugin.ablation.statistics import paired_difference, spread
from fbnet_plugin.ablation.summary import Cell, Summary
from fbnet_plugin.ablation.techniques import COLUMNS
from fbnet_plugin.plotting.ablation import ablation_figure, draw_ablation, shared_points
from fbnet_plugin.plotting.nars_style import figure_style

METRIC = "classification/top1"


def summary_of(kind: str, columns, values: Dict[str, List[List[float]]], epochs: int = 0) -> Summary:
    """Figures of ``values[row][column][seed]``, with curves that rise to them in three evaluations."""
    entries, table, outcomes = [], {}, {}
    for row, of_columns in values.items():
        figures = {column: dict(enumerate(seeds)) for column, seeds in zip(columns, of_columns)}
        table[row] = {
            column: Cell(its, {}, spread(list(its.values())),
                         None if column == columns[0] else paired_difference(its, figures[columns[0]]))
            for column, its in figures.items()
        }  # fmt: skip
        for column, its in figures.items():
            for seed, value in its.items():
                name = f"{row}-{column}-{seed}"
                entries.append(Entry(row, column, seed, name, False))
                curve = {done: {METRIC: value - (90 - done)} for done in (30, 60, 90)}
                outcomes[name] = Outcome("done", {METRIC: value}, curve, 90)
    outline = Outline(kind, METRIC, tuple(columns), tuple(entries), dict.fromkeys(outcomes, epochs), {})
    return Summary(outline, outcomes, table, {}, {})


def techniques(epochs: int = 0) -> Summary:
    values = [[80.0, 82.0, 81.0], [82.0, 84.0, 82.5], [82.5, 83.5, 83.0], [84.0, 85.0, 84.5]]
    return summary_of(TECHNIQUES, COLUMNS, {"fbnet_v3_g": values}, epochs)


def recipes(rows: int = 2) -> Summary:
    names = [
        "alexnet",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "densenet201",
        "resnext101_32x8d",
        "mobilenet_v2",
    ]
    values = {
        name: [[70.0 + place, 72.0 + place], [73.0 + place, 76.0 + place]] for place, name in enumerate(names[:rows])
    }
    return summary_of(RECIPES, SIDES, values)


def drawn_points(figure: Figure) -> List[List[float]]:
    """Heights of the points of each cell in the first panel."""
    return [list(np.asarray(one.get_offsets())[:, 1]) for one in figure.axes[0].collections if len(one.get_offsets())]


def test_every_seed_is_a_point_with_mean_and_standard_deviation() -> None:
    figure = ablation_figure(techniques())
    axes = figure.axes[0]
    assert drawn_points(figure) == [[80, 82, 81], [82, 84, 82.5], [82.5, 83.5, 83], [84, 85, 84.5]]
    assert [float(line.get_ydata()[0]) for line in axes.lines] == pytest.approx([81, np.mean([82, 84, 82.5]), 83, 84.5])
    heights = [(bar.get_y(), bar.get_height()) for bar in axes.patches]
    assert heights[0] == pytest.approx((80, 2)) and heights[2] == pytest.approx((82.5, 1))
    assert [text.get_text() for text in axes.get_xticklabels()] == list(COLUMNS)
    assert axes.get_ylabel() == "top-1 accuracy, %" and axes.get_ylim()[0] < 80 and axes.get_ylim()[1] > 85


def test_curves_are_means_over_the_seeds_in_epochs_where_there_are_some() -> None:
    axes = ablation_figure(techniques(epochs=3)).axes[1]
    baseline = next(line for line in axes.lines if line.get_label() == "Baseline")
    np.testing.assert_allclose(baseline.get_xydata(), [[1, 21], [2, 51], [3, 81]])
    assert axes.get_xlabel() == "epoch"
    assert ablation_figure(techniques()).axes[1].get_xlabel() == "iteration"


def test_only_iterations_that_all_seeds_have_are_averaged() -> None:
    at, values = shared_points([{2: 1.0, 4: 2.0, 6: 3.0}, {4: 5.0, 6: 6.0}])
    assert list(at) == [4, 6] and values.tolist() == [[2, 3], [5, 6]]
    assert shared_points([])[0].size == 0


def test_differences_of_networks_have_their_intervals() -> None:
    figure = ablation_figure(recipes())
    (_, _, (bars,)), *_ = [container.lines for container in figure.axes[1].containers]
    low, high = bars.get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((3.5 - 0.5 * 12.7062047, 3.5 + 0.5 * 12.7062047))
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["alexnet", "resnet18"]


@pytest.mark.parametrize("summary", [techniques(3), recipes(1), recipes(3), recipes(8)], ids=range(4))
def test_no_text_covers_another_one(summary) -> None:
    with figure_style():
        figure = ablation_figure(summary)
        FigureCanvasAgg(figure).draw()
        renderer = figure.canvas.get_renderer()
        for axes in figure.axes:
            texts = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
            for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            shown = [text for text in texts if text.get_text() and text.get_rotation() != 30]  # tilted ones have no box
            pairs = itertools.combinations([(text.get_text(), text.get_window_extent(renderer)) for text in shown], 2)
            assert [(one, other) for (one, a), (other, b) in pairs if a.overlaps(b)] == []


def test_pictures_are_of_a_size_for_a_page(tmp_path) -> None:
    draw_ablation(techniques(3), tmp_path / "new" / "ablation.png")
    with Image.open(tmp_path / "new" / "ablation.png") as image:
        assert 1000 < image.width < 1400 and 500 < image.height < 750
    with pytest.raises(ValueError, match="ends in .png"):
        draw_ablation(techniques(), tmp_path / "ablation.gif")


@pytest.mark.parametrize("summary", [techniques(), recipes()], ids=["techniques", "recipes"])
def test_what_has_not_begun_is_drawn_too(summary, tmp_path) -> None:
    empty = Cell({}, {0: "waiting"}, spread([]), None)
    table = {row: dict.fromkeys(cells, empty) for row, cells in summary.final.items()}
    outcomes = dict.fromkeys(summary.outcomes, Outcome("waiting", {}, {}))
    summary = dataclasses.replace(summary, final=table, outcomes=outcomes)
    draw_ablation(summary, tmp_path / "empty.png")
    assert not [text for text in ablation_figure(summary).findobj(Text) if "nan" in text.get_text()]
