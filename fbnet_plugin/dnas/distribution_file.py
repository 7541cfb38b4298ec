"""The file of a distribution: JSON that can be read without this project."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fbnet_plugin.arch import ArchError
from fbnet_plugin.arch.errors import short_key, short_repr
from fbnet_plugin.arch.space import space_from_dict
from fbnet_plugin.atomic_file import atomic_write

from .candidates import candidate_names
from .distribution import Distribution, check_rows
from .errors import SearchError

FORMAT = "fbnet_plugin distribution 1"

_KEYS = (
    "format", "resolution", "epoch", "iteration", "temperature", "latency_table", "target_us", "fixed_us", "layers",
    "space",
)  # fmt: skip
_LAYER_KEYS = ("variable", "candidates", "theta", "probability", "latency_us")


def save_distribution(distribution: Distribution, path: "str | os.PathLike[str]") -> None:
    """Writes a distribution as JSON, which gives every number back exactly; the file appears complete or not at all.

    Keys: those of ``Distribution``, with a list ``layers`` of ``variable``, ``candidates`` (names), ``theta``,
    ``probability`` and ``latency_us``, and the data of the space's file as ``space``.

    Raises:
        SearchError: the space holds what JSON cannot.
        OSError: the file cannot be written; what stood there before stays.
    """
    one = distribution
    names, probabilities = candidate_names(one.space), one.probabilities()
    layers = [
        {
            "variable": variable.name,
            "candidates": names[i],
            "theta": one.theta[i],
            "probability": probabilities[i].tolist(),
            "latency_us": None if one.latency_us is None else one.latency_us[i],
        }
        for i, variable in enumerate(one.space.variables)
    ]
    values = {"format": FORMAT, **{key: getattr(one, key) for key in _KEYS[1:-2]}}
    lines = [f"{json.dumps(key)}: {_json(value)}" for key, value in values.items()]
    lines.append('"layers": [\n  ' + ",\n  ".join(_json(layer) for layer in layers) + "\n ]")
    lines.append(f'"space": {_json(one.space.to_dict())}')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        file.write(("{\n " + ",\n ".join(lines) + "\n}\n").encode())


def _json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise SearchError(f"JSON cannot hold a value of the distribution: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{short_repr(value)} is of type {type(value).__name__}")


def load_distribution(path: "str | os.PathLike[str]") -> Distribution:
    """Reads a distribution.

    Raises:
        SearchError: no such file, not a distribution, or a bad value; names file, key, value and what is accepted.
    """
    file = os.fspath(path)
    try:
        with open(file, encoding="utf-8") as stream:
            data = json.load(stream, parse_constant=_refuse)
    except OSError as error:
        raise SearchError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SearchError(f"{file}: not a distribution ({error})") from None
    try:
        return _from_dict(data)
    except ArchError as error:
        raise SearchError(str(error.inside("space", file))) from None
    except SearchError as error:
        raise SearchError(f"{file}: {error}") from None
    except RecursionError:
        raise SearchError(f"{file}: space: is nested too deeply") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _from_dict(data: Any) -> Distribution:
    found = data.get("format") if isinstance(data, dict) else data
    if found != FORMAT:
        raise SearchError(f"format: got {short_repr(found)}, expected {FORMAT!r}")
    _check_keys(data, _KEYS)
    space = space_from_dict(data["space"])
    layers = data["layers"]
    if not isinstance(layers, list) or len(layers) != len(space.variables):
        got = f"{len(layers)} layers" if isinstance(layers, list) else short_repr(layers)
        raise SearchError(f"layers: got {got}, expected a list of {len(space.variables)}, as the space has variables")
    for i, (layer, variable, names) in enumerate(zip(layers, space.variables, candidate_names(space))):
        if not isinstance(layer, dict):
            raise SearchError(f"layers[{i}]: got {short_repr(layer)}, expected a mapping")
        _check_keys(layer, _LAYER_KEYS, f"layers[{i}].")
        for key, wanted in (("variable", variable.name), ("candidates", names)):
            if layer[key] != wanted:
                text = f"{wanted!r}, as in the space"
                raise SearchError(f"layers[{i}].{key}: got {short_repr(layer[key])}, expected {text}")
    latency = [layer["latency_us"] for layer in layers]
    values = {key: data[key] for key in _KEYS if key not in ("format", "layers", "space")}
    none = all(row is None for row in latency)
    one = Distribution(space, [layer["theta"] for layer in layers], None if none else latency, **values)  # type: ignore
    _check_probabilities(one, layers)
    return one


def _check_keys(data: Mapping[str, Any], known: Sequence[str], place: str = "") -> None:
    for key in data:
        if key not in known:
            raise SearchError(f"{place}{short_key(key)}: unknown key, expected one of {', '.join(known)}")
    for key in known:
        if key not in data:
            raise SearchError(f"{place}{key}: is missing")


def _check_probabilities(one: Distribution, layers: Sequence[Mapping[str, Any]]) -> None:
    """Raises SearchError: a layer's ``probability`` is not that of its theta, so one of them was changed."""
    read = check_rows("probability", [layer["probability"] for layer in layers], one.space)
    for i, (given, p) in enumerate(zip(read, one.probabilities())):
        if not np.allclose(given, p, rtol=1e-6, atol=1e-9):
            raise SearchError(f"layers[{i}].probability: got {short_repr(list(given))}, expected the softmax of theta")
