"""Detectors as ONNX and TorchScript, against Detectron2's own inference on photographs."""

from __future__ import annotations

from typing import List, NamedTuple

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from torch import nn

from fbnet_plugin.engine import load_config
from fbnet_plugin.export.detector import FasterRCNN, detector_exportable
from fbnet_plugin.export.errors import ExportError, ExportInputError
from fbnet_plugin.export.exportable import Exportable
from fbnet_plugin.export.onnx_file import OnnxNetwork, onnx_bytes
from fbnet_plugin.export.torchscript_file import TorchScriptNetwork, torchscript_bytes
from fbnet_plugin.export.verify import verify

ARCH = """
name: small_det
resolution: 128
defaults:
  mb: {act: hswish, se: {gate: hsigmoid, width: input, ratio: 0.25}}
stages:
- - {op: conv, kernel: 3, out: 8, stride: 2, act: hswish}
- - {op: mb, kernel: 3, expansion: 2, out: 16, stride: 2}
- - {op: mb, kernel: 5, expansion: 2, out: 24, stride: 2}
- - {op: mb, kernel: 5, expansion: 3, out: 32, stride: 2}
  - {op: mb, kernel: 3, expansion: 2, out: 32}
- - {op: mb, kernel: 5, expansion: 2, out: 48, stride: 2}
"""
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.FBNET.NORM", "BN", "MODEL.ROI_HEADS.NUM_CLASSES", "6"]
SMALL += ["MODEL.ANCHOR_GENERATOR.SIZES", "[[24, 48, 80]]", "TEST.DETECTIONS_PER_IMAGE", "40"]
C4 = ["COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml", *SMALL, "MODEL.RPN.PRE_NMS_TOPK_TEST", "200"]
# Two levels of the body, three of the RPN, two of the box head.
FPN = ["COCO-Detection/faster_rcnn_fbnet_v3_a_FPN_3x.yaml", *SMALL, "MODEL.FPN.NORM", "BN"]
FPN += ["MODEL.FPN.IN_FEATURES", "['trunk3', 'trunk4']", "MODEL.FPN.OUT_CHANNELS", "24"]
FPN += ["MODEL.RPN.IN_FEATURES", "['p4', 'p5', 'p6']", "MODEL.ROI_HEADS.IN_FEATURES", "['p4', 'p5']"]
FPN += ["MODEL.RPN.PRE_NMS_TOPK_TEST", "200", "MODEL.RPN.POST_NMS_TOPK_TEST", "60"]
TOLERANCE = 1e-3  # random weights double the rounding of every layer
SIZE = (144, 200)


class Detector(NamedTuple):
    cfg: CfgNode
    model: nn.Module


def photographs() -> List[torch.Tensor]:
    """(3, H, W) uint8 of different sizes, the longer side 220 px."""
    data = pytest.importorskip("skimage").data
    images = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in (data.coffee(), data.astronaut())]
    step = [max(image.shape) / 220 for image in images]
    sizes = [[int(side / by) for side in image.shape[1:]] for image, by in zip(images, step)]
    resize = nn.functional.interpolate
    return [resize(image[None].float(), size=size)[0].byte() for image, size in zip(images, sizes)]


@pytest.fixture(scope="module", name="arch")
def arch_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("arch") / "small_det.yaml"
    path.write_text(ARCH)
    return str(path)


@pytest.fixture(scope="module", name="images")
def images_fixture() -> List[torch.Tensor]:
    return photographs()


def detector(config: List[str], arch: str) -> Detector:
    """Random weights that find many boxes of all classes."""
    cfg = load_config(config[0], [*config[1:], "MODEL.FBNET.ARCH", arch])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model = build_model(cfg)
        enliven(model, photographs()[0].float())
    return Detector(cfg, model.eval().requires_grad_(False))


def enliven(model: nn.Module, image: torch.Tensor) -> None:
    """Sets the norms' statistics to those of an image, and the last layers' weights so that they give all values."""
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what is seen
    rpn, heads = model.proposal_generator, model.roi_heads
    features = model.backbone(model.preprocess_image([{"image": image}]).tensor)
    seen = rpn.rpn_head.blocks(features[rpn.in_features[0]])
    spread(rpn.rpn_head.objectness_logits, seen, 2.0)
    spread(rpn.rpn_head.anchor_deltas, seen, 0.3)
    corners = torch.rand(64, 2) * 100
    boxes = Boxes(torch.cat((corners, corners + 16 + 80 * torch.rand(64, 2)), 1))
    pooled = heads.box_pooler([features[name] for name in heads.box_in_features], [boxes])
    vectors = heads.box_head(pooled)
    spread(heads.box_predictor.cls_score, vectors, 2.0)
    spread(heads.box_predictor.bbox_pred, vectors, 0.5)


def spread(layer: nn.Module, seen: torch.Tensor, deviation: float) -> None:
    """Random weights with outputs of mean 0 and this deviation."""
    layer.weight.normal_()
    layer.bias.zero_()
    layer.weight.mul_(deviation / layer(seen).std())
    layer.bias.sub_(layer(seen).transpose(0, 1).flatten(1).mean(1))


@pytest.fixture(scope="module", name="c4")
def c4_fixture(arch: str) -> Detector:
    return detector(C4, arch)


@pytest.fixture(scope="module", name="fpn")
def fpn_fixture(arch: str) -> Detector:
    return detector(FPN, arch)


@pytest.fixture(scope="module", name="exportable")
def exportable_fixture(c4: Detector) -> Exportable:
    return detector_exportable(c4.cfg, c4.model, SIZE, tolerance=TOLERANCE)


@pytest.mark.parametrize(
    "config",
    [
        C4,
        [*C4, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign"],
        [*C4, "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "2", "MODEL.ANCHOR_GENERATOR.OFFSET", "0.5"],
        FPN,
    ],
    ids=["C4", "C4 agnostic", "C4 sampling", "FPN"],
)
def test_the_twin_finds_what_detectron2_finds(config: List[str], arch: str, images: List[torch.Tensor]) -> None:
    cfg, model = detector(config, arch)
    twin = FasterRCNN(model).eval()
    tiny = images[0][:, :20, :30]  # fewer anchors than the RPN takes
    for image in (*images, tiny):
        expected = model.inference([{"image": image.float()}], do_postprocess=False)[0]
        boxes, scores, classes = twin(image[None].float())
        assert len(scores) > 5 and classes.dtype == torch.int64
        torch.testing.assert_close(boxes, expected.pred_boxes.tensor)
        torch.testing.assert_close(scores, expected.scores)
        assert torch.equal(classes, expected.pred_classes)


def test_the_photographs_are_detected_in_all_ways(c4: Detector, images: List[torch.Tensor]) -> None:
    found = c4.model.inference([{"image": images[0].float()}], do_postprocess=False)[0]
    assert len(found) == 40 and len(found.pred_classes.unique()) >= 4
    assert found.scores.max() - found.scores.min() > 0.2


def test_onnx_of_c4_takes_images_of_any_size(exportable: Exportable, images: List[torch.Tensor]) -> None:
    pytest.importorskip("onnxscript")
    network = OnnxNetwork(onnx_bytes(exportable))
    sizes = {feed["image"].shape for feed in exportable.feeds(images)}
    assert len(sizes) >= 4 and (1, 3, *SIZE) not in sizes
    difference = verify(exportable, network, images)
    assert difference.tolerable and "40 of 40 detections agree" in difference.text
    takes_extremes(exportable, network, images[0])
    inputs, outputs = network.shapes()
    assert inputs == {"image": [1, 3, "height", "width"]} and list(outputs) == ["boxes", "scores", "classes"]
    assert network.metadata["input_format"] == "RGB" and "image_size" not in network.metadata


def test_onnx_of_fpn_takes_images_of_any_size(fpn: Detector, images: List[torch.Tensor]) -> None:
    pytest.importorskip("onnxscript")
    exportable = detector_exportable(fpn.cfg, fpn.model, SIZE, tolerance=TOLERANCE)
    assert any(side % 16 for image in images for side in image.shape[1:])
    network = OnnxNetwork(onnx_bytes(exportable))
    difference = verify(exportable, network, images)
    assert difference.tolerable and "40 of 40 detections agree" in difference.text
    takes_extremes(exportable, network, images[0])


def takes_extremes(exportable: Exportable, network: OnnxNetwork, image: torch.Tensor) -> None:
    """Fewer anchors than the RPN takes, and no proposals at all."""
    tiny = {"image": image[None, :, :20, :30].float()}
    difference = exportable.compare(exportable.expected(tiny), network(tiny))
    assert difference.tolerable and "detections agree" in difference.text
    boxes, scores, classes = network({"image": torch.full((1, 3, 96, 128), float("nan"))})
    assert boxes.shape == (0, 4) and len(scores) == len(classes) == 0


@pytest.mark.parametrize("name", ["c4", "fpn"])
def test_torchscript_takes_images_of_any_size(
    name: str, images: List[torch.Tensor], request: pytest.FixtureRequest
) -> None:
    cfg, model = request.getfixturevalue(name)
    exportable = detector_exportable(cfg, model, SIZE, tolerance=TOLERANCE)
    network = TorchScriptNetwork(torchscript_bytes(exportable))
    assert "40 of 40 detections agree" in verify(exportable, network, images).text


def test_one_size_is_checked_at_that_size(c4: Detector, images: List[torch.Tensor]) -> None:
    exportable = detector_exportable(c4.cfg, c4.model, SIZE, dynamic=False)
    assert exportable.dynamic == {} and exportable.metadata["image_size"] == "[144, 200]"
    assert [feed["image"].shape for feed in exportable.feeds(images)] == [(1, 3, *SIZE)] * len(images)


@pytest.mark.parametrize("part, value", [("nms_threshold", 0.4), ("score_threshold", 0.6), ("count", 39)])
def test_a_graph_with_another_rule_is_refused(
    part: str, value: float, c4: Detector, exportable: Exportable, images: List[torch.Tensor]
) -> None:
    other = FasterRCNN(c4.model).eval()
    setattr(other.detections, part, value)
    with pytest.raises(ExportError, match="is missing"):
        verify(exportable, lambda feed: other(*feed.values()), images)


def test_shifted_anchors_are_refused(c4: Detector, exportable: Exportable, images: List[torch.Tensor]) -> None:
    other = FasterRCNN(c4.model).eval()
    other.proposals.offset += 0.01
    with pytest.raises(ExportError, match="detections agree"):
        verify(exportable, lambda feed: other(*feed.values()), images)


@pytest.mark.parametrize(
    "config, changes, message",
    [
        ("COCO-Detection/retinanet_fbnet_v3_a_FPN_3x.yaml", [], "META_ARCHITECTURE is RetinaNet; expected a Faster"),
        ("COCO-InstanceSegmentation/mask_rcnn_fbnet_v3_a_FPN_3x.yaml", [], "MASK_ON is True.*MODEL.MASK_ON False"),
        (C4[0], ["MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool"], "POOLER_TYPE: cannot export RoIPool, expected ROIAlign"),
        (C4[0], ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"],
         "cannot export CascadeROIHeads, expected StandardROIHeads"),
    ],
)  # fmt: skip
def test_other_detectors_are_refused_by_name(config: str, changes: List[str], message: str, arch: str) -> None:
    small = [*SMALL, "MODEL.FBNET.ARCH", arch, *changes]
    if "C4" not in config:
        small += ["MODEL.FPN.NORM", "BN", "MODEL.ANCHOR_GENERATOR.SIZES", "[[32]]"]
    cfg = load_config(config, small)
    with pytest.raises(ExportInputError, match=message):
        detector_exportable(cfg, build_model(cfg))
