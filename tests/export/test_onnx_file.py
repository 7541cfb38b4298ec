"""ONNX files of classifiers and backbones, run by ONNX Runtime itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fbnet_plugin.export.classifier import backbone_exportable, compare_tensors
from fbnet_plugin.export.errors import ExportError, ExportInputError
from fbnet_plugin.export.onnx_file import OnnxNetwork, onnx_bytes, require_onnx
from fbnet_plugin.export.verify import verify
from fbnet_plugin.export.write import FORMATS, check_path, export

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def run(content, image):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": np.asarray(image, dtype=np.float32)})


def changed(content, change):
    model = onnx.load_from_string(content)
    change(model)
    return model.SerializeToString()


def scale_a_weight(model):
    """By one percent, in one of the convolutions."""
    names = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name in names)
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))


def fix_the_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


class TestClassifier:
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_gives_the_scores_of_the_model_for_any_number_of_images(self, count, content, trained):
        images = trained.test.images[:count]
        (logits,) = run(content, images)
        with torch.no_grad():
            expected = trained.model([{"image": image} for image in images])
        scores = torch.from_numpy(logits).softmax(dim=1)
        assert scores.shape == (count, 10)
        assert torch.allclose(scores, torch.stack([one["scores"] for one in expected]), atol=1e-5)

    def test_is_a_valid_model_of_few_operators(self, content):
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model, full_check=True)
        operators = {node.op_type for node in model.graph.node}
        assert "BatchNormalization" not in operators
        assert {"HardSwish", "HardSigmoid"} <= operators, "activations were taken apart"
        assert [tensor.data_location for tensor in model.graph.initializer if tensor.data_location] == []

    def test_says_nothing_of_the_machine(self, content):
        assert b"site-packages" not in content and str(Path(__file__).parents[2]).encode() not in content

    def test_names_and_metadata(self, content, trained):
        network = OnnxNetwork(content)
        assert network.shapes() == ({"image": ["batch", 3, 32, 32]}, {"logits": ["batch", 10]})
        metadata = network.metadata
        assert metadata["producer"].startswith("fbnet_plugin ")
        assert metadata["architecture"] == "small_digits"
        assert metadata["weights"] == trained.cfg.MODEL.WEIGHTS
        assert metadata["input_format"] == "RGB"
        assert json.loads(metadata["pixel_mean"]) == [123.675, 116.28, 103.53]
        assert json.loads(metadata["image_size"]) == [32, 32]
        assert json.loads(metadata["classes"]) == [str(digit) for digit in range(10)]


class TestVerification:
    def test_tells_the_difference(self, content, exportable, trained):
        difference = verify(exportable, OnnxNetwork(content), trained.test.images[:4])
        assert 0 < difference.amount < 0.5 and "logits differ by" in difference.text

    def test_of_one_image_is_with_another_batch_than_the_example(self, exportable, trained):
        (feed,) = exportable.feeds(trained.test.images[:1])
        assert len(feed["image"]) == 1 != len(exportable.inputs["image"])
        sizes = [len(feed["image"]) for feed in exportable.feeds(trained.test.images[:11])]
        assert sizes == [8, 3, 1]

    @pytest.mark.parametrize(
        "change, message",
        [(scale_a_weight, r"not the model, on image \(4, 3, 32, 32\): logits differ"), (fix_the_batch, "cannot run")],
    )
    def test_refuses_another_network_and_leaves_no_file(
        self, change, message, content, exportable, trained, tmp_path, monkeypatch
    ):
        monkeypatch.setitem(FORMATS, "onnx", (lambda exportable: changed(content, change), OnnxNetwork))
        with pytest.raises(ExportError, match=message):
            export(exportable, "onnx", tmp_path / "model.onnx", trained.test.images[:4])
        assert list(tmp_path.iterdir()) == []

    def test_keeps_an_older_file_when_it_refuses(self, content, exportable, trained, tmp_path, monkeypatch):
        path = tmp_path / "model.onnx"
        monkeypatch.setitem(FORMATS, "onnx", (lambda exportable: content, OnnxNetwork))
        export(exportable, "onnx", path, trained.test.images[:2])
        assert path.read_bytes() == content
        monkeypatch.setitem(FORMATS, "onnx", (lambda exportable: changed(content, scale_a_weight), OnnxNetwork))
        with pytest.raises(ExportError):
            export(exportable, "onnx", path, trained.test.images[:2])
        assert path.read_bytes() == content

    def test_differences(self):
        one = torch.tensor([[1.0, -2.0]])
        assert compare_tensors(["a"], (one,), (one,), 1e-4).amount == 0
        difference = compare_tensors(["a", "b"], (one, one), (one, one + 0.02), 0.1)
        assert difference.tolerable and difference.amount == pytest.approx(0.1) and difference.text.startswith("b ")
        nan = one * float("nan")
        assert not compare_tensors(["a", "b"], (one, one), (nan, one + 1), 1e-4).tolerable
        assert not compare_tensors(["a"], (nan,), (one,), 1e-4).tolerable
        assert "shape (1, 1), expected (1, 2)" in compare_tensors(["a"], (one,), (one[:, :1],), 1.0).text


def test_a_backbone_of_fixed_size(trained):
    """All its features under their names; every stage of the small network but the last one's is asked for too."""
    cfg = trained.cfg.clone()
    cfg.MODEL.FBNET.OUT_FEATURES = ["trunk1", "trunk2"]
    model = trained.model
    model.backbone._out_features = ["trunk1", "trunk2"]
    try:
        exportable = backbone_exportable(cfg, model, (48, 64), dynamic=False)
        content = onnx_bytes(exportable)
        features = run(content, torch.nn.functional.pad(trained.test.images[:1].float(), (0, 32, 0, 16)))
        assert [feature.shape for feature in features] == [(1, 24, 12, 16), (1, 32, 6, 8)]
        assert OnnxNetwork(content).shapes()[1] == {"trunk1": [1, 24, 12, 16], "trunk2": [1, 32, 6, 8]}
        verify(exportable, OnnxNetwork(content), trained.test.images[:2])
    finally:
        model.backbone._out_features = ["trunk2"]


def test_missing_packages_and_paths(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ExportInputError, match="need torch 2.6 or newer, this is 2.5.1"):
        require_onnx()
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ExportInputError, match=r"need onnxscript: pip install 'fbnet_plugin\[onnx\]'"):
        require_onnx()
    with pytest.raises(ExportInputError, match="is a folder"):
        check_path(tmp_path)
    with pytest.raises(ExportInputError, match="is missing or cannot be written to"):
        check_path(tmp_path / "none" / "model.onnx")
