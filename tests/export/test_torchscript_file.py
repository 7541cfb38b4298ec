"""TorchScript files, loaded by PyTorch alone."""

from __future__ import annotations

import io
import json

import pytest
import torch
from detectron2.modeling import build_model

from fbnet_plugin.engine import load_config
from fbnet_plugin.export.classifier import backbone_exportable, classifier_exportable
from fbnet_plugin.export.errors import ExportError
from fbnet_plugin.export.torchscript_file import METADATA, TorchScriptNetwork, torchscript_bytes
from fbnet_plugin.export.verify import verify
from fbnet_plugin.export.write import FORMATS, export

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")


def test_a_classifier(trained, tmp_path):
    path = tmp_path / "model.ts"
    exportable = classifier_exportable(trained.cfg, trained.model)
    result = export(exportable, "torchscript", path, trained.test.images[:4])
    assert result.difference.tolerable
    extra = {METADATA: ""}
    network = torch.jit.load(str(path), _extra_files=extra)
    metadata = json.loads(extra[METADATA])
    assert metadata["architecture"] == "small_digits"
    assert metadata["inputs"] == ["image"] and metadata["outputs"] == ["logits"]
    assert "batch_norm" not in str(network.inlined_graph)
    for count in (1, 3):
        images = trained.test.images[:count].float()
        (logits,) = network(images)
        with torch.no_grad():
            assert torch.allclose(logits, trained.model.predict(images), atol=1e-4)


def test_the_backbone_of_a_detector(tmp_path):
    """An FPN takes sizes that its strides divide; the size that was asked for is made larger."""
    cfg = load_config(
        "COCO-Detection/faster_rcnn_fbnet_v3_a_FPN_3x.yaml", ["MODEL.FBNET.WIDTH_MULT", 0.25, "MODEL.DEVICE", "cpu"]
    )
    model = build_model(cfg).eval()
    exportable = backbone_exportable(cfg, model, (50, 70))
    assert exportable.inputs["image"].shape == (2, 3, 64, 96)
    assert exportable.outputs == ("p2", "p3", "p4", "p5", "p6")
    network = TorchScriptNetwork(torchscript_bytes(exportable))
    images = [torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8) for _ in range(3)]
    # the norms of random weights do not normalize: rounding grows on the way
    exportable.compare = backbone_exportable(cfg, model, (50, 70), tolerance=1e-2).compare
    verify(exportable, network, images)
    features = network({"image": torch.stack(images).float()})
    assert [tuple(feature.shape) for feature in features][:2] == [(3, 128, 16, 24), (3, 128, 8, 12)]


def test_refuses_another_network(trained, tmp_path, monkeypatch):
    """Weights that changed between export and check stand for any mistake of the exporter."""
    exportable = classifier_exportable(trained.cfg, trained.model)
    network = torch.jit.load(io.BytesIO(torchscript_bytes(exportable)))

    def wrong(content: bytes):
        return lambda feed: (network(*feed.values())[0] + 0.1,)

    monkeypatch.setitem(FORMATS, "torchscript", (torchscript_bytes, wrong))
    with pytest.raises(ExportError, match="logits differ"):
        export(exportable, "torchscript", tmp_path / "model.ts", trained.test.images[:2])
    assert list(tmp_path.iterdir()) == []
