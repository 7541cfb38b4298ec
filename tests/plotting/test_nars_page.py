"""The report of a search: one page, complete, safe, the same for the same data, and readable on a phone."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import pytest
from nars_runs import candidate, early_run, empty_run, four_candidates, full_run

from fbnet_plugin.nars.run_data import RunData
from fbnet_plugin.plotting import nars_page
from fbnet_plugin.plotting.nars_page import page, write_report

VOID = ("meta", "br", "hr", "img", "link", "input")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Outline(HTMLParser):
    """Checks that tags are balanced, and keeps attributes, words and the cells of tables."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: List[str] = []
        self.tags: List[Tuple[str, Dict[str, Optional[str]]]] = []
        self.words: List[str] = []
        self.rows: List[List[str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> at {self.getpos()} closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def attributes(self, name: str) -> List[Optional[str]]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def run() -> RunData:
    return full_run(8, 3)


@pytest.fixture(scope="module")
def text(run: RunData) -> str:
    return page(run)


@pytest.fixture(scope="module")
def outline(text: str) -> Outline:
    return Outline(text)


def test_the_page_is_well_formed_and_needs_nothing_else(text: str, outline: Outline) -> None:
    assert text.startswith("<!DOCTYPE html>\n") and outline.attributes("lang") == ["en"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [a for _, a in outline.tags]
    links = [value for name in ("src", "href", "xlink:href", "data", "action") for value in outline.attributes(name)]
    assert links and all(value.startswith(("#", "data:image/")) for value in links)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    addresses = {name for _, attrs in outline.tags for name, value in attrs.items() if "://" in (value or "")}
    assert addresses <= {"xmlns", "xmlns:xlink"}
    assert "script" not in {tag for tag, _ in outline.tags} and not [
        name for _, attrs in outline.tags for name in attrs if name.startswith("on")
    ]


def test_every_reference_in_a_figure_is_to_a_part_of_this_page(text: str, outline: Outline) -> None:
    ids = outline.attributes("id")
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'xlink:href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used and used <= set(ids)


def test_figures_have_captions_and_words_for_those_who_do_not_see_them(outline: Outline) -> None:
    figures = [attrs for tag, attrs in outline.tags if tag == "svg"]
    assert len(figures) == 11 == sum(tag == "figcaption" for tag, _ in outline.tags)
    assert all(attrs["role"] == "img" and re.search(r"\d", attrs["aria-label"]) for attrs in figures)
    assert all("viewbox" in attrs and "width" not in attrs and "height" not in attrs for attrs in figures)
    words = " ".join(outline.words)
    for number in ("4(a)", "4(b)", "4(c)", "4(d)", "4(e)", "5", "6"):
        assert f"Figure {number}:" in words


def test_winners_stand_with_costs_recipe_and_architecture(run: RunData, outline: Outline) -> None:
    header = next(row for row in outline.rows if "architecture" in row)
    one = next(one for one in run.candidates if one.phase == "winner")
    row = dict(zip(header, next(row for row in outline.rows if row[0] == one.name)))
    assert row["constraints"] == "macs <= 450M" and row["state"] == "done"
    assert row["MACs (M)"] == f"{one.costs['macs'] / 1e6:.0f}" and row["trained (%)"] == "79.00"
    assert row["predicted (%)"] == "75.90 ± 0.40" and row["epochs"] == "60"
    assert row["ema"] in ("yes", "no") and row["optimizer"] == one.recipe["optimizer"]
    assert float(row["stochastic depth"]) == one.recipe["stochastic_depth"]
    width = one.arch["stages"][1][0]["out"]
    assert row["architecture"] == f"224 px: conv 16×1 k3, 16×1 k3 e1 | {width}×3 k5 e4 se"


def test_several_seeds_of_a_winner_have_a_mean() -> None:
    run, _ = four_candidates()
    pair = [candidate(5, 450, 80.0, phase="winner", round=0, name="best-1")]
    pair.append(candidate(6, 450, 81.0, phase="winner", round=0, name="best-1-seed2"))
    alone = candidate(7, 500, 82.0, phase="winner", round=0, name="best-2")
    text = page(dataclasses.replace(run, candidates=[*run.candidates, *pair, alone]))
    rows = Outline(text).rows
    header = next(row for row in rows if "mean of seeds (%)" in row)
    at = header.index("mean of seeds (%)")
    cells = [row[at] for row in rows if len(row) == len(header) and row[0].startswith("best-")]
    assert cells == ["80.50 ± 0.71", "80.50 ± 0.71", "82.00"]


def test_the_best_are_ranked_by_the_accuracy_that_can_be_compared(run: RunData, outline: Outline) -> None:
    header = next(row for row in outline.rows if "on the front" in row)
    first = outline.rows.index(header) + 1
    ranked = [float(row[header.index("after epoch 18 (%)")]) for row in outline.rows[first : first + 15]]
    assert ranked == sorted(ranked, reverse=True) and len(ranked) == 15
    done = [one for one in run.candidates if one.phase == "search" and one.state == "done"]
    assert ranked[0] == pytest.approx(max(dict(one.curve)[18] for one in done), abs=0.005)


def test_every_failure_is_listed_with_its_reason(run: RunData, outline: Outline) -> None:
    failed = [one for one in run.candidates if one.state == "failed"]
    assert {one.phase for one in failed} == {"search", "winner"}
    header = next(row for row in outline.rows if "reason" in row)
    listed = outline.rows[outline.rows.index(header) + 1 :]
    assert [(row[0], row[2], row[header.index("attempts")]) for row in listed] == [
        (one.name, one.reason, str(one.attempts)) for one in failed
    ]
    assert "Failures" not in page(four_candidates()[0])


def test_trainings_of_other_parts_and_notes_are_listed() -> None:
    run, _ = four_candidates()
    swapped = candidate(5, 450, 77.0, phase="swap", round=0, name="a-with-b")
    outline = Outline(page(dataclasses.replace(run, candidates=[*run.candidates, swapped], notes=["first", "second"])))
    assert ["a-with-b", "swap", "done"] in [row[:3] for row in outline.rows]
    assert {"Notes", "first", "second", "Other trainings"} <= set(outline.words)


@pytest.mark.parametrize("make", [early_run, empty_run])
def test_a_run_that_has_just_begun_says_what_is_still_to_come(make) -> None:
    outline = Outline(page(make()))
    words = " ".join(outline.words)
    assert "Figure 5: rank correlation and epochs: stage 2, after the first round" in words
    assert "Winners" not in outline.words


def test_names_reasons_and_notes_cannot_break_out() -> None:
    evil = '<script>alert("1")</script>&\'--><$x$'
    run, _ = four_candidates()
    ones = [
        dataclasses.replace(one, name=evil, reason=evil, target=evil, recipe={evil: evil}) for one in run.candidates
    ]
    failed = dataclasses.replace(ones[0], id=8, state="failed", accuracy=None)
    won = dataclasses.replace(ones[1], id=9, phase="winner", round=0)
    full = full_run(4, 1)
    evolution = [dataclasses.replace(full.evolution[0], constraints=evil)]
    text = page(RunData(evil, [(evil, evil)], evil, [*ones, failed, won], evolution=evolution, notes=[evil]))
    outline = Outline(text)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert outline.words.count(evil) >= 8  # title twice, facts, notes, cells


def test_equal_data_gives_equal_bytes_and_an_older_page_stays_until_the_new_one_is_there(
    run: RunData, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(run, path)
    assert path.read_text(encoding="utf-8") == text
    assert len(text) < 1_000_000

    def fail(run: RunData) -> str:
        raise RuntimeError("in between")

    monkeypatch.setattr(nars_page, "page", fail)
    with pytest.raises(RuntimeError):
        write_report(run, path)
    assert path.read_text(encoding="utf-8") == text and [one.name for one in path.parent.iterdir()] == ["report.html"]


MEASURE = """<script>
addEventListener("load", () => {
  const widths = [...document.querySelectorAll("iframe")].map(one => {
    const root = one.contentDocument.documentElement, picture = one.contentDocument.querySelector("svg");
    return [one.clientWidth, root.clientWidth, root.scrollWidth, picture ? Math.round(picture.clientHeight) : 0].join();
  });
  document.querySelector("pre").textContent = "measured " + widths.join(" ");
});
</script>"""


def measured(pages: List[Tuple[str, int]], folder: Path) -> List[List[int]]:
    """Of each page in a frame so many px wide: widths of frame, view and content, and height of the first figure."""
    browser = next((found for found in map(shutil.which, BROWSERS) if found), None)
    if browser is None:
        pytest.skip("there is no Chromium")
    frames = "".join(
        f'<iframe srcdoc="{escape(text)}" style="width:{width}px;height:900px;border:0"></iframe>'
        for text, width in pages
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<!DOCTYPE html><meta charset=utf-8><pre></pre>{frames}{MEASURE}", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,1000"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    command = [browser, *options, wrapper.as_uri()]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=100)
    found = re.search(r"<pre>measured ([\d, ]+)</pre>", done.stdout.decode("utf-8", "replace"))
    assert found, done.stderr.decode("utf-8", "replace")[-2000:]
    return [[int(number) for number in group.split(",")] for group in found.group(1).split()]


def test_no_page_scrolls_sideways_on_a_phone_or_a_desktop(run: RunData, text: str, tmp_path: Path) -> None:
    long = dataclasses.replace(
        four_candidates()[0], title="x" * 200, notes=["y" * 300], facts=[("z" * 80, "z" * 200)], metric="m" * 90
    )
    too_wide = '<!DOCTYPE html><meta name="viewport" content="width=device-width"><div style="width:800px">wide</div>'
    shown = [(text, 390), (text, 1280), (page(long), 390), (page(early_run()), 390), (too_wide, 390)]
    *results, wide = measured(shown, tmp_path)
    assert wide[2] > 390  # the measurement sees what it is for
    for (_, width), (frame, view, content, height) in zip(shown, results):
        assert (frame, view) == (width, width)
        assert content <= view
        assert 200 < height < 800
