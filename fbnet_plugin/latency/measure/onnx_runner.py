"""ONNX Runtime: the exported network, timed layer by layer with the runtime's own profiler."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import nn

from ..errors import LatencyError
from .network import Network
from .options import Options
from .runners import Runner, wall_times

OPSET = 17
CALIBRATION_BATCHES = 2
_LAYER = re.compile(r"(?:^|/)layers\.(\d+)[./]")
_TIMED = "_kernel_time"
_HEAVY = ("Conv", "MatMul", "Gemm")
LEAST = 0.25


class OnnxRunner(Runner):
    """Float, or int8 by static quantisation with random images for calibration."""

    def __init__(self, network: Network, options: Options):
        super().__init__(network, options)
        model = export(network)
        self._model = quantize(model, network) if options.runtime == "onnxruntime-int8" else model
        self._feed = {"image": network.input.cpu().numpy()}
        self._session: Any = None

    def run(self) -> None:
        if self._session is None:
            self._session = self._open()
        self._session.run(None, self._feed)

    def layer_times(self, runs: int, warmup: int) -> np.ndarray:
        self._session = None  # its threads would spin beside those of the profiled session
        profile = self._profile(warmup + runs)
        check_named(profile)
        times, nodes = layer_times(profile, len(self.network.operators))
        plain = wall_times(self, runs, warmup)
        return without_profiler(times[warmup:], nodes, float(np.median(plain)))

    def _profile(self, runs: int) -> List[Dict[str, Any]]:
        """The events of ``runs`` inferences; the session that gave them is gone when this returns."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._open(profile=str(Path(folder) / "profile"))
            for _ in range(runs):
                session.run(None, self._feed)
            return json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))

    def _open(self, profile: str = "") -> Any:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = self.options.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        if profile:
            settings.enable_profiling, settings.profile_file_prefix = True, profile
        provider = "CUDAExecutionProvider" if self.options.device == "cuda" else "CPUExecutionProvider"
        return onnxruntime.InferenceSession(self._model, settings, providers=[provider])


class _Chain(nn.Module):
    def __init__(self, layers: nn.ModuleList):
        super().__init__()
        self.layers = layers

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            image = layer(image)
        return image


def export(network: Network) -> bytes:
    """The network as a serialised ONNX model with norms folded, whose nodes are named after their layers.

    Raises:
        LatencyError: the exporter does not say which layer a node comes from.
    """
    import onnx

    fixed: Dict[str, Any] = {"input_names": ["image"], "opset_version": OPSET}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        fixed["dynamo"] = False  # the older exporter needs no further package and is ten times faster
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "network.onnx"
        torch.onnx.export(_Chain(network.layers).eval(), (network.input,), str(path), **fixed)
        model = path.read_bytes()
    for node in onnx.load_from_string(model).graph.node:
        if node.op_type not in ("Constant", "Identity") and _layer_of(node.name) is None:
            raise LatencyError(f"the ONNX exporter of torch {torch.__version__} names no layer for node {node.name}")
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what exporters and quantisers say about themselves."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _layer_of(name: str) -> Optional[int]:
    """Index of the layer that a node's or value's name tells."""
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None


def check_named(profile: List[Dict[str, Any]]) -> None:
    """Refuses a profile in which the time of a convolution could be counted with another layer.

    Raises:
        LatencyError: a convolution or a linear layer without a name, as old versions have them in int8.
    """
    for event in profile:
        kind = event.get("args", {}).get("op_name", "")
        if any(word in kind for word in _HEAVY) and event["name"].endswith(_TIMED) and _layer_of(event["name"]) is None:
            import onnxruntime

            version = f"onnxruntime {onnxruntime.__version__}"
            remedy = "install a newer one (1.31 does), or use --method isolated"
            raise LatencyError(f"{version} does not tell in its profile which layer {event['name']} is of; {remedy}")


def layer_times(profile: List[Dict[str, Any]], layers: int) -> Tuple[np.ndarray, np.ndarray]:
    """Adds up the runtime's profile by layer.

    The runtime merges and inserts nodes. What it merges keeps the name of a part; an inserted node without a
    layer's name (a change of memory layout) is counted with the node that follows, which is the one that needs it.

    Args:
        profile: the events that ONNX Runtime writes.
        layers: of the network.

    Returns:
        µs of shape (runs, layers), and the number of nodes that each layer runs, of shape (layers,).

    Raises:
        LatencyError: no event names a layer.
    """
    runs: List[np.ndarray] = []
    nodes = np.zeros(layers)
    events: List[Tuple[Optional[int], float]] = []
    for event in profile:
        if event.get("cat") == "Node" and event["name"].endswith(_TIMED):
            events.append((_layer_of(event["name"]), event["dur"]))
        elif event.get("cat") == "Session" and event["name"] == "model_run":
            runs.append(np.zeros(layers))
            nodes[:] = 0
            for layer, us in _with_layers(events):
                runs[-1][layer] += us
                nodes[layer] += 1
            events = []
    return np.array(runs), nodes


def without_profiler(times: np.ndarray, nodes: np.ndarray, plain_us: float) -> np.ndarray:
    """Takes off what the profiler itself costs, some µs per node, so that the layers add up to a run without it.

    Args:
        times: µs with the profiler, shape (runs, layers).
        nodes: that each layer runs, shape (layers,).
        plain_us: a run without the profiler.

    Returns:
        µs of shape (runs, layers); a layer keeps at least ``LEAST`` of its time, since not every node costs the same.
    """
    cost = float(np.median(times.sum(axis=1))) - plain_us
    left = np.maximum(times - cost * nodes / nodes.sum(), LEAST * times)
    return left * plain_us / float(np.median(left.sum(axis=1)))


def _with_layers(events: List[Tuple[Optional[int], float]]) -> Iterator[Tuple[int, float]]:
    named = [layer for layer, _ in events if layer is not None]
    if not named:
        raise LatencyError("the profile of ONNX Runtime names no layer of the network")
    following = named[-1]
    for layer, us in reversed(events):
        following = following if layer is None else layer
        yield following, us


def quantize(model: bytes, network: Network) -> bytes:
    """Static int8 quantisation: uint8 activations, int8 weights per channel, ranges from random images.

    Args:
        model: serialised ONNX model, as the result.
        network: that it is of.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = CALIBRATION_BATCHES

        def get_next(self) -> "Dict[str, np.ndarray] | None":
            self._left -= 1
            return {"image": torch.randn_like(network.input).cpu().numpy()} if self._left >= 0 else None

    with tempfile.TemporaryDirectory() as folder, quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model)
        quantize_static(
            str(source),
            str(target),
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()
