"""The documentation is true: its commands and programs run, its links lead somewhere, its names exist."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import docs_training
import pytest
import torch
from docs_pages import LANGUAGES, ROOT, Block, Command, anchors, blocks, commands, links, missing_lines, pages
from docs_workshop import Workshop

from fbnet_plugin.arch import get_arch
from fbnet_plugin.engine import load_config

each_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())

Handler = Callable[[Workshop, Sequence[str]], str]


def runs(tool: str) -> Handler:
    """The command is run as it stands."""
    return lambda shop, argv: shop.run(tool, argv)


def parses(tool: str) -> Handler:
    """The command takes too long, or needs what tests do not have: its parser must take the arguments."""

    def check(shop: Workshop, argv: Sequence[str]) -> str:
        shop.parse(tool, argv)
        return ""

    return check


def make(shop: Workshop, argv: Sequence[str]) -> str:
    """Targets and variables are in the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split()
    variables = re.findall(r"^(\w+) \?=", text, re.MULTILINE)
    for word in argv:
        name, is_variable, _ = word.partition("=")
        assert name in (variables if is_variable else targets), f"the Makefile has no {name}"
    return ""


def pip_install(shop: Workshop, argv: Sequence[str]) -> str:
    """What is installed is named rightly: this project with extras that it has, or a package that it needs."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    extras = re.findall(r'^    "(\w+)": \[', setup, re.MULTILINE) + ["all"]
    needed = [*re.findall(r'"([A-Za-z][\w-]*)[<>=]', setup), "torch", "torchvision", "wheel"]
    for word in (word for word in argv if not word.startswith("-")):
        own = re.fullmatch(
            r"(?:\.|fbnet_plugin|git\+https://\S+/fbnet_plugin\.git|dist/\S+\.whl)(?:\[([\w,]+)\])?", word
        )
        if own:
            assert set((own.group(1) or "all").split(",")) <= set(extras), f"setup.py has no extra {own.group(1)}"
        elif not word.startswith("git+https://github.com/facebookresearch/detectron2.git"):
            assert re.split(r"[<>=]", word)[0] in needed, f"{word} is not in setup.py"
    return ""


def of_reader(shop: Workshop, argv: Sequence[str]) -> str:
    """What a reader does to get to the checkout."""
    return ""


def of_example(shop: Workshop, argv: Sequence[str]) -> str:
    """The script of the example, which tests/test_example.py runs from an installed wheel."""
    assert (ROOT / "examples" / "own_detector" / "train.py").is_file() and (
        ROOT / "tests" / "test_example.py"
    ).is_file()
    return ""


# Each command of the documentation begins with one of these; the longest counts.
COMMANDS: Dict[str, Handler] = {
    "make": make,
    "python train.py": of_example,
    "pip install": pip_install,
    "git clone": of_reader,
    "cd": of_reader,
    "python tools/ablate.py": docs_training.ablate,
    "python tools/analyze_model.py": runs("tools/analyze_model.py"),
    "python tools/benchmark_latency.py": docs_training.measure,
    "python tools/convert_weights.py": docs_training.convert,
    "python tools/demo.py": docs_training.looks("tools/demo.py"),
    "python tools/draw_archs.py": runs("tools/draw_archs.py"),
    "python tools/draw_predictions.py": docs_training.looks("tools/draw_predictions.py"),
    "python tools/export_model.py": docs_training.export,
    "python tools/install_detectron2.py": parses("tools/install_detectron2.py"),
    "python tools/latency_table.py": docs_training.latency_table,
    "python tools/lazyconfig_train_net.py": docs_training.lazy,
    "python tools/list_archs.py": runs("tools/list_archs.py"),
    "python tools/make_config_reference.py": parses("tools/make_config_reference.py"),
    "python tools/nars.py": docs_training.nars,
    "python tools/recipes.py": runs("tools/recipes.py"),
    "python tools/run_demo.py": parses("tools/run_demo.py"),
    "python tools/sample_archs.py": runs("tools/sample_archs.py"),
    "python tools/scale_space.py": runs("tools/scale_space.py"),
    "python tools/train_net.py": docs_training.train,
    "python tools/visualize_data.py": docs_training.looks("tools/visualize_data.py"),
}


# What these print does not depend on the machine, so that a page must show it as it is.
EXACT = ("analyze_model", "convert_weights", "list_archs", "recipes", "scale_space", "nars.py spaces", "nars.py scale")


# Optional packages that the commands of a page need.
NEEDS = {
    "README.md": ("cv2", "skimage"),
    "docs/detection.md": ("cv2",),
    "docs/export.md": ("onnx", "onnxruntime", "onnxscript", "skimage"),
    "docs/latency.md": ("onnxruntime",),
    "docs/nars.md": ("sklearn",),
    "docs/weights.md": ("timm", "safetensors"),
}


def skip_without(page: Path) -> None:
    """Skips a page whose optional packages are not there."""
    needed = NEEDS.get(page.relative_to(ROOT).as_posix(), ())
    for package in needed:
        pytest.importorskip(package)
    if "onnxscript" in needed:
        from fbnet_plugin.export.onnx_file import TORCH

        found = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
        if found < TORCH:
            pytest.skip(f"exports ONNX files, which needs torch {TORCH[0]}.{TORCH[1]}")


def handler_of(command: Command) -> "tuple[Handler, List[str]]":
    """How a command is checked, and its arguments."""
    for number in range(len(command.words), 0, -1):
        handler = COMMANDS.get(" ".join(command.words[:number]))
        if handler:
            return handler, list(command.words[number:])
    raise AssertionError(f"{command}: say in COMMANDS how this is checked")


def carry_out(shop: Workshop, block: Block) -> None:
    """Runs or checks a block, according to its language."""
    if block.language == "python":
        shop.python(block)
    elif block.language == "yaml":
        shop.yaml(block)
    elif block.language in ("bash", "console"):
        for command in commands(block):
            handler, argv = handler_of(command)
            try:
                said = handler(shop, argv)
            except Exception as error:
                raise AssertionError(f"{command}\n{error}") from error
            if any(tool in str(command) for tool in EXACT):
                assert not missing_lines(command.printed, said), f"{command} prints\n{said}"


@each_page
def test_blocks_say_their_language(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.place}: {block.language!r} is none of {LANGUAGES}"


@each_page
def test_commands_are_classified(page: Path) -> None:
    for block in blocks(page):
        if block.language in ("bash", "console"):
            for command in commands(block):
                handler_of(command)


@each_page
def test_blocks_work_in_the_order_of_the_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without(page)
    shop = Workshop(tmp_path, monkeypatch)
    for block in blocks(page):
        try:
            carry_out(shop, block)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{block.place}: {type(error).__name__}: {error}") from error


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}; there are {', '.join(anchors(target))}"


def test_every_page_of_docs_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md") if "://" not in link}
    assert set((ROOT / "docs").glob("*.md")) <= linked


def test_every_tool_has_its_place_in_the_documentation() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    internal = {"make_venv.py", "install_detectron2.py"}  # make and the installation call them
    for tool in sorted((ROOT / "tools").glob("*.py")):
        assert tool.name in internal or f"tools/{tool.name}" in text, f"no page speaks of {tool.name}"


@each_page
def test_architectures_named_as_code_exist(page: Path) -> None:
    """Names such as `fbnet_v3_a` in the running text are of the zoo."""
    found = re.findall(r"`(fbnet(?:_v[23])?_[a-z0-9](?:_det)?)`", page.read_text(encoding="utf-8"))
    for name in set(found):
        get_arch(name)


@each_page
def test_files_and_keys_named_in_the_text_exist(page: Path) -> None:
    """Paths such as tools/train_net.py and config keys such as MODEL.FBNET.ARCH, wherever a page names them."""
    text = page.read_text(encoding="utf-8")
    for path in set(re.findall(r"(?<![\w/.-])(?:tools|benchmarks|tests|configs|fbnet_plugin)/[\w/.-]*\.\w+", text)):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
    cfg = load_config()
    for key in set(
        re.findall(r"\b(?:MODEL|SOLVER|INPUT|DATASETS|TEST|DNAS|LATENCY|NARS)(?:\.[A-Z][A-Z0-9_]*[A-Z0-9])+", text)
    ):
        node = cfg
        for part in key.split("."):
            assert part in node, f"{page.name} names {key}"
            node = node[part]


# ---------------------------------------------------------------------------------------------
# The check itself
# ---------------------------------------------------------------------------------------------


def block(language: str, *lines: str) -> Block:
    return Block(ROOT / "README.md", 1, language, "\n".join(lines))


class TestTheCheckFails:
    """What is wrong in a page is found."""

    @pytest.fixture
    def shop(self, tmp_path, monkeypatch):
        return Workshop(tmp_path, monkeypatch)

    @pytest.mark.parametrize(
        "line, message",
        [
            ("python tools/no_such_tool.py", "say in COMMANDS"),
            ("python tools/list_archs.py --no-such-flag", "unrecognized arguments: --no-such-flag"),
            ("python tools/list_archs.py fbnet_v9", "fbnet_v9"),
            ("python tools/train_net.py --config-file No/such.yaml", "no such file"),
            ("python tools/train_net.py --config-file nars/digits.yaml SOLVER.BASE_LRR 1", "unknown key"),
            ("python tools/train_net.py --config-file Digits/fbnet_v3_a_dsmask_tiny_digits.yaml MODEL.WEIGHTS a.pth",
             "nothing before this writes a.pth"),
            ("python tools/benchmark_latency.py --space fbnet --runtime fast --output t.json", "invalid choice"),
            ("make tests", "the Makefile has no tests"),
            ("pip install '.[extra]'", "no extra extra"),
        ],
    )  # fmt: skip
    def test_commands(self, shop, line, message):
        with pytest.raises(Exception, match=message):
            carry_out(shop, block("bash", line))

    def test_what_is_shown_must_be_printed(self, shop):
        shown = ["$ python tools/list_archs.py fbnet_a", "...", "fbnet_z  1 2 3"]
        with pytest.raises(AssertionError, match="prints"):
            carry_out(shop, block("console", *shown))

    def test_python(self, shop):
        with pytest.raises(ImportError):
            carry_out(shop, block("python", "from fbnet_plugin.arch import no_such_name"))

    def test_yaml(self, shop):
        with pytest.raises(Exception, match="ARCHITECTURE"):
            carry_out(shop, block("yaml", "MODEL:", "  FBNET: {ARCHITECTURE: fbnet_a}"))

    def test_commands_are_read_as_a_shell_reads_them(self):
        found = commands(block("bash", "A=1 python x.py \\", "    'a b'  # a comment", "", "cd x && make demo"))
        assert [one.words for one in found] == [("python", "x.py", "a b"), ("cd", "x"), ("make", "demo")]
        assert found[0].env == {"A": "1"} and os.path.basename(found[2].place) == "README.md:4"
