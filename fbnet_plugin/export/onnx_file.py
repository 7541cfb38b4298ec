"""ONNX files by PyTorch's current exporter, run with ONNX Runtime."""

from __future__ import annotations

import copy
import importlib
import itertools
import re
from typing import Any, Dict, Mapping, Tuple

import numpy as np
import torch

from ..latency.measure.onnx_runner import quiet
from .errors import ExportError, ExportInputError
from .exportable import Exportable, Feed, Outputs
from .prepare import prepared

OPSET = 18
TORCH = (2, 6)  # the first whose exporter optimizes its graphs
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """
    Raises:
        ExportInputError: a package is missing, or PyTorch is too old.
    """
    for package in NEEDED:
        try:
            importlib.import_module(package)
        except ImportError as error:
            hint = "pip install 'fbnet_plugin[onnx]'"
            raise ExportInputError(f"ONNX files need {package}: {hint} ({error})") from None
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < TORCH:
        wanted = f"torch {TORCH[0]}.{TORCH[1]} or newer, this is {torch.__version__}"
        raise ExportInputError(f"ONNX files need {wanted}; TorchScript files do not")


def onnx_bytes(exportable: Exportable) -> bytes:
    """The network as a serialized ONNX model, with batch norms folded and the metadata in it.

    Raises:
        ExportInputError: see ``require_onnx``.
        ExportError: PyTorch's exporter cannot express the network.
    """
    require_onnx()
    module = prepared(exportable)
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                tuple(exportable.inputs.values()),
                dynamo=True,
                input_names=list(exportable.inputs),
                output_names=list(exportable.outputs),
                dynamic_shapes=_dynamic_shapes(exportable),
                opset_version=OPSET,
                optimize=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # of many kinds
            raise ExportError(f"torch.onnx.export of torch {torch.__version__} failed: {_short(error)}") from error
        model = program.model_proto
    _forget_origins(model)
    return with_metadata(_named(model, exportable), exportable.metadata)


def _dynamic_shapes(exportable: Exportable) -> Any:
    if not exportable.dynamic:
        return None
    axes = exportable.dynamic
    symbols: Dict[str, Any] = {name: torch.export.Dim(name) for one in axes.values() for name in one.values()}
    shapes = ({axis: symbols[size] for axis, size in axes.get(name, {}).items()} for name in exportable.inputs)
    return tuple(shape or None for shape in shapes)


def _named(model: Any, exportable: Exportable) -> Any:
    """The model, after a check that inputs and outputs are those of the exportable, under their names."""
    found = [[value.name for value in values] for values in (model.graph.input, model.graph.output)]
    if found != [list(exportable.inputs), list(exportable.outputs)]:
        expected = f"{list(exportable.inputs)} and {list(exportable.outputs)}"
        raise ExportError(f"the ONNX graph has inputs {found[0]} and outputs {found[1]}, expected {expected}")
    return model


def _forget_origins(model: Any) -> None:
    """Removes what the exporter notes at each node: stack traces, with paths of this machine."""
    graph = model.graph
    values = (graph.input, graph.output, graph.value_info, graph.initializer, graph.node, [graph])
    for one in itertools.chain(*values):
        del one.metadata_props[:]
        one.doc_string = ""


def with_metadata(model: Any, metadata: Mapping[str, str]) -> bytes:
    """An ``onnx.ModelProto`` with these texts in it, serialized."""
    import onnx

    model = copy.copy(model)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, **metadata})
    return model.SerializeToString()


class OnnxNetwork:
    """A serialized ONNX model in ONNX Runtime, on the CPU.

    Args:
        content: the model.
        threads: of one operator; 0 for as many as there are cores.
    """

    def __init__(self, content: bytes, threads: int = 0):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])

    def __call__(self, feed: Feed) -> Outputs:
        results = self.session.run(None, {name: np.ascontiguousarray(value) for name, value in feed.items()})
        return tuple(torch.from_numpy(result) for result in results)

    @property
    def metadata(self) -> Dict[str, str]:
        return dict(self.session.get_modelmeta().custom_metadata_map)

    def shapes(self) -> Tuple[Dict[str, list], Dict[str, list]]:
        """Of the inputs and of the outputs by name; a size that is free is its name."""
        values = (self.session.get_inputs(), self.session.get_outputs())
        inputs, outputs = ({one.name: list(one.shape) for one in some} for some in values)
        return inputs, outputs


def _short(error: BaseException) -> str:
    """The first lines of a message; those of PyTorch's exporter fill screens."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__
