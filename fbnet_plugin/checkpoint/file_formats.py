"""Weight files of all kinds, read without running code: PyTorch's, safetensors, Detectron2's and pycls's pickles."""

from __future__ import annotations

import os
import pickle
import re
from typing import Any, Callable, Dict

import torch

from .errors import CheckpointError
from .plain_pickle import UnknownClass, load_plain

_HOW = "if you trust its source, tools/convert_weights.py --allow-pickle makes a plain file of it"
_CLASS = re.compile(r"(?:GLOBAL|Unsupported class) ([A-Za-z_][\w.]*)")
# First bytes of what is none of these, as it comes from a failed download.
_FOREIGN = {
    b"<": "it is a web page or XML, not a file of weights; the download went wrong",
    b"version https://git-lfs": "it is a pointer of Git LFS, not the file itself; fetch it with git lfs pull",
    b"{": "it is JSON, not a file of weights",
}


def read_checkpoint(path: str, allow_pickle: bool = False) -> Dict[str, Any]:
    """The content of a file of weights, tensors on the CPU.

    What the file is follows from its name: ``.safetensors``, ``.pkl`` (Detectron2's model zoo: NumPy arrays), anything
    else is PyTorch's.

    Args:
        path: of the file.
        allow_pickle: whether objects of any class may be made, which can run any code that the file holds.

    Raises:
        CheckpointError: the file is missing, empty, truncated, damaged or something else, or holds anything but
            tensors, arrays and plain containers.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"checkpoint {path}: no such file")
    if os.path.getsize(path) == 0:
        raise CheckpointError(f"checkpoint {path}: the file is empty")
    try:
        content = _reader(path)(path, allow_pickle)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {path}: cannot be read: {_foreign(path) or error}") from error.__cause__
    if not isinstance(content, dict):
        raise CheckpointError(f"checkpoint {path}: holds a {type(content).__name__}, expected a dict of tensors")
    return content


def _reader(path: str) -> Callable[[str, bool], Any]:
    suffix = os.path.splitext(path)[1]
    return {".safetensors": _read_safetensors, ".pkl": _read_pickle}.get(suffix, _read_torch)


def _foreign(path: str) -> str:
    """What a file is that cannot be read, as far as its first bytes tell, or ""."""
    with open(path, "rb") as file:
        beginning = file.read(64).lstrip()
    return next((problem for first, problem in _FOREIGN.items() if beginning.startswith(first)), "")


def _read_torch(path: str, allow_pickle: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # what torch raises depends on where the damage is
        text = str(error).strip() or type(error).__name__
        name = _CLASS.search(text)
        if name:
            raise CheckpointError(
                f"it holds a {name.group(1)}, but tensors and plain containers alone are loaded; {_HOW}"
            ) from error
        if text.startswith("Weights only load failed"):  # what follows is advice to load it unsafely
            raise CheckpointError("it is not a file of tensors that PyTorch wrote, or it is damaged") from error
        raise CheckpointError(text.splitlines()[0]) from error


def _read_safetensors(path: str, allow_pickle: bool) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError("safetensors is not installed; pip install 'fbnet_plugin[timm]'") from error
    try:
        return load_file(path, device="cpu")
    except Exception as error:
        raise CheckpointError(f"it is truncated or no safetensors file ({str(error).splitlines()[0]})") from error


def _read_pickle(path: str, allow_pickle: bool) -> Any:
    try:
        with open(path, "rb") as file:
            return pickle.load(file, encoding="latin1") if allow_pickle else load_plain(file)
    except UnknownClass as error:
        problem = f"it holds a {error}, but arrays and plain containers alone are loaded; {_HOW}"
        raise CheckpointError(problem) from error
    except Exception as error:  # a damaged pickle raises anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"it is truncated or no pickle ({reason})") from error


def as_detectron2(content: Dict[str, Any], path: str) -> Dict[str, Any]:
    """The content of a file in the form that Detectron2's checkpointer has it: the weights under "model".

    Pickles of Caffe2 and of pycls are marked for Detectron2's matching by names, as its own checkpointer does.

    Raises:
        CheckpointError: it is not in the form that such files have.
    """
    suffix = os.path.splitext(path)[1]
    if suffix == ".pyth":
        state = _named(content.get("model_state"), f'checkpoint {path}: "model_state"')
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
        return {"model": state, "__author__": "pycls", "matching_heuristics": True}
    if suffix == ".pkl" and not ("model" in content and "__author__" in content):
        state = _named(content.get("blobs", content), f"checkpoint {path}")
        state = {name: value for name, value in state.items() if not name.endswith("_momentum")}
        return {"model": state, "__author__": "Caffe2", "matching_heuristics": True}
    return content


def _named(state: Any, what: str) -> Dict[str, Any]:
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{what} is not a dict of named arrays")
    return state
