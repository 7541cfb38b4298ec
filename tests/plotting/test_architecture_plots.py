"""Pictures of architectures and of a search's distribution: what is drawn, and that it can be read."""

from __future__ import annotations

import dataclasses
import itertools
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from fbnet_plugin.arch import (
    ArchError,
    ArchSpec,
    ConvSpec,
    FusedSpec,
    InvertedResidualSpec,
    PoolSpec,
    SESpec,
    SkipSpec,
    StageSpec,
    get_arch,
    list_archs,
    scale_depth,
)
from fbnet_plugin.arch.mixed import MixedSpec
from fbnet_plugin.plotting import architectures as plots
from fbnet_plugin.plotting import distribution as heat

BLUE, GREEN = plots.KERNEL_COLOURS[3], plots.KERNEL_COLOURS[5]
# FBNet-A in FBNet's Figure 4: (kernel, expansion, groups) of each layer, None for a skip.
FBNET_A = [None, (3, 3, 1), (3, 1, 1), None, None, (5, 6, 1), (3, 3, 1), (5, 1, 1), (3, 3, 1), (5, 6, 1), (5, 3, 1),
           (5, 1, 2), (5, 6, 1), (3, 6, 1), (5, 1, 2), (5, 3, 1), (3, 1, 2), (5, 6, 1), (5, 6, 1), (5, 3, 1), (5, 6, 1),
           (5, 6, 1)]  # fmt: skip
LAYERS = [
    {"variable": "layer1", "candidates": ["k3_e1", "k3_e6"], "probability": [0.25, 0.75]},
    {"variable": "layer2", "candidates": ["k3_e1", "k3_e6", "skip"], "probability": [0.9, 0.08, 0.02]},
    {"variable": "$layer3", "candidates": ["k3_e6", "k$3_e6$"], "probability": [0.5, 0.5]},
]


def small(*blocks: Any, name: str = "small") -> ArchSpec:
    """One stage on images of 64 px."""
    return ArchSpec(name, 64, (StageSpec((ConvSpec(16, 2), *blocks)),))


def boxes(axes: Axes) -> list[Rectangle]:
    """From left to right."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [patch.get_x() for patch in found] == sorted(patch.get_x() for patch in found)
    return found


def is_empty(box: Rectangle) -> bool:
    return box.get_facecolor()[3] == 0 and not box.get_hatch()


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def check_texts_are_apart(figure: Figure) -> None:
    """No two texts overlap."""
    FigureCanvasAgg(figure).draw()
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    found = [(text.get_text(), text.get_window_extent()) for text in shown]
    for (one, a), (other, b) in itertools.combinations(found, 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1), f"{one!r} lies on {other!r}"


def test_fbnet_a_as_in_the_paper(figures: list[Figure], tmp_path: Path) -> None:
    plots.draw_architectures([get_arch("fbnet_a")], tmp_path / "deep" / "a.png")
    (axes,) = figures[0].axes
    stem, *found = boxes(axes)
    assert len(found) == 22
    heights = {(1, 2): 0.5, (1, 1): 1, (3, 1): 3, (6, 1): 6}
    for box, published in zip(found, FBNET_A):
        if published is None:
            assert is_empty(box) and box.get_linestyle() == ":"
            continue
        kernel, *size = published
        assert box.get_height() == heights[tuple(size)] and box.get_y() == 0
        assert to_hex(box.get_facecolor()).upper() == {3: BLUE, 5: GREEN}[kernel]
    assert to_hex(stem.get_facecolor()) not in (BLUE.lower(), GREEN.lower()) and not is_empty(stem)
    assert legend(figures[0]) == [
        "3×3 kernel", "5×5 kernel", "convolution (stem)", "grouped 1×1 convs: lower by ½", "skip",
    ]  # fmt: skip
    check_texts_are_apart(figures[0])
    with Image.open(tmp_path / "deep" / "a.png") as image:
        assert image.format == "PNG" and image.width > 1000


def test_blue_is_3_and_green_is_5() -> None:
    assert np.argmax(to_rgb(BLUE)) == 2 and np.argmax(to_rgb(GREEN)) == 1


def test_channels_sizes_and_label(figures: list[Figure], tmp_path: Path) -> None:
    arch = get_arch("fbnet_a")
    plots.draw_architectures([arch], tmp_path / "a.png", title="$Figure 4$")
    (axes,) = figures[0].axes
    found = texts(axes)
    assert [text for text in found if text.isdigit()] == ["16", "24", "32", "64", "112", "184", "352"]
    assert [text for text in found if text.startswith("stride")] == [
        "stride 2\n112 px", "stride 4\n56 px", "stride 8\n28 px", "stride 16\n14 px", "stride 32\n7 px",
    ]  # fmt: skip
    assert not any(text.endswith(" px") and text[0].isdigit() for text in found)  # once is enough
    assert "fbnet_a" in found and "224 px, 249.9M MACs" in found and "$Figure 4$" in found
    plots.draw_architectures([arch], tmp_path / "a.png", resolution=(64, 96), labels=["Ours\n1 ms\n2 MACs"])
    found = texts(figures[1].axes[0])
    assert "stride 4\n16×24 px" in found and "Ours" in found and "1 ms\n2 MACs" in found and "fbnet_a" not in found


def test_label() -> None:
    arch = get_arch("fbnet_a")
    assert plots.arch_label(arch) == "fbnet_a\n224 px, 249.9M MACs"
    assert plots.arch_label(arch, 96, name="A", latency_us=19_840.0) == "A\n96 px, 47.1M MACs\n19.8 ms"
    assert plots.arch_label(arch, (64, 96), latency_us=1.5e6).split("\n")[1:] == ["64×96 px, 31.9M MACs", "1,500 ms"]
    assert [plots.arch_label(arch, latency_us=us).split("\n")[2] for us in (999_600, 99_960, 4.2)] == [
        "1,000 ms", "100 ms", "0.0042 ms",
    ]  # fmt: skip


def test_sizes_stand_under_each_row_where_they_differ(figures: list[Figure], tmp_path: Path) -> None:
    plots.draw_architectures([get_arch("fbnet_a"), get_arch("fbnet_96_035_1")], tmp_path / "f.png")
    first, second = figures[0].axes
    assert [text for text in texts(first) if text.startswith("stride")][0] == "stride 2"
    for axes, sizes in ((first, [112, 56, 28, 14, 7]), (second, [48, 24, 12, 6, 3])):
        assert [text for text in texts(axes) if text.endswith(" px")] == [f"{size} px" for size in sizes]
    assert sum(map(is_empty, boxes(second))) == 12  # "many layers are skipped" (section 4.2)


def stage_starts(axes: Axes, arch: ArchSpec) -> list[float]:
    counts = [sum(block.repeat for block in stage.blocks) for stage in arch.stages]
    found = boxes(axes)
    assert len(found) == sum(counts)
    return [found[first].get_x() for first in [0, *itertools.accumulate(counts)][:-1]]


def test_stages_of_equal_stride_stand_below_each_other(figures: list[Figure], tmp_path: Path) -> None:
    archs = [get_arch(name) for name in ("fbnet_v3_a", "fbnet_d_se", "fbnet_v2_f0", "fbnet_v3_h_det")]
    plots.draw_architectures(archs, tmp_path / "f.png")
    starts = [stage_starts(axes, arch) for axes, arch in zip(figures[0].axes, archs)]
    assert starts[1:] == starts[:1] * 3
    deepest = [box.get_x() for box in boxes(figures[0].axes[-1])]
    assert min(np.diff(deepest)) > 0.99  # the deepest network has no box on another
    assert len({axes.get_xlim() for axes in figures[0].axes}) == 1
    check_texts_are_apart(figures[0])


def test_stages_are_matched_by_stride_and_not_by_number(figures: list[Figure], tmp_path: Path) -> None:
    """The second and third stage of one network have the stride of the other's first two."""
    conv, block = ConvSpec(8, 1), InvertedResidualSpec(16, 2)
    slow = ArchSpec("slow", 64, (StageSpec((conv,)), StageSpec((block,)), StageSpec((block.replaced(stride=1),) * 3)))
    fast = ArchSpec("fast", 64, (StageSpec((conv.replaced(stride=2),)), StageSpec((block,))))
    plots.draw_architectures([slow, fast], tmp_path / "f.png")
    one, two, three = stage_starts(figures[0].axes[0], slow)
    first, last = stage_starts(figures[0].axes[1], fast)
    assert one < two < three and first == two and last > three + 2


def test_marks_of_squeeze_and_excite(figures: list[Figure], tmp_path: Path) -> None:
    arch = get_arch("fbnet_v3_a")
    plots.draw_architectures([arch], tmp_path / "f.png")
    (axes,) = figures[0].axes
    dots = {round(float(line.get_xdata()[0]), 6): line for line in axes.lines if line.get_marker() == "o"}
    blocks = [layer.block for layer in arch.layers() if layer.part != "head"]
    marked = 0
    for box, block in zip(boxes(axes), blocks):
        dot = dots.get(round(box.get_x() + box.get_width() / 2, 6))
        assert (dot is not None) == (getattr(block, "se", None) is not None)
        if dot is not None:
            marked += 1
            assert box.get_height() < dot.get_ydata()[0] < axes.get_ylim()[1]
    assert marked == len(dots) == 18 and "squeeze-and-excite" in legend(figures[0])


def test_fused_stacked_and_projected_blocks_look_different(figures: list[Figure], tmp_path: Path) -> None:
    plain_block = InvertedResidualSpec(16, expansion=3)
    blocks = [
        plain_block, FusedSpec(16, expansion=3), dataclasses.replace(plain_block, cascade=3),
        SkipSpec(24), SkipSpec(24), SkipSpec(24, stride=2), PoolSpec(32, expansion=4),
    ]  # fmt: skip
    plots.draw_architectures([small(*blocks)], tmp_path / "f.png")
    (axes,) = figures[0].axes
    _, plain, fused, stacked, projected, identity, reduced, pool = boxes(axes)
    assert {to_hex(box.get_facecolor()).upper() for box in (plain, fused, stacked)} == {BLUE}
    assert [bool(box.get_hatch()) for box in (plain, fused, stacked)] == [False, True, False]
    white = [line for line in axes.lines if line.get_color() == "white"]
    left, width = stacked.get_x(), stacked.get_width()
    assert [line.get_xdata()[0] for line in white] == pytest.approx([left + width / 3, left + 2 * width / 3])
    assert all(list(line.get_ydata()) == [0, 3] for line in white)
    for box in (projected, reduced):
        assert box.get_hatch() and box.get_facecolor() == to_rgba("white") and box.get_linestyle() == "-"
    assert is_empty(identity) and pool.get_height() == 4
    assert legend(figures[0]) == [
        "3×3 kernel", "convolution (stem)", "pooling block", "fused: dense k×k conv", "stacked depthwise convs",
        "skip as 1×1 conv", "skip",
    ]  # fmt: skip
    check_texts_are_apart(figures[0])


@pytest.mark.parametrize(
    "block, height",
    [
        (InvertedResidualSpec(16, expansion=4.5379), 4.5379),
        (InvertedResidualSpec(16, expansion=6, groups=2), 5.5),
        (InvertedResidualSpec(16, expansion=1, groups=4), 0.5),
        (InvertedResidualSpec(16, expansion=0.5), 0.5),
        (InvertedResidualSpec(16, expansion=0.5, groups=2), 0.25),
        (FusedSpec(16, expansion=4, se=SESpec()), 4),
        (FusedSpec(16, expansion=4, project=False), 1),  # its only convolution gives the output
    ],
)
def test_height(block: Any, height: float) -> None:
    assert plots.block_box(block, 16).height == height


def test_other_kernels_have_colours_of_their_own(figures: list[Figure], tmp_path: Path) -> None:
    kernels = [1, 3, 5, 7, 9, 11, 13, 31]
    arch = small(*(InvertedResidualSpec(16, kernel=kernel) for kernel in kernels))
    plots.draw_architectures([arch], tmp_path / "f.png")
    found = [box.get_facecolor() for box in boxes(figures[0].axes[0])]
    assert len(set(found)) == 8 and found[-1] == found[-2]  # the stem, six kernels, and the large ones together
    entries = [*(f"{kernel}×{kernel} kernel" for kernel in kernels[:6]), "13×13 kernel or larger"]
    assert legend(figures[0]) == [*entries, "convolution (stem)"]
    assert [patch.get_facecolor() for patch in figures[0].legends[0].get_patches()] == [*found[1:-1], found[0]]


def test_large_expansions_stay_in_the_row(figures: list[Figure], tmp_path: Path) -> None:
    archs = [small(InvertedResidualSpec(16, expansion=20, se=SESpec())), get_arch("fbnet_a")]
    plots.draw_architectures(archs, tmp_path / "f.png")
    for axes in figures[0].axes:
        assert axes.get_ylim()[1] > 20 and [tick.get_text() for tick in axes.get_yticklabels()] == ["1", "10", "20"]
    check_texts_are_apart(figures[0])


@pytest.mark.parametrize(
    "archs",
    [
        [get_arch(name) for name in list_archs()[:20]],
        [scale_depth(get_arch("fbnet_v3_h_det"), 1.6), get_arch("fbnet_a")],
        [small(InvertedResidualSpec(16), name="a_name_that_is_" + "very_" * 10 + "long$x$")],
    ],
    ids=["20 networks", "80 blocks", "long name"],
)
def test_many_rows_and_many_blocks_can_be_read(archs: list[ArchSpec], figures: list[Figure], tmp_path: Path) -> None:
    plots.draw_architectures(archs, tmp_path / "f.png")
    assert len(figures[0].axes) == len(archs)
    check_texts_are_apart(figures[0])


def test_a_choice_that_is_still_open_cannot_be_drawn(tmp_path: Path) -> None:
    mixed = MixedSpec.of("layer1", (InvertedResidualSpec(16), SkipSpec(16)))
    with pytest.raises(ArchError, match="layer1: is still to be chosen"):
        plots.draw_architectures([small(mixed)], tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    arch = get_arch("fbnet_a")
    with pytest.raises(ArchError, match="0 architectures, expected 1 to 100"):
        plots.draw_architectures([], tmp_path / "f.png")
    with pytest.raises(ArchError, match="101 architectures"):
        plots.draw_architectures([arch] * 101, tmp_path / "f.png")
    with pytest.raises(ArchError, match="1 labels, expected one for each of the 2 architectures"):
        plots.draw_architectures([arch] * 2, tmp_path / "f.png", labels=["a"])
    with pytest.raises(ArchError, match="resolution: got 0"):
        plots.draw_architectures([arch], tmp_path / "f.png", resolution=0)
    for draw, first in ((plots.draw_architectures, [arch]), (heat.draw_distribution, LAYERS)):
        with pytest.raises(ValueError, match=r"f.gif: expected a file name that ends in .png, .pdf, .svg"):
            draw(first, tmp_path / "f.gif")
    assert list(tmp_path.iterdir()) == []


def test_formats(tmp_path: Path) -> None:
    for draw, first in ((plots.draw_architectures, [get_arch("fbnet_a")]), (heat.draw_distribution, LAYERS)):
        for suffix in ("PNG", "pdf", "svg"):
            draw(first, tmp_path / f"f.{suffix}")
        with Image.open(tmp_path / "f.PNG") as image:
            assert image.format == "PNG" and len(np.unique(np.asarray(image))) > 10
        assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
        assert ElementTree.parse(tmp_path / "f.svg").getroot().tag.endswith("svg")


def test_a_picture_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.png"
    path.write_bytes(b"old")

    def fail(self: Figure, file: Any, **options: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    for draw, first in ((plots.draw_architectures, [get_arch("fbnet_a")]), (heat.draw_distribution, LAYERS)):
        with pytest.raises(OSError, match="disk full"):
            draw(first, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_pyplot_and_the_settings_are_left_alone(tmp_path: Path) -> None:
    open_figures, settings = list(_pylab_helpers.Gcf.figs), dict(matplotlib.rcParams)
    plots.draw_architectures([get_arch("fbnet_a")], tmp_path / "a.png")
    heat.draw_distribution(LAYERS, tmp_path / "d.png")
    assert list(_pylab_helpers.Gcf.figs) == open_figures and dict(matplotlib.rcParams) == settings


def test_distribution(figures: list[Figure], tmp_path: Path) -> None:
    heat.draw_distribution(LAYERS, tmp_path / "d.png", title="epoch 7")
    axes, bar = figures[0].axes
    (mesh,) = axes.collections
    cells = np.ma.getdata(mesh.get_array()).reshape(4, 3)
    blank = np.ma.getmaskarray(mesh.get_array()).reshape(4, 3)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["k3_e1", "k3_e6", "skip", "k$3_e6$"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["layer1", "layer2", "$layer3"]
    assert blank.tolist() == [[False, False, True], [False] * 3, [True, False, True], [True, True, False]]
    assert cells[~blank].tolist() == [0.25, 0.9, 0.75, 0.08, 0.5, 0.02, 0.5]
    assert axes.get_ylim() == (3.5, -0.5) and mesh.norm.vmin == 0 and mesh.norm.vmax == 1
    centres = [(box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2) for box in axes.patches]
    assert centres == [pytest.approx(place) for place in [(0, 1), (1, 0), (2, 1)]]  # the first of two equal ones
    printed = {text.get_position(): text.get_text() for text in axes.texts if text.get_text().isdigit()}
    assert printed == {(0, 0): "25", (0, 1): "75", (1, 0): "90", (1, 1): "8", (2, 1): "50", (2, 3): "50"}
    assert bar.get_ylabel() == "probability (%)" and "epoch 7" in texts(axes)
    check_texts_are_apart(figures[0])


def test_distribution_of_the_papers_size(figures: list[Figure], tmp_path: Path) -> None:
    names = ["k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"]
    values = np.random.default_rng(0).dirichlet(np.ones(9), 22)
    layers = [
        {"variable": f"layer{number + 1}", "candidates": names, "probability": row.tolist()}
        for number, row in enumerate(values)
    ]
    heat.draw_distribution(layers, tmp_path / "d.png")
    assert np.array_equal(figures[0].axes[0].collections[0].get_array().reshape(9, 22), values.T)
    check_texts_are_apart(figures[0])


def test_candidates_of_one_name_are_kept_apart(figures: list[Figure], tmp_path: Path) -> None:
    probability = [0.0, 0.0, 1.0 + 1e-15]  # a softmax may round so
    layer = {"variable": "a", "candidates": ["mb", "mb", "mb"], "probability": probability}
    heat.draw_distribution([layer], tmp_path / "d.png")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mb", "mb (2)", "mb (3)"]
    assert axes.collections[0].get_array().ravel().tolist() == [0.0, 0.0, 1.0 + 1e-15]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"probability": [0.5]}, r"layers\[1\]\.probability: expected 2 numbers from 0 to 1"),
        ({"probability": [0.5, None]}, r"layers\[1\]\.probability"),
        ({"probability": [0.5, 1.5]}, r"layers\[1\]\.probability"),
        ({"probability": [0.5, float("nan")]}, r"layers\[1\]\.probability"),
        ({"probability": [True, False]}, r"layers\[1\]\.probability"),
        ({"probability": "ab"}, r"layers\[1\]\.probability"),
        ({"candidates": []}, r"layers\[1\]\.candidates: expected a list of names"),
        ({"candidates": [1, 2]}, r"layers\[1\]\.candidates"),
    ],
)
def test_layers_that_cannot_be_drawn(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ArchError, match=message):
        heat.draw_distribution([LAYERS[0], {**LAYERS[0], **change}], tmp_path / "d.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "layers, message",
    [
        ([], "layers: is empty or no list"),
        ("layers", "layers: is empty or no list"),
        (None, "layers: is empty or no list"),
        ([5], r"layers\[0\]\.variable: is missing"),
        ([{"variable": "a", "candidates": ["b"]}], r"layers\[0\]\.probability: is missing"),
    ],
)
def test_what_is_no_list_of_layers(layers: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArchError, match=message):
        heat.draw_distribution(layers, tmp_path / "d.png")


def test_every_block_of_the_zoo_has_a_box() -> None:
    for name in list_archs():
        layers = [layer for layer in get_arch(name).layers() if layer.part != "head"]
        found = [plots.block_box(layer.block, layer.input.channels) for layer in layers]
        assert all(0 < box.height < 8 and box.legend for box in found), name
