"""Figures of a search: the numbers that are drawn, and that they can be read."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import List, Set

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from nars_runs import (
    candidate,
    early_run,
    empty_run,
    evolved,
    four_candidates,
    full_run,
    stopped,
    winner,
)

from fbnet_plugin.nars.run_data import EarlyStopData, PredictorData, PretrainData, RunData
from fbnet_plugin.plotting.nars_catalogue import report_figures
from fbnet_plugin.plotting.nars_figures import accuracy_figure, early_stop_figure, samples_figure, statistic_figure
from fbnet_plugin.plotting.nars_numbers import at_epoch, compared, pareto_front
from fbnet_plugin.plotting.nars_quality import samples_saved
from fbnet_plugin.plotting.nars_search_figures import (
    curves_figure,
    evolution_figure,
    samples_of_rounds_figure,
    scatter_figure,
)
from fbnet_plugin.plotting.nars_style import COLOURS, CYAN, GREY, WINNER_COLOUR, figure_markup, figure_style


def texts(figure: Figure) -> List[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def points(axes: Axes, number: int = 0) -> np.ndarray:
    return np.asarray(axes.collections[number].get_offsets())


def line(axes: Axes, label: str) -> np.ndarray:
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return np.asarray(found.get_xydata(), float)


def test_held_out_statistics_are_drawn_in_millions_with_rank_correlation_and_relative_error() -> None:
    true = np.array([[4e8, 4e6], [6e8, 8e6], [8e8, 6e6]])
    data = PretrainData(("macs", "params"), true, true * np.array([1.1, 0.95]))
    figure = statistic_figure(data, "macs")
    np.testing.assert_allclose(points(figure.axes[0]), [[400, 440], [600, 660], [800, 880]])
    assert figure.axes[0].get_xlabel() == "true MACs (M)"
    assert "rank correlation 1.0000\nmean relative error 10.00%\nn = 3" in texts(figure)
    assert "mean relative error 5.00%" in "".join(texts(statistic_figure(data, "params")))
    with pytest.raises(ValueError, match="latency_us"):
        statistic_figure(data, "latency_us")


def test_predicted_accuracies_with_and_without_pretraining_share_their_axes() -> None:
    data = PredictorData(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3]), np.array([9.0, 2, 3, 4]))
    with_it, without = accuracy_figure(data, True), accuracy_figure(data, False)
    np.testing.assert_allclose(points(with_it.axes[0]), [[1, 1], [2, 2], [3, 4], [4, 3]])
    np.testing.assert_allclose(points(without.axes[0])[0], [1, 9])
    assert with_it.axes[0].get_xlim() == without.axes[0].get_ylim() == with_it.axes[0].get_ylim()
    # One of six pairs is in the wrong order: (5 - 1) / 6. Errors: 0, 0, 1, 1.
    assert "Kendall τ 0.667\nMSE 0.5 %²\nn = 4" in texts(with_it)
    assert "Kendall τ 0.000\nMSE 16 %²\nn = 4" in texts(without)


@pytest.mark.parametrize(
    ("with_it", "without", "expected"),
    [
        ([1.0, 0.01], [1.0, 0.1], (math.sqrt(10), False)),  # half way between 10 and 100 on logarithmic axes
        ([0.05, 0.01], [1.0, 0.1], (10, True)),
        ([0.1, 0.01], [1.0, 0.1], (10, True)),
        ([1.0, 0.2], [1.0, 0.1], None),
    ],
)
def test_samples_saved_at_the_error_that_all_samples_reach_without_pretraining(with_it, without, expected) -> None:
    rows = [np.array([row]) for row in (with_it, without)]
    found = samples_saved(PredictorData(np.zeros(1), np.zeros(1), np.zeros(1), (10, 100), *rows))
    assert found is None if expected is None else found == pytest.approx(expected)


def test_error_over_samples_shows_means_bands_and_the_factor() -> None:
    plain, pretrained = np.array([[4.0, 2.0], [6.0, 2.0]]), np.array([[2.0, 1.0], [2.0, 1.0]])
    data = PredictorData(np.zeros(2), np.zeros(2), np.zeros(2), (20, 40), pretrained, plain)
    figure = samples_figure(data)
    axes = figure.axes[0]
    np.testing.assert_allclose(line(axes, "without pretraining"), [[20, 5], [40, 2]])
    np.testing.assert_allclose(line(axes, "with pretraining"), [[20, 2], [40, 1]])
    assert axes.get_xscale() == axes.get_yscale() == "log"
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((2.0, 5.8))  # 10th and 90th percentile
    assert "same error with ≥ 2.0× fewer samples" in texts(figure)
    with pytest.raises(ValueError, match="learning curve"):
        samples_figure(dataclasses.replace(data, mse_plain=None))


def test_the_threshold_is_a_cyan_line_and_the_chosen_epoch_a_star() -> None:
    data = EarlyStopData((1, 2, 3, 4), (math.nan, 0.8, 0.95, 1.0), 0.92, 3)
    figure = early_stop_figure(data)
    axes = figure.axes[0]
    threshold = next(one for one in axes.lines if one.get_label() == "threshold 0.92")
    assert to_hex(threshold.get_color()).upper() == CYAN and set(threshold.get_ydata()) == {0.92}
    np.testing.assert_allclose(line(axes, "chosen: epoch 3"), [[3, 0.95]])
    np.testing.assert_allclose(line(axes, "rank correlation")[1:], [[2, 0.8], [3, 0.95], [4, 1.0]])
    assert "no epoch reaches the threshold" not in texts(figure)
    never = early_stop_figure(EarlyStopData((1, 2), (math.nan, 0.5), 0.92, 2))
    assert "no epoch reaches the threshold" in texts(never)


def test_each_round_has_its_points_and_winners_are_stars() -> None:
    run, _ = four_candidates()
    second = [candidate(5, 480, 76.0, round=2), candidate(6, 650, 78.0, round=2)]
    failed = candidate(7, 500, None, round=2, state="failed")
    won = candidate(8, 449, 80.0, phase="winner", round=0)
    guessed = candidate(9, 549, None, phase="winner", round=0, state="pending", predicted=81.0)
    run = dataclasses.replace(run, candidates=[*run.candidates, *second, failed, won, guessed])
    figure = samples_of_rounds_figure(run)
    above, below = figure.axes
    by_label = {one.get_label(): one for one in above.collections}
    np.testing.assert_allclose(by_label["round 1 (random)"].get_offsets(), [[500, 70], [450, 72], [600, 71], [700, 75]])
    np.testing.assert_allclose(by_label["round 2"].get_offsets(), [[480, 76], [650, 78]])
    np.testing.assert_allclose(by_label["winner"].get_offsets(), [[449, 80]])
    np.testing.assert_allclose(by_label["winner, predicted"].get_offsets(), [[549, 81]])
    assert to_hex(by_label["winner"].get_facecolor()[0]).upper() == WINNER_COLOUR
    assert len(by_label["round 1 (random)"].get_facecolor()) == 0  # hollow
    assert [sorted(np.asarray(one.get_offsets())[:, 1]) for one in below.collections] == [
        [70, 71, 72, 75],
        [76, 78],
        [80],
    ]
    assert [text.get_text() for text in below.get_xticklabels()] == ["1\n(n=4)", "2\n(n=2)", "winners\n(n=1)"]


def test_rounds_are_compared_at_the_epoch_at_which_later_ones_stop() -> None:
    run, _ = four_candidates()
    stop = EarlyStopData((1, 2, 3), (0.1, 0.95, 1.0), 0.92, 2)
    later = candidate(5, 480, 71.0, round=2, epochs=2, curve=((1, 60.0), (2, 71.0)))
    run = dataclasses.replace(run, candidates=[*run.candidates, later], early_stop=stop)
    assert [accuracy for _, accuracy in compared(run)] == [65, 67, 66, 70, 71]
    assert at_epoch(dataclasses.replace(later, curve=()), stop) == 71.0
    assert at_epoch(dataclasses.replace(later, state="failed"), stop) is None
    np.testing.assert_allclose(points(samples_of_rounds_figure(run).axes[0])[:, 1], [65, 67, 66, 70])


def test_pareto_front_by_hand() -> None:
    assert pareto_front([500, 450, 600, 700], [70, 72, 71, 75]) == [1, 3]
    assert pareto_front([1, 1, 2, 3], [5, 6, 6, 7]) == [1, 3]  # equal cost: the better; equal accuracy: the cheaper
    assert pareto_front([], []) == []


def test_scatter_draws_the_front_and_names_its_candidates_until_there_are_winners() -> None:
    run, front = four_candidates()
    axes = scatter_figure(run).axes[0]
    np.testing.assert_allclose(points(axes), [[500, 70], [450, 72], [600, 71], [700, 75]])
    np.testing.assert_allclose(line(axes, "Pareto front"), [[450, 72], [700, 75]])
    named = {text.get_text() for text in axes.texts if text.get_text()}
    assert named == {run.candidates[index].name for index in front}
    won = [winner(9, 550, np.random.default_rng(0))]
    won.append(dataclasses.replace(won[0], id=10, name=f"{won[0].name}-seed2", accuracy=79.0))
    with_winner = dataclasses.replace(run, candidates=[*run.candidates, *won], pool_macs=np.linspace(4e8, 8e8, 50))
    top, axes = scatter_figure(with_winner).axes
    assert {text.get_text() for text in axes.texts if text.get_text()} == {"macs550M-1"}  # one name for both seeds
    assert sum(bar.get_height() for bar in top.patches) == 50


def test_a_search_of_recipes_alone_has_distributions_and_no_scatter() -> None:
    run, _ = four_candidates()
    same = [dataclasses.replace(one, costs={"macs": 3e8, "params": 1e6}) for one in run.candidates]
    run = dataclasses.replace(run, candidates=same)
    assert len(samples_of_rounds_figure(run).axes) == 1
    assert "Accuracy and MACs" not in [entry.title for entry, _ in report_figures(run)[0]]


def test_curves_of_all_candidates_those_that_failed_end_with_a_cross() -> None:
    run, _ = four_candidates()
    failed = candidate(5, 500, None, state="failed", curve=((1, 40.0), (2, 45.0)))
    begun = candidate(6, 500, None, state="running")
    run = dataclasses.replace(run, candidates=[*run.candidates, failed, begun], early_stop=stopped(3))
    axes = curves_figure(run).axes[0]
    drawn = [np.asarray(one.get_xydata(), float) for one in axes.lines]
    for one in run.candidates[:5]:
        assert any(np.array_equal(data, one.curve) for data in drawn)
    crosses = [one for one in axes.lines if one.get_marker() == "x" and len(one.get_xdata())]
    assert [one.get_xydata().tolist() for one in crosses] == [[[2.0, 45.0]]]
    stop = next(one for one in axes.lines if one.get_label() == "early stop")
    assert set(stop.get_xdata()) == {run.early_stop.epoch}
    assert curves_figure(full_run(6, 1), "winner").axes[0].get_xlim()[1] > 60


def test_evolution_has_a_line_per_constraint_set() -> None:
    data = evolved()
    axes = evolution_figure(data).axes[0]
    assert [one.get_label() for one in axes.lines] == [one.constraints for one in data]
    for drawn, one in zip(axes.lines, data):
        np.testing.assert_allclose(drawn.get_ydata(), one.best)
        assert list(drawn.get_xdata()) == list(range(len(one.best)))


def crowded_run() -> RunData:
    """Many rounds, winners with long names under long constraints."""
    run, rng = full_run(38, 8), np.random.default_rng(3)
    rest = ", params <= 9M, latency_us <= 20000"
    winners = [
        dataclasses.replace(one, name=f"400MmacsM{target}M-params9M-{number}", target=f"{one.target}{rest}")
        for target in (450, 455, 460, 550, 650, 750)
        for number in (1, 2)
        for one in [winner(400 + number, target, rng)]
    ]
    evolution = [dataclasses.replace(one, constraints=f"400M <= {one.constraints}{rest}") for one in run.evolution]
    return dataclasses.replace(run, candidates=[*run.candidates[:304], *winners], evolution=evolution)


def small_run() -> RunData:
    return full_run(5, 1)


@pytest.mark.parametrize("make", [small_run, early_run, crowded_run])
def test_figures_can_be_read(make) -> None:
    """No word is cut off or tiny, and no two of a figure cover each other."""
    with figure_style():
        shown, _ = report_figures(make())
        for entry, one in shown:
            figure = one.figure
            FigureCanvasAgg(figure).draw()
            width, height = figure.bbox.size
            words = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
            words = [text for text in words if not isinstance(text, Annotation) or text.arrow_patch is None]
            boxes = {text: text.get_window_extent() for text in set(words) - beyond_the_limits(figure)}
            for text, box in boxes.items():
                where = f"{entry.title}: {text.get_text()!r}"
                assert text.get_fontsize() >= 9, where
                assert box.x0 >= -0.5 and box.y0 >= -0.5 and box.x1 <= width + 0.5 and box.y1 <= height + 0.5, where
            for (first, a), (second, b) in itertools.combinations(boxes.items(), 2):
                assert not a.padded(-1).overlaps(b.padded(-1)), (entry.title, first.get_text(), second.get_text())


def beyond_the_limits(figure: Figure) -> Set[Text]:
    """Labels of ticks outside of an axis' limits exist, but are not drawn."""
    found: Set[Text] = set()
    for axes in figure.axes:
        for number, axis in enumerate((axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.label1.get_position()[number] <= high:
                    found.update((tick.label1, tick.label2))
    return found


def test_what_is_missing_names_the_stage_that_brings_it() -> None:
    shown, missing = report_figures(empty_run())
    assert not shown and len(missing) == 11 and all(entry.stage.startswith("stage ") for entry in missing)
    shown, missing = report_figures(early_run())
    assert [entry.title.split(":")[0] for entry, _ in shown] == [
        "Figure 6", "Accuracy and MACs", "Figure 4(a)", "Figure 4(b)", "Learning curves of the search",
    ]  # fmt: skip
    assert {entry.title.split(":")[0]: entry.stage[:7] for entry in missing} == {
        "Figure 4(c)": "stage 2", "Figure 4(d)": "stage 2", "Figure 4(e)": "stage 2", "Figure 5": "stage 2",
        "Evolution": "stage 3", "Learning curves of the winners": "stage 3",
    }  # fmt: skip
    shown, missing = report_figures(full_run(6, 2))
    assert len(shown) == 11 and not missing


def test_latency_is_shown_where_it_is_a_statistic() -> None:
    true = np.array([[1e4], [2e4]])
    run = dataclasses.replace(empty_run(), pretrain=PretrainData(("latency_us",), true, true))
    ((entry, shown),) = report_figures(run)[0]
    assert entry.title == "Predicted latency"
    np.testing.assert_allclose(points(shown.figure.axes[0]), [[10, 10], [20, 20]])  # ms


def test_many_points_are_pixels_and_a_figure_stays_small() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(4e8, 8e8, (4000, 1))
    with figure_style():
        markup = figure_markup(statistic_figure(PretrainData(("macs",), true, true), "macs"), "f0", "words")
    assert markup.startswith("<svg") and "data:image/png;base64," in markup and len(markup) < 300_000


def test_a_huge_figure_becomes_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from fbnet_plugin.plotting import nars_style

    monkeypatch.setattr(nars_style, "MAX_SVG", 1000)
    with figure_style():
        markup = figure_markup(early_stop_figure(stopped()), "f0", "words")
    assert markup.startswith('<img alt="words" src="data:image/png;base64,')


def test_figures_leave_nothing_behind_and_ignore_the_users_settings() -> None:
    import matplotlib

    with figure_style():
        first = figure_markup(early_stop_figure(stopped()), "f0", "words")
    with matplotlib.rc_context(
        {"axes.facecolor": "red", "font.size": 30, "lines.marker": "x", "svg.hashsalt": "other"}
    ):
        with figure_style():
            again = figure_markup(early_stop_figure(stopped()), "f0", "words")
    assert first == again
    assert not _pylab_helpers.Gcf.get_all_fig_managers()


def test_colours_differ_in_lightness_or_marker() -> None:
    """Rounds go from light to dark, so that they differ on grey paper too."""
    figure = samples_of_rounds_figure(full_run(6, 5))
    rounds = [one for one in figure.axes[0].collections if one.get_label().startswith("round")]
    light = [np.dot(one.get_facecolor()[0][:3], (0.2126, 0.7152, 0.0722)) for one in rounds[1:]]
    assert light == sorted(light, reverse=True) and light[0] - light[-1] > 0.3
    assert len({one.get_paths()[0].vertices.tobytes() for one in rounds}) == 5
    assert len({to_rgba(colour) for colour in (*COLOURS, CYAN, GREY)}) == len(COLOURS) + 2
