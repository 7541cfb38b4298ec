"""int8 networks: nearly the accuracy, a fraction of the size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fbnet_plugin.export.errors import ExportInputError
from fbnet_plugin.export.int8_report import int8_report, interleaved_times
from fbnet_plugin.export.quantize import excluded, quantize

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def int8(exportable, content, trained):
    return quantize(content, exportable, list(trained.train.images[::30]))


def logits_of(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images.numpy().astype(np.float32)})[0]


def top1(content, digits):
    return 100 * (logits_of(content, digits.images).argmax(axis=1) == digits.labels.numpy()).mean()


def test_keeps_the_accuracy(content, int8, trained):
    before, after = top1(content, trained.test), top1(int8, trained.test)
    assert before > 88, "the network of this test did not learn"
    assert after > before - 3


def test_is_int8_where_it_counts(content, int8, exportable):
    model = onnx.load_from_string(int8)
    layers = [one for one in exportable.module.modules() if isinstance(one, (torch.nn.Conv2d, torch.nn.Linear))]
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds and onnx.TensorProto.UINT8 in kinds
    in_int8 = sum(np.prod(one.dims) for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8)
    assert in_int8 >= sum(layer.weight.numel() for layer in layers)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["architecture"] == "small_digits"
    assert metadata["quantization"] == "int8, minmax, 48 images" and metadata["float32"] == "nothing"


def test_report(content, int8, exportable, trained):
    images = [(image, int(label)) for image, label in zip(trained.test.images[:60], trained.test.labels[:60])]
    report = int8_report(exportable, content, int8, iter(images), seconds=0.1)
    half = type(trained.test)(trained.test.images[:60], trained.test.labels[:60])
    expected, actual = logits_of(content, half.images), logits_of(int8, half.images)
    assert report.images == 60
    assert report.top1 == pytest.approx((top1(content, half), top1(int8, half)), abs=1.7)  # one image: batches differ
    noise = ((expected - actual) ** 2).sum()
    assert report.sqnr["logits"] == pytest.approx(10 * np.log10((expected**2).sum() / noise), abs=1)
    assert report.sqnr["logits"] > 10
    assert report.agreement >= 90
    assert min(report.latency) > 0 and report.speedup > 0
    assert report.size == (len(content) / 1e6, len(int8) / 1e6)
    text = report.to_text()
    assert "top-1" in text and "1 image, 1 thread)" in text
    unlabelled = int8_report(exportable, content, int8, [(image, None) for image, _ in images[:3]], seconds=0.1)
    assert unlabelled.top1 is None and "top-1" not in unlabelled.to_text()


def test_what_stays_float32(content, tmp_path):
    """Of each of the three squeeze-and-excites: mean, two convolutions, activation, gate (and shapes between them)."""
    path = str(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(content)
    operators = {node.name: node.op_type for node in onnx.load_from_string(content).graph.node}
    assert excluded(path, ()) == []
    gates = [operators[name] for name in excluded(path, ("se",))]
    assert [gates.count(one) for one in ("HardSigmoid", "Conv", "HardSwish", "ReduceMean")] == [3, 6, 3, 3]
    assert [operators[name] for name in excluded(path, ("last",))] == ["Gemm"]
    assert [operators[name] for name in excluded(path, ("first",))] == ["Conv"]


def test_parts_that_are_kept_have_float_weights(content, exportable, trained):
    kept = quantize(content, exportable, list(trained.train.images[::100]), keep=("last",))
    names = {tensor.name for tensor in onnx.load_from_string(kept).graph.initializer}
    assert "model.head.fc.weight" in names and "model.head.fc.weight_quantized" not in names
    assert "model.backbone.stages.0.0.conv.weight_quantized" in names


def test_timing_in_turns():
    """As many runs of each network, the first ones untimed."""
    calls = []
    networks = [lambda feed, name=name: calls.append(name) for name in "ab"]
    times = interleaved_times(networks, {}, seconds=0, warmup=3)
    assert times.shape == (10, 2) and (times > 0).all()
    assert calls == ["a", "b"] * 13


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": []}, "needs calibration images"),
        ({"method": "mean"}, "expected one of minmax, entropy, percentile"),
        ({"keep": ("body",)}, "expected some of se, first, last"),
    ],
)
def test_bad_input(change, message, content, exportable):
    given = {"images": [torch.zeros(3, 32, 32, dtype=torch.uint8)], **change}
    with pytest.raises(ExportInputError, match=message):
        quantize(content, exportable, **given)
