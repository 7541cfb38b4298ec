"""Architecture files: the only serialised form of an ``ArchSpec``, made to be read and edited.

A file is a mapping with ``name``, ``resolution``, ``stages`` (a list of stages, each a list of
blocks) and optionally ``head``, ``box_head``, ``in_channels``, ``defaults`` (per op, the fields that
a block does not give itself), ``source``, ``notes`` and ``published``.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections import Counter
from typing import Any, Dict, Iterable, List, Optional, Tuple, Type

import yaml

from .blocks import BLOCK_KINDS, BlockSpec, SESpec, block_from_dict, block_from_fields, short_key
from .errors import ArchError, short_repr, value_error
from .spec import ArchSpec, HeadSpec, Published, StageSpec

_TOP_KEYS = [field.name for field in dataclasses.fields(ArchSpec)] + ["defaults"]
_NEVER_DEFAULT = ("out", "stride", "repeat", "kernel", "expansion", "groups", "pad", "cascade")


class _Loader(yaml.SafeLoader):
    """Safe loading that refuses a key given twice instead of taking the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key_node, _ in node.value:
                key = (key_node.tag, str(key_node.value))
                if key in seen and key_node.tag != "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(None, None, f"key {key[1]!r} given twice", key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, file: Optional[str] = None) -> Any:
    """The plain data in a YAML text.

    Raises:
        ArchError: it is not YAML, a key stands twice, or it needs more than plain data.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ArchError(f"not valid YAML: {line}{error.problem or error.context}", file=file) from None
    except Exception as error:  # PyYAML lets ValueError, RecursionError, KeyError and others through
        raise ArchError(f"not valid YAML: {type(error).__name__}: {short_repr(str(error))}", file=file) from None


def read_text(path: str) -> str:
    """The text of a file.

    Raises:
        ArchError: it cannot be read or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ArchError(f"cannot be read: {reason}", file=str(path)) from None


def load_arch(path: str) -> ArchSpec:
    """The architecture in the file at ``path``.

    Raises:
        ArchError: with file, stage, block, key, value and what is accepted.
    """
    return parse_arch(read_text(path), str(path))


def parse_arch(text: str, file: Optional[str] = None) -> ArchSpec:
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
    fields = {key: value for key, value in data.items() if key not in ("defaults", "stages", "head", "box_head", "published")}
    return ArchSpec(
        stages=_read_stages(data["stages"], defaults),
        head=_read_head(data.get("head"), defaults),
        box_head=_read_blocks(data.get("box_head", []), "box_head", defaults),
        published=_read_published(data.get("published")),
        **fields,
    ).validate()


def _check_keys(data: Dict[Any, Any], known: Iterable[str], where: str = "") -> None:
    for key in data:
        if key not in known:
            place = f"{where}.{short_key(key)}" if where else short_key(key)
            raise ArchError(f"unknown key, expected one of {', '.join(known)}", place)


def read_defaults(data: Any) -> Dict[str, Dict[str, Any]]:
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


def _read_blocks(data: Any, where: str, defaults: Dict[str, Dict[str, Any]]) -> Tuple[BlockSpec, ...]:
    if not isinstance(data, list):
        raise value_error(where, data, "a list of blocks")
    blocks = []
    for number, block in enumerate(data):
        try:
            blocks.append(block_from_dict(block, defaults))
        except ArchError as error:
            raise error.inside(f"{where}[{number}]") from None
    return tuple(blocks)


def _read_stages(data: Any, defaults: Dict[str, Dict[str, Any]]) -> Tuple[StageSpec, ...]:
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


def _read_head(data: Any, defaults: Dict[str, Dict[str, Any]]) -> Optional[HeadSpec]:
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
    """
    every = [block for stage in spec.stages for block in stage.blocks] + list(spec.box_head)
    every += spec.head.blocks if spec.head else ()
    defaults = _common_values(every)
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    lines += [f"name: {_flow(spec.name)}", f"resolution: {spec.resolution}"]
    if spec.in_channels != 3:
        lines.append(f"in_channels: {spec.in_channels}")
    for key in ("source", "notes"):
        if getattr(spec, key):
            lines.append(f"{key}: {_flow(getattr(spec, key))}")
    published = {key: value for key, value in dataclasses.asdict(spec.published).items() if value is not None}
    if published:
        lines.append(f"published: {_flow(published)}")
    if defaults:
        lines.append("defaults:")
        lines += [f"  {op}: {_flow(fields)}" for op, fields in defaults.items()]
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


def save_arch(spec: ArchSpec, path: str, header: str = "") -> None:
    """Writes a spec to ``path`` through a temporary file and a rename."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".yaml.tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(dump_arch(spec, header))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _flow(value: Any) -> str:
    """One line of flow-style YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True)
    return text[:-1].replace("\n...", "") if text.endswith("\n") else text


def _plain(block: BlockSpec) -> Dict[str, Any]:
    fields = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
    if isinstance(fields.get("se"), SESpec):
        fields["se"] = dataclasses.asdict(fields["se"])
    for key in ("expansion", "floor_ratio"):
        if key in fields and float(fields[key]).is_integer():
            fields[key] = int(fields[key])
    return fields


def _class_defaults(kind: Type[BlockSpec]) -> Dict[str, Any]:
    return {key: value for key, value in _plain(kind(out=8)).items() if key != "out"}


def _common_values(blocks: List[BlockSpec]) -> Dict[str, Dict[str, Any]]:
    """Per op, the field values that most blocks share and that differ from the class's own."""
    common: Dict[str, Dict[str, Any]] = {}
    for op, kind in BLOCK_KINDS.items():
        rows = [_plain(block) for block in blocks if block.op == op]
        for key, own in _class_defaults(kind).items():
            if not rows or key in _NEVER_DEFAULT:
                continue
            text, times = Counter(_flow(row[key]) for row in rows).most_common(1)[0]
            if 2 * times > len(rows) and text != _flow(own):
                common.setdefault(op, {})[key] = yaml.safe_load(text)
    return common


def _rows(blocks: Iterable[BlockSpec], defaults: Dict[str, Dict[str, Any]], indent: str = "") -> List[str]:
    lines = []
    for block in blocks:
        given = {**_class_defaults(type(block)), **defaults.get(block.op, {})}
        fields = _plain(block)
        row = {"op": block.op}
        for key in ("kernel", "expansion", "out", "stride", "repeat"):
            if key in fields and (key in ("out", "kernel", "expansion") or fields[key] != given[key]):
                row[key] = fields[key]
        row.update({key: value for key, value in fields.items() if key not in row and value != given.get(key, value)})
        lines.append(f"{indent}- {_flow(row)}")
    return lines
