"""Architecture files: the only serialised form of an ``ArchSpec``, made to be read and edited.

A file is a mapping with ``name``, ``resolution``, ``stages`` (a list of stages, each a list of
blocks) and optionally ``head``, ``box_head``, ``in_channels``, ``defaults`` (per op, the fields that
a block does not give itself), ``source``, ``notes`` and ``published``.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import yaml

from ..atomic_file import atomic_write
from .blocks import BLOCK_KINDS, BlockSpec, SESpec, block_from_dict, block_from_fields
from .errors import ArchError, short_key, short_repr, value_error
from .mixed import MixedSpec
from .plain_yaml import parse_yaml, read_text
from .spec import ArchSpec, HeadSpec, Published, StageSpec

_TOP_KEYS = [field.name for field in dataclasses.fields(ArchSpec)] + ["defaults"]
_NEVER_DEFAULT = ("out", "stride", "repeat", "kernel", "expansion", "groups", "pad", "cascade")


def load_arch(path: str) -> ArchSpec:
    """The architecture in the file at ``path``.

    Raises:
        ArchError: with file, stage, block, key, value and what is accepted.
    """
    return parse_arch(read_text(path), str(path))


def parse_arch(text: str, file: str | None = None) -> ArchSpec:
    """The architecture in a YAML text; ``file`` is named in errors."""
    try:
        return arch_from_dict(parse_yaml(text, file))
    except ArchError as error:
        raise error.inside(file=file) from None


def arch_from_dict(data: Any) -> ArchSpec:
    """The architecture in the plain data of a file.

    Raises:
        ArchError: see ``load_arch``.
    """
    if not isinstance(data, dict):
        raise ArchError(f"got {short_repr(data)}, expected a mapping with name, resolution and stages")
    _check_keys(data, _TOP_KEYS)
    for key in ("name", "resolution", "stages"):
        if key not in data:
            raise ArchError("is missing", key)
    defaults = read_defaults(data.get("defaults"))
    parts = ("defaults", "stages", "head", "box_head", "published")
    fields = {key: value for key, value in data.items() if key not in parts}
    return ArchSpec(
        stages=_read_stages(data["stages"], defaults),
        head=_read_head(data.get("head"), defaults),
        box_head=_read_blocks(data.get("box_head", []), "box_head", defaults),
        published=_read_published(data.get("published")),
        **fields,
    ).validate()


def _check_keys(data: dict[Any, Any], known: Iterable[str], where: str = "") -> None:
    for key in data:
        if key not in known:
            place = f"{where}.{short_key(key)}" if where else short_key(key)
            raise ArchError(f"unknown key, expected one of {', '.join(known)}", place)


def read_defaults(data: Any) -> dict[str, dict[str, Any]]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise value_error("defaults", data, "a mapping from op to fields")
    _check_keys(data, BLOCK_KINDS, "defaults")
    for op, fields in data.items():
        if not isinstance(fields, dict):
            raise value_error(f"defaults.{op}", fields, "a mapping")
        try:  # a default must be good on its own, used or not
            block_from_fields(BLOCK_KINDS[op], {"out": 8, **fields})
        except ArchError as error:
            raise error.inside(f"defaults.{op}") from None
    return data


def _read_blocks(data: Any, where: str, defaults: dict[str, dict[str, Any]]) -> tuple[BlockSpec, ...]:
    if not isinstance(data, list):
        raise value_error(where, data, "a list of blocks")
    blocks = []
    for number, block in enumerate(data):
        try:
            blocks.append(block_from_dict(block, defaults))
        except ArchError as error:
            raise error.inside(f"{where}[{number}]") from None
    return tuple(blocks)


def _read_stages(data: Any, defaults: dict[str, dict[str, Any]]) -> tuple[StageSpec, ...]:
    if not isinstance(data, list):
        raise value_error("stages", data, "a list of stages, each a list of blocks")
    stages = []
    for number, blocks in enumerate(data):
        where = f"stages[{number}]"
        rows = _read_blocks(blocks, f"{where}.blocks", defaults)
        if not rows:
            raise ArchError("is empty, expected at least one block", where)
        stages.append(StageSpec(rows))
    return tuple(stages)


def _read_head(data: Any, defaults: dict[str, dict[str, Any]]) -> HeadSpec | None:
    if data is None:
        return None
    if not isinstance(data, dict):
        raise value_error("head", data, "a mapping with blocks and num_classes")
    _check_keys(data, [field.name for field in dataclasses.fields(HeadSpec)], "head")
    fields = {key: value for key, value in data.items() if key != "blocks"}
    try:
        return HeadSpec(_read_blocks(data.get("blocks", []), "blocks", defaults), **fields)
    except ArchError as error:
        raise error.inside("head") from None


def _read_published(data: Any) -> Published:
    if data is None:
        return Published()
    if not isinstance(data, dict):
        raise value_error("published", data, "a mapping")
    _check_keys(data, [field.name for field in dataclasses.fields(Published)], "published")
    try:
        return Published(**data)
    except ArchError as error:
        raise error.inside("published") from None


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------


def dump_arch(spec: ArchSpec, header: str = "") -> str:
    """The YAML text of a spec; ``parse_arch`` gives back an equal spec.

    Args:
        spec: any spec.
        header: text for a comment on top; its lines may be of any length.

    Raises:
        ArchError: the blocks do not fit each other.
    """
    spec.validate()
    for row in spec.rows():
        if isinstance(row, MixedSpec):
            raise ArchError(f"{row.variable} is still to be chosen; a file holds one network", spec.name)
    defaults = _common_values(list(spec.rows()))
    lines = ["# " + "".join(char if char.isprintable() else " " for char in line) for line in header.splitlines()]
    lines = [line.rstrip() for line in lines]
    lines += [f"name: {flow(spec.name)}", f"resolution: {spec.resolution}"]
    if spec.in_channels != 3:
        lines.append(f"in_channels: {spec.in_channels}")
    for key in ("source", "notes"):
        if getattr(spec, key):
            lines.append(f"{key}: {flow(getattr(spec, key))}")
    published = {key: value for key, value in dataclasses.asdict(spec.published).items() if value is not None}
    if published:
        lines.append(f"published: {flow(published)}")
    if defaults:
        lines.append("defaults:")
        lines += [f"  {op}: {flow(_plain(fields))}" for op, fields in defaults.items()]
    lines.append("stages:")
    for stage in spec.stages:
        rows = _rows(stage.blocks, defaults, indent="  ")
        lines += ["- " + rows[0].lstrip()] + rows[1:]
    if spec.head is not None:
        lines += ["head:", f"  num_classes: {spec.head.num_classes}"]
        if spec.head.blocks:
            lines += ["  blocks:"] + _rows(spec.head.blocks, defaults, indent="  ")
    if spec.box_head:
        lines += ["box_head:"] + _rows(spec.box_head, defaults)
    return "\n".join(lines) + "\n"


def save_arch(spec: ArchSpec, path: str | os.PathLike[str], header: str = "") -> None:
    """Writes a spec to ``path`` through a temporary file and a rename.

    Raises:
        ArchError: see ``dump_arch``; no file is touched.
        OSError: the file cannot be written; what stood there before stays.
    """
    text = dump_arch(spec, header)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def flow(value: Any) -> str:
    """One line of YAML, lists and mappings in flow style."""
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style=style, sort_keys=False, width=10**9, allow_unicode=True
    )
    for ending in ("\n", "\n..."):  # PyYAML ends a bare word with a document end
        text = text[: -len(ending)] if text.endswith(ending) else text
    return text


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a block as they stand in a file: squeeze-and-excite as a mapping, 6.0 as 6."""
    plain = dict(fields)
    if isinstance(plain.get("se"), SESpec):
        plain["se"] = dataclasses.asdict(plain["se"])
    for key in ("expansion", "floor_ratio"):
        if key in plain and plain[key].is_integer():
            plain[key] = int(plain[key])
    return plain


def _fields(block: BlockSpec) -> dict[str, Any]:
    return {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}


def _own_defaults(kind: type[BlockSpec]) -> dict[str, Any]:
    """The values of fields that a row of this kind need not give."""
    return {key: value for key, value in _fields(kind(out=8)).items() if key != "out"}


def _common_values(blocks: list[BlockSpec]) -> dict[str, dict[str, Any]]:
    """Per op, the field values that most blocks share and that differ from the kind's own."""
    common: dict[str, dict[str, Any]] = {}
    for op, kind in BLOCK_KINDS.items():
        rows = [block for block in blocks if block.op == op]
        for key, own in _own_defaults(kind).items():
            if not rows or key in _NEVER_DEFAULT:
                continue
            value, times = Counter(getattr(row, key) for row in rows).most_common(1)[0]
            if 2 * times > len(rows) and value != own:
                common.setdefault(op, {})[key] = value
    return common


def _rows(blocks: Iterable[BlockSpec], defaults: dict[str, dict[str, Any]], indent: str = "") -> list[str]:
    """One line per row: op, kernel, expansion and out always, the rest where no default gives it."""
    lines = []
    for block in blocks:
        given = {**_own_defaults(type(block)), **defaults.get(block.op, {})}
        fields = _fields(block)
        always = ("kernel", "expansion", "out")
        order = [key for key in (*always, "stride", "repeat") if key in fields]
        order += [key for key in fields if key not in order]
        row = {key: fields[key] for key in order if key in always or fields[key] != given[key]}
        lines.append(f"{indent}- {flow({'op': block.op, **_plain(row)})}")
    return lines
