"""The predictor as a file of tensors and plain data, which is read without running any code of it."""

from __future__ import annotations

import dataclasses
import io
import os
from typing import Any, Optional, Union

import torch

from fbnet_plugin.atomic_file import atomic_write

from .errors import NARSError
from .predictor import Fitted, Predictor
from .predictor_net import AccuracyHead, Dense
from .predictor_settings import PredictorSettings
from .predictor_target import Calibration, Target

FORMAT = "fbnet_plugin accuracy predictor"
VERSION = 1
PathLike = Union[str, "os.PathLike[str]"]


def save_predictor(predictor: Predictor, path: PathLike) -> None:
    """Writes a predictor, fitted or not; the file is there as a whole or not at all."""
    data = {
        "format": FORMAT,
        "version": VERSION,
        "arch_width": predictor.arch_width,
        "width": predictor.width,
        "statistics": list(predictor.statistics),
        "settings": predictor.settings.to_dict(),
        "seed": predictor.seed,
        "pretrained": predictor.pretrained,
        "encoder": predictor.encoder.tensors(),
        "fitted": None if predictor.fitted is None else _fitted_to_dict(predictor.fitted),
    }
    buffer = io.BytesIO()  # a zip archive is written back and forth
    torch.save(data, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def load_predictor(path: PathLike) -> Predictor:
    """The predictor of a file; its predictions are those of the saved one, bit for bit, and so are its later fits.

    Raises:
        NARSError: the file cannot be read, is truncated, is something else, or is of another version.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            content = file.read()
    except OSError as error:
        raise NARSError(f"cannot read the accuracy predictor {name}: {error.strerror or error}") from None
    try:
        data = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # what a broken file raises depends on where it is broken
        raise NARSError(
            f"{name}: no accuracy predictor, or a truncated one; expected what save_predictor wrote"
        ) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise NARSError(f"{name}: no accuracy predictor; expected what save_predictor wrote")
    if data.get("version") != VERSION:
        raise NARSError(f"{name}: an accuracy predictor of version {data.get('version')}, expected version {VERSION}")
    try:
        return _predictor(data)
    except (NARSError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise NARSError(f"{name}: an accuracy predictor with bad content: {error}") from None


def _predictor(data: dict[str, Any]) -> Predictor:
    settings = PredictorSettings(**data["settings"])
    predictor = Predictor(data["arch_width"], data["width"], data["statistics"], settings, data["seed"])
    _restore(predictor.encoder, data["encoder"], "encoder")
    predictor.pretrained = bool(data["pretrained"])
    predictor.fitted = None if data["fitted"] is None else _fitted(data["fitted"], predictor)
    return predictor


def _fitted_to_dict(fitted: Fitted) -> dict[str, Any]:
    return {
        "encoder": fitted.encoder.tensors(),
        "head": [part.tensors() for part in fitted.head.parts()],
        "target": dataclasses.asdict(fitted.target),
        "calibration": dataclasses.asdict(fitted.calibration),
    }


def _fitted(data: dict[str, Any], predictor: Predictor) -> Fitted:
    encoder = predictor.encoder.repeated(1)
    _restore(encoder, data["encoder"], "fitted encoder")
    settings = predictor.settings
    head = AccuracyHead(settings.members, predictor.arch_width, predictor.width, settings, torch.Generator())
    if len(data["head"]) != len(head.parts()):
        raise ValueError(f"{len(data['head'])} layers of the accuracy head, expected {len(head.parts())}")
    for number, (part, tensors) in enumerate(zip(head.parts(), data["head"])):
        _restore(part, tensors, f"accuracy head, layer {number}")
    return Fitted(encoder, head, Target(**data["target"]), Calibration(**data["calibration"]))


def _restore(layer: Dense, tensors: Any, name: str) -> None:
    weight, bias = tensors
    for own, new in ((layer.weight, weight), (layer.bias, bias)):
        problem: Optional[str] = None
        if not isinstance(new, torch.Tensor) or new.shape != own.shape or new.dtype != own.dtype:
            problem = f"expected a tensor of shape {tuple(own.shape)}, {own.dtype}"
        elif not torch.isfinite(new).all():
            problem = "expected finite numbers"
        if problem:
            raise ValueError(f"{name}: {problem}")
    layer.weight, layer.bias = weight, bias
