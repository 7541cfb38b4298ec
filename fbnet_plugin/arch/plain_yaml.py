"""From a YAML text to plain data, in bounded time and memory whatever the text holds."""

from __future__ import annotations

from typing import Any

import yaml

from .errors import ArchError, short_repr

MAX_TEXT = 1 << 18  # characters
MAX_VALUES = 100_000  # in a file, the values behind an alias counted each time
MAX_DIGITS = 40  # characters of a number

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe loading that says which scalar does not fit its tag."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArchError, yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # ValueError, KeyError and others, each tag has its own
            kind = node.tag.rpartition(":")[2]
            raise _error(node, f"{short_repr(node.value)} is no {kind} ({short_repr(str(error))})") from None


def read_text(path: str) -> str:
    """The text of a file, cut where it is longer than ``parse_yaml`` accepts.

    Raises:
        ArchError: it cannot be read or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MAX_TEXT + 1)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ArchError(f"cannot be read: {reason}", file=str(path)) from None


def parse_yaml(text: str, file: str | None = None) -> Any:
    """The plain data in a YAML text.

    Raises:
        ArchError: it is not YAML, a key stands twice, it needs more than plain data, or it is larger
            than an architecture can be.
    """
    if len(text) > MAX_TEXT:
        raise ArchError(f"is too long, expected at most {MAX_TEXT} characters", file=file)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return loader.construct_document(node)
    except ArchError as error:
        raise error.inside(file=file) from None
    except RecursionError:
        raise ArchError("not valid YAML: nested too deeply", file=file) from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = str(error.problem or error.context).replace("\n", " ")
        raise ArchError(f"not valid YAML: {line}{problem}", file=file) from None
    except yaml.reader.ReaderError as error:
        problem = f"character {error.position + 1} is not printable"
        raise ArchError(f"not valid YAML: {problem}", file=file) from None
    except Exception as error:  # such as chr() of a number that is no character
        raise ArchError(f"not valid YAML: {type(error).__name__}: {short_repr(str(error))}", file=file) from None


def _count_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values in and below ``node``; ``known`` holds those counted before, 0 while counting.

    Raises:
        ArchError: a value that refers to itself, a key that stands twice or is no scalar, a very long
            number, or more than ``MAX_VALUES`` values.
    """
    if isinstance(node, yaml.ScalarNode):
        if node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
            raise _error(node, f"a number of {len(node.value)} characters, expected at most {MAX_DIGITS}")
        return 1
    if id(node) in known:
        if known[id(node)] == 0:
            raise _error(node, "an alias stands inside the value that it refers to")
        return known[id(node)]
    known[id(node)] = 0
    total = 1
    for child in _children(node):
        total += _count_values(child, known)
        if total > MAX_VALUES:
            raise _error(node, f"more than {MAX_VALUES} values")
    known[id(node)] = total
    return total


def _children(node: Any) -> list[yaml.Node]:
    """Items of a list, or keys and values of a mapping."""
    if not isinstance(node, yaml.MappingNode):
        return node.value
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error(key, "a list or mapping as key, expected a word")
        if (key.tag, key.value) in seen and key.tag != _MERGE:
            raise _error(key, f"key {short_repr(key.value)} given twice")
        seen.add((key.tag, key.value))
    return [child for pair in node.value for child in pair]


def _error(node: yaml.Node, problem: str) -> ArchError:
    return ArchError(f"not valid YAML: line {node.start_mark.line + 1}: {problem}")
