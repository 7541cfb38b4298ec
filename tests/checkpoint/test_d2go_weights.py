"""Detectors with d2go's published names: C4, feature pyramid and with masks."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.modeling import build_model
from foreign_files import d2go_file, randomize

from fbnet_plugin.checkpoint import FBNetCheckpointer
from fbnet_plugin.checkpoint.schemes import convert_foreign
from fbnet_plugin.engine import load_config

# Config -> architecture, width, one of d2go's names.
DETECTORS = {
    "COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml": (
        "fbnet_v3_a_det", 1.0, "backbone.body.trunk3.fbnetv2_3_9.se.se.0.conv.weight",
    ),
    "COCO-Detection/faster_rcnn_fbnet_v3_g_FPN_3x.yaml": (
        "fbnet_v3_g_det", 0.25, "backbone.bottom_up.trunk4.fbnetv2_4_8.pwl.bn.running_var",
    ),
    "COCO-InstanceSegmentation/mask_rcnn_fbnet_v3_a_FPN_3x.yaml": (
        "fbnet_v3_a_det", 0.25, "roi_heads.box_head.roi_box_conv.0.fbnetv2_0_5.dw.conv.weight",
    ),
}  # fmt: skip


def build(config: str, width: float = 0.25) -> torch.nn.Module:
    opts = ["MODEL.DEVICE", "cpu", "MODEL.FBNET.WIDTH_MULT", width, "MODEL.FBNET.NORM", "BN", "MODEL.FPN.NORM", "BN"]
    return build_model(load_config(config, opts))


@pytest.mark.parametrize("config", DETECTORS)
def test_a_detector_comes_back_whole(config, tmp_path, caplog):
    """The average, which d2go keeps flat beside the model, is taken; it need not have everything."""
    arch, width, known = DETECTORS[config]
    source, model = randomize(build(config, width)), build(config, width)
    state = d2go_file(source)
    assert known in state and not any("stages" in name for name in state)
    average = {key: value for key, value in state.items() if not key.startswith("roi_heads.box_predictor")}
    plain = {key: value if key not in average else torch.zeros_like(value) for key, value in state.items()}
    torch.save({"model": plain, "ema_state": average, "iteration": 5, "optimizer": {}}, tmp_path / "model.pth")
    with caplog.at_level(logging.INFO):
        FBNetCheckpointer(model, strict=True).load(str(tmp_path / "model.pth"))
    expected = source.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert f"d2go's names{f' of {arch}' if width == 1 else ''}" in caplog.text and "averaged weights" in caplog.text


def test_heads_that_upsample_have_no_place_here(caplog):
    """d2go's masks come from FBNet blocks, ours from Detectron2's head."""
    state = d2go_file(build("COCO-InstanceSegmentation/mask_rcnn_fbnet_v3_a_FPN_3x.yaml"))
    theirs = "roi_heads.mask_head.mask_fcn.0.fbnetv2_0_0.pw.conv.weight"
    found = convert_foreign({**state, theirs: torch.ones(1)})
    assert found.unknown == [theirs] and found.state[theirs].shape == (1,)
