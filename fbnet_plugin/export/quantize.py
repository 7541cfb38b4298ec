"""Static int8 quantization of an exported network by ONNX Runtime.

Weights are int8 per channel, activations uint8 per tensor with the ranges of calibration images; the graph keeps its
float32 input and outputs (QDQ format).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import torch

from ..latency.measure.onnx_runner import quiet
from .errors import ExportError, ExportInputError
from .exportable import Exportable, Feed
from .onnx_file import with_metadata

METHODS = ("minmax", "entropy", "percentile")
PERCENTILE = 99.99  # of the values that "percentile" keeps
PARTS = ("se", "first", "last")  # that may stay float32
_DOTS = ("Conv", "Gemm", "MatMul")  # operators whose work int8 speeds up
_GATES = ("HardSigmoid", "Sigmoid")


def quantize(
    content: bytes,
    exportable: Exportable,
    images: Sequence[torch.Tensor],
    method: str = "minmax",
    keep: Sequence[str] = (),
) -> bytes:
    """The int8 form of a serialized ONNX model.

    Args:
        content: of the float32 network.
        exportable: that it is of; its ``feeds`` make inputs of images.
        images: calibration images, (C, H, W) uint8.
        method: how ranges come from what the images give, of ``METHODS``: everything seen, the least loss of
            information, or all but the largest few.
        keep: of ``PARTS``, what stays float32: gates of squeeze-and-excite, the first convolution, the last layer.

    Raises:
        ExportInputError: no images, or an unknown method or part.
        ExportError: ONNX Runtime cannot quantize the network.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    _check(exportable, images, method, keep)
    methods = dict(zip(METHODS, (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile)))
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, ready, target = (str(Path(folder) / f"{name}.onnx") for name in ("float", "ready", "int8"))
        Path(source).write_bytes(content)
        try:
            # optimized, a hard swish would be two operators with a rounding between them
            quant_pre_process(source, ready, skip_optimization=True, skip_symbolic_shape=True)
            quantize_static(
                ready,
                target,
                _reader(exportable, images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=methods[method],
                nodes_to_exclude=excluded(ready, keep),
                extra_options={"CalibPercentile": PERCENTILE} if method == "percentile" else None,
            )
        except Exception as error:  # of many kinds
            raise ExportError(f"ONNX Runtime cannot quantize this network: {str(error).strip()}") from error
        described = {"quantization": f"int8, {method}, {len(images)} images", "float32": ", ".join(keep) or "nothing"}
        return with_metadata(_load(target), {**exportable.metadata, **described})


def _check(exportable: Exportable, images: Sequence[torch.Tensor], method: str, keep: Sequence[str]) -> None:
    if len(images) == 0:
        raise ExportInputError("int8 needs calibration images, of the kind that the network will see")
    if method not in METHODS:
        raise ExportInputError(f"calibration method {method!r}: expected one of {', '.join(METHODS)}")
    for part in keep:
        if part not in PARTS:
            raise ExportInputError(f"part {part!r} to keep in float32: expected some of {', '.join(PARTS)}")


def _reader(exportable: Exportable, images: Sequence[torch.Tensor]) -> Any:
    """The images one by one, as ONNX Runtime's calibration reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds = _single_feeds(exportable, images)

        def get_next(self) -> Optional[Dict[str, Any]]:
            feed = next(self._feeds, None)
            return None if feed is None else {name: tensor.numpy() for name, tensor in feed.items()}

    return Images()


def _single_feeds(exportable: Exportable, images: Sequence[torch.Tensor]) -> Iterator[Feed]:
    for image in images:
        yield exportable.feeds([image])[0]


def excluded(path: str, keep: Sequence[str]) -> List[str]:
    """Names of the nodes that stay float32.

    Args:
        path: of an ONNX model.
        keep: of ``PARTS``.
    """
    graph = _load(path).graph
    dots = [node.name for node in graph.node if node.op_type in _DOTS]
    names: List[str] = []
    if "first" in keep:
        names += dots[:1]
    if "last" in keep:
        names += dots[-1:]
    if "se" in keep:
        names += _squeeze_excite_nodes(graph)
    return sorted(set(names))


def _squeeze_excite_nodes(graph: Any) -> List[str]:
    """What lies between a global mean and the product with its gate: mean, convolutions, activation, gate."""
    makers = {output: node for node in graph.node for output in node.output}
    names = []
    for gate in graph.node:
        if gate.op_type not in _GATES:
            continue
        chain, node = [], gate
        while node is not None and node.op_type not in ("ReduceMean", "GlobalAveragePool"):
            chain.append(node.name)
            node = next((makers[value] for value in node.input if value in makers), None)
        if node is not None:
            names += [*chain, node.name]
    return names


def _load(path: str) -> Any:
    import onnx

    return onnx.load(path)
