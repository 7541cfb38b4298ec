"""Config files and ``KEY VALUE`` pairs: found, merged, and explained where they are wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.file_io import PathManager

from fbnet_plugin.config import add_fbnet_config

from .errors import ConfigError, did_you_mean

BASE_KEY = "_BASE_"
SCHEME = "fbnet_plugin://"  # before the name of a shipped config, see config_url.py
_PACKAGE = Path(__file__).resolve().parent.parent


def config_folders() -> List[Path]:
    """Where the project's own configs are: in the installed package, or beside it in a checkout."""
    return [folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()]


def find_config(name: str) -> str:
    """Path of a config that is named by its path, or by its path below the project's folder of configs.

    The second kind may have ``fbnet_plugin://`` before it, and is then looked for there alone. Other addresses, such
    as those of https, are returned as they are.

    Raises:
        ConfigError: there is no such file.
    """
    if name.startswith(SCHEME):
        return shipped_config(name[len(SCHEME) :])
    return name if "://" in name or Path(name).is_file() else shipped_config(name)


def shipped_config(name: str) -> str:
    """Path of a config of this project.

    Args:
        name: its path below the folder of configs, such as ``COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml``.

    Raises:
        ConfigError: there is no such file; the message suggests the nearest.
    """
    folders = config_folders()
    for folder in folders:
        if (folder / name).is_file():
            return os.path.normpath(folder / name)
    ours = [path.relative_to(folder).as_posix() for folder in folders for path in _configs(folder)]
    raise ConfigError(f"config file {name!r}: no such file{did_you_mean(name, ours)}")


def _configs(folder: Path) -> List[Path]:
    return [path for path in folder.rglob("*.*") if path.suffix in (".yaml", ".py")]


def load_config(config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """Detectron2's defaults, the project's, a file and its bases, and single values, in this order.

    Args:
        config_file: see ``find_config``; "" for none.
        opts: alternately keys and values, as on the command line.

    Raises:
        ConfigError: a file is missing or malformed, a key is unknown, a value has the wrong type.
    """
    cfg = get_cfg()
    add_fbnet_config(cfg)
    if config_file:
        _merge_file(cfg, find_config(config_file))
    merge_opts(cfg, list(opts))
    return cfg


def _merge_file(cfg: CfgNode, path: str) -> None:
    try:
        cfg.merge_from_file(path, allow_unsafe=False)
    except Exception as error:  # of many types; what went wrong is looked for in the files
        for file, data in _files(path):
            _check(data, cfg, file)
        raise ConfigError(f"{path}: {_first_line(error)}") from error


def _files(path: str, seen: Tuple[str, ...] = ()) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The file and the files that it is based on, each with its own content."""
    if path in seen:
        raise ConfigError(f"{path}: is based on itself ({BASE_KEY}) through {', '.join(seen[1:]) or 'its own key'}")
    data = _parse(path, seen)
    bases = data.pop(BASE_KEY, [])
    for base in bases if isinstance(bases, list) else [bases]:
        yield from _files(base_path(str(base), path), (*seen, path))
    yield path, data


def base_path(base: str, file: str) -> str:
    """Path of what ``file`` names as its base: relative to the file as Detectron2 understands it, or a shipped config.

    Raises:
        ConfigError: no such config is shipped.
    """
    if base.startswith(SCHEME):
        try:
            return find_config(base)
        except ConfigError as error:
            raise ConfigError(f"{file}: {BASE_KEY}: {error}") from None
    if base.startswith("~"):
        base = str(Path(base).expanduser())
    return base if base.startswith(("/", "https://", "http://")) else str(Path(file).parent / base)


def _parse(path: str, seen: Tuple[str, ...]) -> Dict[str, Any]:
    try:
        with PathManager.open(path, "r") as file:
            data = yaml.safe_load(file)
    except OSError as error:
        based = f"{seen[-1]}: {BASE_KEY}: " if seen else ""
        raise ConfigError(f"{based}{path}: cannot be read ({error})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: {place}not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {_first_line(error)}") from None
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{path}: holds {found}, expected keys such as MODEL: and SOLVER:")
    return data


def _check(data: Dict[str, Any], known: CfgNode, source: str, where: Tuple[str, ...] = ()) -> None:
    """Compares the content of a file with the keys that there are."""
    node = known
    for part in where:
        node = node[part]
    for key, value in data.items():
        full_key = ".".join((*where, str(key)))
        if key not in node:
            raise _unknown_key(known, full_key, source)
        if not isinstance(node[key], CfgNode):
            _set(known.clone(), full_key, value, source)
        elif isinstance(value, dict):
            _check(value, known, source, (*where, key))
        else:
            some = _some_key(node[key])
            raise ConfigError(f"{source}: {full_key} is {value!r}, expected keys below it, such as {some}")


def merge_opts(cfg: CfgNode, opts: List[Any], source: str = "command line") -> None:
    """Puts single values into a config, in place.

    Args:
        cfg: not frozen.
        opts: alternately keys and values.
        source: of these, for messages.

    Raises:
        ConfigError: a key is unknown, or a value is missing or has the wrong type.
    """
    for key in opts[::2]:
        if key.startswith("-"):
            raise ConfigError(f"{source}: {key} must stand before the first KEY VALUE pair")
        if "=" in key:
            raise ConfigError(f"{source}: {key!r}: expected KEY VALUE with a space between them")
    if len(opts) % 2:
        raise ConfigError(f"{source}: {opts[-1]!r} has no value; expected KEY VALUE pairs")
    for key, value in zip(opts[::2], opts[1::2]):
        node: Any = cfg
        for part in key.split("."):
            if not isinstance(node, CfgNode) or part not in node:
                raise _unknown_key(cfg, key, source)
            node = node[part]
        if isinstance(node, CfgNode):
            raise ConfigError(f"{source}: {key} is not a value but a group of keys, such as {_some_key(node)}")
        if isinstance(node, float) and (type(value) is int or isinstance(value, str) and value.strip("+-").isdecimal()):
            value = float(value)  # 25000 is as good a number of µs as 25000.0
        _set(cfg, key, value, source)


def _set(cfg: CfgNode, key: str, value: Any, source: str) -> None:
    """Sets one value, converted and checked as Detectron2 does it."""
    old: Any = cfg
    for part in key.split("."):
        old = old[part]
    try:
        cfg.merge_from_list([key, value])
    except (ValueError, AssertionError):
        kind = type(old).__name__
        raise ConfigError(f"{source}: {key} is {value!r}, expected a value of type {kind}, such as {old!r}") from None


def _unknown_key(cfg: CfgNode, key: str, source: str) -> ConfigError:
    known = list(_leaves(cfg))
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    hint = did_you_mean(key, known) or (f"; did you mean {' or '.join(same[:3])}?" if same else did_you_mean(key, cfg))
    return ConfigError(f"{source}: unknown key {key}{hint}")


def _leaves(node: CfgNode, where: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield where + key
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{where}{key}.")


def _some_key(node: CfgNode) -> str:
    return next(iter(node), "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
