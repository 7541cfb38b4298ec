"""Files made by hand to break a reader: each gives an ArchError with the reason, or a spec, and soon."""

from __future__ import annotations

import time

import pytest
from round_trip import check

from fbnet_plugin.arch import ArchError, load_arch, parse_arch
from fbnet_plugin.arch.block_base import MAX_BLOCKS
from fbnet_plugin.arch.plain_yaml import MAX_TEXT
from fbnet_plugin.arch.zoo import ZOO

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # an overflow is only a warning in NumPy

TEXT = (ZOO / "fbnet_v3_a.yaml").read_text(encoding="utf-8")
VALID = "".join(line for line in TEXT.splitlines(True) if not line.startswith("notes:"))

BOMB = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefghi", "bcdefghij"))
MERGE_BOMB = "a: &a {k: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 10)}]}}\n" for a, b in zip("abcdefghi", "bcdefghij")
)
ROW = "  - {op: mb, kernel: 3, expansion: 6, out: 16}\n"

# What a file holds, and what is said about it.
BAD = {
    "empty": ("", "got None, expected a mapping with name, resolution and stages"),
    "only a comment": ("# nothing\n", "got None, expected a mapping"),
    "two documents": (VALID + "---\n" + VALID, "line 28: but found another document"),
    "list": ("- 1\n- 2\n", "got [1, 2], expected a mapping"),
    "scalar": ("fbnet", "got 'fbnet', expected a mapping"),
    "alias bomb": (BOMB + VALID, "line 6: more than 100000 values"),
    "alias bomb as value": (VALID + f"notes: {{{BOMB.replace(chr(10), ', ')}}}", "line 28: more than 100000 values"),
    "alias bomb as key": (
        VALID + "? [" + BOMB.replace("\n", ", ") + "]\n: 1\n",
        "line 28: a list or mapping as key, expected a word",
    ),
    "merge bomb": (MERGE_BOMB + VALID, "line 6: more than 100000 values"),
    "list that holds itself": (
        VALID.replace("stages:", "stages: &a [*a]\nnotes:"),
        "line 10: an alias stands inside the value that it refers to",
    ),
    "mapping that holds itself": (
        VALID + "notes: &a {a: *a}\n",
        "line 28: an alias stands inside the value that it refers to",
    ),
    "merge of itself": (VALID + "notes: &a {<<: *a}\n", "line 28: an alias stands inside the value that it refers to"),
    "unknown alias": (VALID + "notes: *nothing\n", "line 28: found undefined alias 'nothing'"),
    "key twice": (VALID + "resolution: 224\n", "line 28: key 'resolution' given twice"),
    "key twice in a block": (VALID.replace("kernel: 3,", "kernel: 3, kernel: 3,"), "line 11: key 'kernel' given twice"),
    "list as key": (VALID + "? [a]\n: 1\n", "line 28: a list or mapping as key, expected a word"),
    "mapping as key": (VALID + "? {a: 1}\n: 1\n", "line 28: a list or mapping as key, expected a word"),
    "null as key": (VALID + "~: 1\n", "None: unknown key, expected one of name, resolution"),
    "number as key": (VALID + "1: 1\n", "1: unknown key"),
    "NaN as key": (VALID + ".nan: 1\n", "nan: unknown key"),
    "surrogate as key": (VALID + '"\\ud800": 1\n', "'\\ud800': unknown key"),
    "deep lists": (VALID + "notes: " + "[" * 100_000, "not valid YAML: nested too deeply"),
    "deep blocks": (
        VALID + "notes:\n" + "".join(" " * i + "- \n" for i in range(1, 400)),
        "notes: got [[[...]]], expected a text",
    ),
    "tag of Python": (
        VALID + "notes: !!python/object/apply:os.system [echo]\n",
        "line 28: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply",
    ),
    "unknown tag": (VALID + "notes: !fbnet x\n", "line 28: could not determine a constructor for the tag '!fbnet'"),
    "binary": (VALID + "notes: !!binary aGVsbG8=\n", "notes: got b'hello', expected a text"),
    "not base 64": (VALID + "notes: !!binary \u00e9\n", "line 28: failed to convert base64 data"),
    "set": (VALID + "notes: !!set {a, b}\n", "notes: got {'a', 'b'}, expected a text"),
    "ordered map as stages": (
        VALID.replace("stages:", "stages: !!omap [a: 1]\nnotes:"),
        "stages[0].blocks: got ('a', 1), expected a list of blocks",
    ),
    "timestamp": (VALID + "notes: 2020-01-01\n", "notes: got datetime.date(2020, 1, 1), expected a text"),
    "impossible timestamp": (
        VALID + "notes: 2020-13-41\n",
        "line 28: '2020-13-41' is no timestamp ('month must be in 1..12')",
    ),
    "integer tag on a word": (VALID.replace("resolution: 224", "resolution: !!int px"), "line 4: 'px' is no int ("),
    "bool tag on a word": (
        VALID.replace("resolution: 224", "resolution: !!bool maybe"),
        "line 4: 'maybe' is no bool (",
    ),
    "not printable": (VALID + "notes: \x07\n", "character 1531 is not printable"),
    "NUL": (VALID + "\x00", "character 1524 is not printable"),
    "tab": (
        VALID.replace("stages:\n- -", "stages:\n\t- -"),
        "line 11: found character '\\t' that cannot start any token",
    ),
    "huge integer": (
        VALID.replace("resolution: 224", "resolution: " + "9" * 5000),
        "line 4: a number of 5000 characters, expected at most 40",
    ),
    "huge hexadecimal": (
        VALID.replace("resolution: 224", "resolution: 0x" + "f" * 100_000),
        "line 4: a number of 100002 characters, expected at most 40",
    ),
    "huge base 60": (
        VALID.replace("resolution: 224", "resolution: 1" + ":1" * 100_000),
        "line 4: a number of 200001 characters, expected at most 40",
    ),
    "long text": (VALID + "#" * MAX_TEXT, "is too long, expected at most 262144 characters"),
    "bool as integer": (
        VALID.replace("resolution: 224", "resolution: true"),
        "resolution: got True, expected an integer from 1 to 8192",
    ),
    "float as integer": (
        VALID.replace("resolution: 224", "resolution: 224.0"),
        "resolution: got 224.0, expected an integer",
    ),
    "text as integer": (
        VALID.replace("resolution: 224", "resolution: '224'"),
        "resolution: got '224', expected an integer",
    ),
    "null as integer": (
        VALID.replace("resolution: 224", "resolution: null"),
        "resolution: got None, expected an integer",
    ),
    "list as integer": (
        VALID.replace("resolution: 224", "resolution: [224, 224]"),
        "resolution: got [224, 224], expected an integer",
    ),
    "zero": (VALID.replace("resolution: 224", "resolution: 0"), "resolution: got 0, expected an integer"),
    "negative": (VALID.replace("resolution: 224", "resolution: -224"), "resolution: got -224, expected an integer"),
    "too small an image": (
        VALID.replace("resolution: 224", "resolution: 8"),
        "stages[3].blocks[0]: the 1x1 px input leaves no output pixel; use a larger resolution",
    ),
    "NaN": (
        VALID.replace("expansion: 5,", "expansion: .nan,"),
        "stages[2].blocks[0].expansion: got nan, expected a number from 0.01 to 64",
    ),
    "infinity": (
        VALID.replace("expansion: 5,", "expansion: .inf,"),
        "stages[2].blocks[0].expansion: got inf, expected a number",
    ),
    "beyond a double": (
        VALID.replace("expansion: 5,", "expansion: 1.0e+999,"),
        "stages[2].blocks[0].expansion: got inf, expected a number",
    ),
    "tiny expansion": (
        VALID.replace("expansion: 5,", "expansion: 1.0e-300,"),
        "stages[2].blocks[0].expansion: got 1e-300, expected a number",
    ),
    "even kernel": (
        VALID.replace("kernel: 5,", "kernel: 4,"),
        "stages[1].blocks[0].kernel: got 4, expected an odd integer from 1 to 31",
    ),
    "no stages": (VALID[: VALID.index("stages:")], "stages: is missing"),
    "empty stages": (VALID[: VALID.index("stages:")] + "stages: []\n", "stages: is empty, expected at least one stage"),
    "empty stage": (
        VALID[: VALID.index("stages:")] + "stages: [[]]\n",
        "stages[0]: is empty, expected at least one block",
    ),
    "stage of a stage": (
        VALID[: VALID.index("stages:")] + "stages: [[[{op: skip, out: 8}]]]\n",
        "stages[0].blocks[0]: got [{'op': 'skip', 'out': 8}], expected a mapping such as {op: mb",
    ),
    "no name": (VALID.replace("name: fbnet_v3_a\n", ""), "name: is missing"),
    "name of two lines": (
        VALID.replace("name: fbnet_v3_a\n", 'name: "a\\nb"\n'),
        "name: got 'a\\nb', expected a text of 1 to 100 printable characters",
    ),
    "surrogate in the notes": (
        VALID + 'notes: "\\ud800"\n',
        "notes: got '\\ud800', expected a text of at most 4000 characters",
    ),
    "no such code point": (VALID + 'notes: "\\U00110000"\n', "chr() arg not in range"),
    "too many copies": (
        VALID.replace("repeat: 2", "repeat: 1024"),
        "stages[0].blocks[1].repeat: got 1024, expected an integer from 1 to 512",
    ),
    "too many copies in all": (
        VALID.replace("repeat: 2", "repeat: 512"),
        "stages: 541 blocks (copies counted) in all, expected at most 512",
    ),
    "too many rows": (
        VALID.replace("stages:\n", "stages:\n- -" + ROW[3:] + ROW * MAX_BLOCKS),
        "stages: 544 blocks (copies counted) in all, expected at most 512",
    ),
    "beyond 64 bits": (
        "name: n\nresolution: 8192\nstages:\n- - {op: conv, out: 65536}\n  - {op: conv, out: 65536}\n",
        "stages[0].blocks[1]: 2.59e+18 MACs or parameters on the 8192x8192 px input, expected at most",
    ),
    "head without a mapping": (
        VALID[: VALID.index("head:")] + "head: [1]\n",
        "head: got [1], expected a mapping with blocks and num_classes",
    ),
    "classes beyond reason": (
        VALID.replace("num_classes: 1000", "num_classes: 1000000000000"),
        "head.num_classes: got 1000000000000, expected an integer from 1 to 16777216",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_texts_are_errors_with_the_reason(case: str) -> None:
    text, reason = BAD[case]
    assert check(text) is None
    with pytest.raises(ArchError) as caught:
        start = time.process_time()
        parse_arch(text)
    assert time.process_time() - start < 5  # 0.1 s, but 1 s for the long ones
    assert reason in str(caught.value)


GOOD = {
    "an alias for a block": VALID.replace(
        "  - {op: mb, kernel: 5, expansion: 6, out: 224}\n",
        "  - &last {op: mb, kernel: 5, expansion: 6, out: 224}\n  - *last\n",
    ),
    "a merge key": VALID.replace(
        "  - {op: mb, kernel: 5, expansion: 6, out: 224}\n",
        "  - &last {op: mb, kernel: 5, expansion: 6, out: 224}\n  - {<<: *last, kernel: 3}\n",
    ),
    "byte order mark": "\ufeff" + VALID,
    "Windows line ends": VALID.replace("\n", "\r\n"),
    "hexadecimal": VALID.replace("resolution: 224", "resolution: 0xe0"),
    "all the copies there may be": VALID.replace("repeat: 2", "repeat: 400"),
    "the largest image": VALID.replace("resolution: 224", "resolution: 8192"),
}


@pytest.mark.parametrize("case", GOOD)
def test_unusual_texts_are_specs(case: str) -> None:
    assert GOOD[case] != VALID
    assert check(GOOD[case]) is not None


def test_unreadable_files_are_errors(tmp_path) -> None:
    latin1 = tmp_path / "latin1.yaml"
    latin1.write_bytes(VALID.encode() + b"# \xe9\n")
    for path in (tmp_path, tmp_path / "absent.yaml", latin1, f"{tmp_path}/nul\0.yaml", f"{latin1}/below.yaml"):
        with pytest.raises(ArchError, match="cannot be read") as caught:
            load_arch(path)
        assert str(tmp_path) in str(caught.value)
