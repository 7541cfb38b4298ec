"""What ``inference.py`` times: the same classifier in two libraries, and detectors."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.modeling import build_model as build_detector
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from PIL import Image
from torch import nn

from fbnet_plugin.engine import load_config
from fbnet_plugin.export.fold import fold_batch_norms
from fbnet_plugin.models import build_model
from fbnet_plugin.plotting.demo_predictor import Predictor

# Architecture of ours: the same network's name in timm.
NETWORKS = {
    "fbnet_v3_b_timm": "fbnetv3_b",
    "fbnet_v3_d_timm": "fbnetv3_d",
    "fbnet_v3_g_timm": "fbnetv3_g",
    "fbnet_c_timm": "fbnetc_100",
}
# How a network runs; "folded" is ours with its batch norms folded beside timm's as it is, "both folded" is fair.
VARIANTS = ("eager", "channels_last", "folded", "both folded", "folded channels_last", "compile", "onnxruntime")

# Makes what runs once per call, afresh: where weights come to lie makes some percent.
Fresh = Callable[[], Callable[[], Any]]


def quietly() -> contextlib.ExitStack:
    """Without the messages of exporters and model builders."""
    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    for stream in (contextlib.redirect_stdout, contextlib.redirect_stderr):
        stack.enter_context(stream(io.StringIO()))
    logging.getLogger("fbnet_plugin").setLevel(logging.ERROR)
    return stack


# ---------------------------------------------------------------------------------------------
# Classifiers
# ---------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """One network with the same weights in both libraries, in evaluation mode.

    Attributes:
        ours, timms: the networks.
        px: side of the square image that timm's is tested at.
    """

    ours: nn.Module
    timms: nn.Module
    px: int


def pair_of(name: str) -> Pair:
    """timm's network with random weights and the norms' statistics of random images, and ours with its weights."""
    import timm

    torch.manual_seed(0)
    timms = timm.create_model(NETWORKS[name])
    settings = timms.pretrained_cfg
    px = (settings.get("test_input_size") or settings["input_size"])[-1]
    with know_statistics(timms):
        timms(torch.randn(8, 3, px, px))
    with tempfile.TemporaryDirectory() as folder, quietly():
        file = Path(folder) / "timm.pth"
        torch.save(timms.state_dict(), file)
        ours = build_model(name, pretrained=str(file))
    return Pair(ours.eval(), timms.eval(), px)


@contextlib.contextmanager
def know_statistics(model: nn.Module) -> Any:
    """Batch norms take over the statistics of what runs inside; random networks without them overflow."""
    norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad(), EventStorage():
        yield model.train()
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.eval()


def runners(pair: Pair, variant: str, batch: int, threads: int) -> Tuple[Fresh, Fresh]:
    """Both libraries' network in one variant, on the same random images (batch, 3, px, px).

    Raises:
        AssertionError: their outputs differ.
    """
    x = torch.randn(batch, 3, pair.px, pair.px, generator=torch.Generator().manual_seed(1))
    made = [_runner(pair.ours, variant, x, threads, True), _runner(pair.timms, variant, x, threads, False)]
    with torch.no_grad():
        expected = pair.timms(x)
        for name, fresh in zip(("ours", "timm's"), made):
            worst = float((torch.as_tensor(fresh()()) - expected).abs().max() / expected.abs().max())
            assert worst < 1e-3, f"{variant}: the logits of {name} differ by {worst:.1e} of the largest"
    return made[0], made[1]


def _runner(model: nn.Module, variant: str, x: torch.Tensor, threads: int, mine: bool) -> Fresh:
    if variant == "onnxruntime":
        return _onnx(model, x, threads)
    if "folded" in variant and (mine or variant != "folded"):
        model = fold_batch_norms(model if mine else activations_apart(model), x[:1])
    if "channels_last" in variant:
        model = copy.deepcopy(model).to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    if variant == "compile":
        compiled = torch.compile(model, dynamic=False)
        return lambda: lambda: compiled(x)  # compiling again would take minutes

    def fresh() -> Callable[[], Any]:
        again = copy.deepcopy(model)
        return lambda: again(x)

    return fresh


def activations_apart(model: nn.Module) -> nn.Module:
    """A copy of a network of timm whose norms are norms alone, with what they did besides behind them."""
    from timm.layers import BatchNormAct2d

    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, BatchNormAct2d):
                norm = nn.BatchNorm2d(child.num_features, child.eps, child.momentum)
                norm.load_state_dict({key: child.state_dict()[key] for key in norm.state_dict()})
                setattr(module, name, nn.Sequential(norm.eval(), child.drop, child.act))
    return model


def _onnx(model: nn.Module, x: torch.Tensor, threads: int) -> Fresh:
    """Exported in one way, whoever's network it is, and run by ONNX Runtime."""
    import onnxruntime

    model = copy.deepcopy(model)
    for layer in model.modules():
        if getattr(layer, "inplace", False) is True:
            layer.inplace = False  # the exporter takes it apart otherwise
    with quietly(), torch.no_grad():
        content = torch.onnx.export(model, (x,), dynamo=True, opset_version=18, optimize=True).model_proto
    data = content.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1

    def fresh() -> Callable[[], Any]:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: x.numpy()}
        return lambda: session.run(None, feed)[0]

    return fresh


# ---------------------------------------------------------------------------------------------
# Detectors
# ---------------------------------------------------------------------------------------------


class Detector(NamedTuple):
    """From a decoded photograph to boxes in its px: resizing, normalization and all.

    Attributes:
        name: of the detector.
        model: with random weights.
        detect: takes (H, W, 3) uint8 RGB.
        size: of the images that it sees, as (short side, limit of the long side) in px.
        counts: of proposals per photograph, filled while it runs.
    """

    name: str
    model: nn.Module
    detect: Callable[[np.ndarray], Any]
    size: Tuple[int, int]
    counts: List[int]


def detectron2_detector(
    config: str,
    photographs: List[np.ndarray],
    *,
    proposals: Optional[int] = None,
    size: Optional[Tuple[int, int]] = None,
    folded: bool = False,
) -> Detector:
    """A detector of ours, or with a config of Detectron2's model zoo one of Detectron2's.

    Args:
        config: its name.
        photographs: that the norms' statistics are of.
        proposals: per image; None: as the config says.
        size: short side and limit of the long side, px; None: as the config says.
        folded: with batch norms folded.
    """
    ours = "fbnet" in config
    cfg = load_config(config) if ours else get_cfg()
    if not ours:
        cfg.merge_from_file(model_zoo.get_config_file(config))
        cfg.INPUT.FORMAT = "RGB"  # of random weights: as good as any other
        cfg.MODEL.RESNETS.NORM = "BN"  # frozen at random weights it overflows; its costs are the same
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    if proposals is not None:
        cfg.MODEL.RPN.POST_NMS_TOPK_TEST = proposals
    if size is not None:
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = size
    torch.manual_seed(0)
    with quietly():
        model = build_detector(cfg)
    images = [torch.tensor(_small(photograph).transpose(2, 0, 1)) for photograph in photographs[:4]]
    boxes = Boxes(torch.tensor([[20.0, 20.0, 120.0, 150.0]]))
    target = Instances((192, 256), gt_boxes=boxes, gt_classes=torch.tensor([0]))
    with know_statistics(model):
        model([{"image": image, "instances": target} for image in images])
    if folded:
        model = fold_batch_norms(model, [{"image": images[0]}])
    _fix(model.proposal_generator.rpn_head.anchor_deltas, model.roi_heads.box_predictor.cls_score)
    counts: List[int] = []
    model.roi_heads.register_forward_pre_hook(lambda _, inputs: counts.extend(len(one) for one in inputs[2]))
    name = f"{Path(config).stem}{' folded' if folded else ''}"
    return Detector(name, model, Predictor(cfg, model), (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST), counts)


def torchvision_detector(
    size: Tuple[int, int], photographs: List[np.ndarray], *, proposals: Optional[int] = None
) -> Detector:
    """torchvision's ``fasterrcnn_mobilenet_v3_large_320_fpn`` for images of a size; see ``detectron2_detector``."""
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    more = {} if proposals is None else {"rpn_post_nms_top_n_test": proposals}
    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, min_size=size[0], max_size=size[1], **more
    )
    images = [_tensor(_small(photograph)) for photograph in photographs[:4]]
    target = {"boxes": torch.tensor([[20.0, 20.0, 120.0, 150.0]]), "labels": torch.tensor([1])}
    with know_statistics(model):
        model(images, [target] * len(images))
    _fix(model.rpn.head.bbox_pred, model.roi_heads.box_predictor.cls_score)
    counts: List[int] = []
    model.roi_heads.register_forward_pre_hook(lambda _, inputs: counts.extend(len(one) for one in inputs[1]))

    def detect(photograph: np.ndarray) -> Dict[str, torch.Tensor]:
        with torch.no_grad():
            return model([_tensor(photograph)])[0]

    return Detector("torchvision mobilenet_v3_large_320_fpn", model, detect, size, counts)


def _fix(*layers: nn.Module) -> None:
    """Proposals then lie where the anchors lie, all over the image, and all classes are equally likely."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def _small(photograph: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(photograph).resize((256, 192)))


def _tensor(photograph: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, H, W) from 0 to 1, as torchvision's detectors take it."""
    return torch.from_numpy(np.ascontiguousarray(photograph.transpose(2, 0, 1))).float().div_(255)
