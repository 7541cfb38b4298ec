"""TorchScript files by tracing."""

from __future__ import annotations

import io
import json
from typing import Any, Dict, Tuple

import torch

from ..latency.measure.onnx_runner import quiet
from .errors import ExportError
from .exportable import Exportable, Feed, Outputs
from .prepare import prepared

METADATA = "metadata.json"  # extra file in the archive


def torchscript_bytes(exportable: Exportable) -> bytes:
    """The network as a TorchScript archive: traced, batch norms folded, frozen; the metadata is in ``METADATA``.

    ``forward`` takes the inputs by position and gives a tuple of tensors.

    Raises:
        ExportError: the network cannot be traced.
    """
    examples = tuple(exportable.inputs.values())
    module = prepared(exportable)
    with quiet(), torch.no_grad():
        try:
            traced = torch.jit.freeze(torch.jit.trace(module, examples, check_trace=False, strict=False).eval())
        except Exception as error:  # of many kinds
            raise ExportError(f"torch.jit.trace of torch {torch.__version__} failed: {error}") from error
        buffer = io.BytesIO()
        described = {**exportable.metadata, "inputs": list(exportable.inputs), "outputs": list(exportable.outputs)}
        torch.jit.save(traced, buffer, _extra_files={METADATA: json.dumps(described)})
    return buffer.getvalue()


class TorchScriptNetwork:
    """A TorchScript archive, loaded on the CPU."""

    def __init__(self, content: bytes):
        extra: Dict[str, Any] = {METADATA: ""}
        with quiet():
            self.module = torch.jit.load(io.BytesIO(content), "cpu", _extra_files=extra)
        self.metadata: Dict[str, Any] = json.loads(extra[METADATA])

    def __call__(self, feed: Feed) -> Outputs:
        with torch.inference_mode():
            results: Tuple[torch.Tensor, ...] = self.module(*feed.values())
        return tuple(results)
