"""Counts of whole models, part by part, against published and independent figures."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from fbnet_plugin.arch import ArchError, get_arch
from fbnet_plugin.engine import load_config
from fbnet_plugin.modeling.analysis import analyze, default_image_size

C4 = "COCO-Detection/faster_rcnn_fbnet_v3_{}_C4_3x.yaml"


def counts(part):
    return part.params, part.weights, part.macs


class TestTable5:
    """FBNetV3 Table 5: 5.3M and 2.9G for A, 10.6M and 5.3G for E, in Faster R-CNN C4 with 75 proposals."""

    @pytest.mark.parametrize(
        "letter, params, weights, macs",
        [("a", 5_306_708, 5_270_832, 2_900_104_360), ("e", 10_669_772, 10_612_536, 5_294_961_480)],
    )
    def test_total(self, letter, params, weights, macs):
        analysis = analyze(load_config(C4.format(letter)), image_size=(400, 600))
        assert counts(analysis.total) == (params, weights, macs)
        assert analysis.proposals == 75

    def test_parts_of_a(self):
        parts = analyze(load_config(C4.format("a")), image_size=(400, 600)).parts
        assert {name: (part.params, part.rois) for name, part in parts.items()} == {
            "backbone": (972_960, None),
            "rpn_head": (720_600 + 8_475, None),
            "box_head": (3_524_072, 75),
            "box_predictor": (80_601, 75),
        }

    @pytest.mark.parametrize("letter, params, gmacs", [("a", 4_345_100, 3.430), ("e", 6_631_588, 5.048)])
    def test_imagenet_bodies(self, letter, params, gmacs):
        total = analyze(load_config(C4.format(f"{letter}_imagenet")), image_size=(400, 600)).total
        assert total.params == params and round(total.macs / 1e9, 3) == gmacs

    def test_d2go_s_pyramid_detector(self):
        """34.21M parameters, 112.8G MACs at 800x1216 with 1000 proposals."""
        cfg = load_config("COCO-Detection/faster_rcnn_fbnet_v3_g_FPN_3x.yaml")
        total = analyze(cfg, image_size=(800, 1216)).total
        assert (round(total.params / 1e6, 2), round(total.macs / 1e9, 1)) == (34.21, 112.8)


class TestClassifier:
    @pytest.mark.parametrize("name", ["fbnet_a", "fbnet_c", "fbnet_v3_a", "fbnet_v3_g"])
    def test_is_what_the_architecture_counts(self, name):
        arch, cfg = get_arch(name), load_config()
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME = "ImageClassifier", "build_fbnet_backbone"
        cfg.MODEL.FBNET.ARCH, cfg.MODEL.FBNET.PADDING = name, "published"
        analysis = analyze(cfg)
        assert analysis.image_size == (arch.resolution, arch.resolution) and analysis.proposals is None
        assert counts(analysis.total) == arch.cost()[:3]


class TestDetectron2sOwnModels:
    """Against counts that are known without this project."""

    def analyze(self, name, **options):
        cfg = get_cfg()
        cfg.merge_from_file(model_zoo.get_config_file(name))
        return analyze(cfg, image_size=(800, 1216), **options)

    def test_resnet_50_c4(self):
        parts = self.analyze("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", proposals=10).parts
        # res5: per RoI on 14x14 -> 7x7, a strided first 1x1, a shortcut and three bottlenecks of width 512
        first = 49 * (1024 * 512 + 512 * 512 * 9 + 512 * 2048 + 1024 * 2048)
        rest = 2 * 49 * (2048 * 512 + 512 * 512 * 9 + 512 * 2048)
        assert parts["box_head"].macs == 10 * (first + rest) and parts["box_head"].rois == 10
        assert parts["box_predictor"].macs == 10 * 2048 * (81 + 320)
        # 3x3 conv and two 1x1 convs on a map of 50x76 px
        assert parts["rpn_head"].macs == 50 * 76 * (1024 * 1024 * 9 + 1024 * 15 * 5)

    def test_keypoint_mask_and_semantic_heads(self):
        mask = self.analyze("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml").parts
        convs, deconv, predictor = 4 * 196 * 256 * 256 * 9, 196 * 256 * 256 * 4, 784 * 256 * 80
        assert mask["mask_head"].macs == 100 * (convs + deconv + predictor) and mask["mask_head"].rois == 100
        assert mask["mask_head"].weights == 4 * 256 * 256 * 9 + 256 * 256 * 4 + 256 * 80
        assert mask["sem_seg_head"].macs > 0
        keypoint = self.analyze("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml").parts
        deconv = 196 * 512 * 17 * 16  # per input pixel
        assert keypoint["keypoint_head"].macs == 100 * (196 * (256 * 512 + 7 * 512 * 512) * 9 + deconv)

    def test_a_cascade_runs_all_its_box_heads(self):
        parts = self.analyze("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", proposals=7).parts
        assert parts["box_head"].macs == 7 * 3 * (256 * 49 * 1024 + 1024 * 1024)

    def test_parts_add_up_to_the_model(self):
        analysis = self.analyze("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml")
        assert analysis.total.params == 35_909_612  # sum over model.parameters()


class TestRetinaNet:
    def test_parts(self):
        parts = analyze(load_config("COCO-Detection/retinanet_fbnet_v3_a_FPN_3x.yaml"), (512, 512)).parts
        pixels = sum(side * side for side in (64, 32, 16, 8, 4))
        assert parts["head"].macs == pixels * 9 * 128 * (8 * 128 + 9 * 80 + 9 * 4)


    def test_an_image_is_padded_as_the_pyramid_asks(self):
        cfg = load_config("COCO-Detection/retinanet_fbnet_v3_a_FPN_3x.yaml")
        odd, even = analyze(cfg, (100, 130)), analyze(cfg, (128, 160))
        assert odd.total == even.total and odd.image_size == (100, 130)


@pytest.fixture
def odd_model():
    """A meta-architecture with a part that nobody knows how to run."""

    class OddModel(nn.Module):
        def __init__(self, cfg):
            super().__init__()
            from detectron2.modeling import build_backbone

            self.backbone = build_backbone(cfg)
            self.extra = nn.Linear(3, 4)
            self.nothing = nn.Identity()
            self.register_buffer("pixel_mean", torch.zeros(3, 1, 1))

    META_ARCH_REGISTRY.register(OddModel)
    yield "OddModel"
    del META_ARCH_REGISTRY._obj_map["OddModel"]


def test_an_unknown_part_has_parameters_alone(odd_model, make_cfg):
    analysis = analyze(make_cfg("MODEL.META_ARCHITECTURE", odd_model), (64, 64))
    assert list(analysis.parts) == ["backbone", "extra"]
    assert counts(analysis.parts["extra"]) == (16, 12, None)
    assert analysis.total.macs is None and analysis.total.params == analysis.parts["backbone"].params + 16
    assert "unknown" in analysis.to_text() and "how a part is run: extra" in analysis.to_text().replace("\n", " ")


class TestDefaultImageSize:
    def test_detector(self, make_cfg):
        assert default_image_size(make_cfg("INPUT.MIN_SIZE_TEST", 400, "INPUT.MAX_SIZE_TEST", 667)) == (400, 533)
        assert default_image_size(make_cfg("INPUT.MIN_SIZE_TEST", 800, "INPUT.MAX_SIZE_TEST", 1000)) == (750, 1000)
        assert default_image_size(make_cfg("INPUT.MIN_SIZE_TEST", 0)) == (480, 640)

    def test_classifier(self, make_cfg):
        cfg = make_cfg("MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.FBNET.ARCH", "fbnet_v3_g")
        assert default_image_size(cfg) == (320, 320)
        cfg.INPUT.CLASSIFICATION.TEST_SIZE = 96
        assert default_image_size(cfg) == (96, 96)


def test_the_config_stays_as_it_was():
    cfg = load_config(C4.format("a"))
    cfg.freeze()
    analyze(cfg, (64, 64))
    assert cfg.MODEL.DEVICE == "cuda" and cfg.is_frozen()


def test_unknown_names_and_hopeless_images(make_cfg):
    with pytest.raises(ArchError, match="'Nothing' found in 'META_ARCH' registry"):
        analyze(make_cfg("MODEL.META_ARCHITECTURE", "Nothing"))
    cfg = make_cfg("MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.FBNET.PADDING", "published")
    with pytest.raises(ArchError, match="image_size: an image of 16x16 px cannot pass the backbone"):
        analyze(cfg, (16, 16))


def test_plain_data():
    analysis = analyze(load_config(C4.format("a")), (400, 600), proposals=30)
    data = json.loads(json.dumps(analysis.to_dict()))
    assert data["total"] == {"params": 5_306_708, "weights": 5_270_832, "macs": analysis.total.macs}
    assert data["box_head"]["rois"] == data["proposals"] == 30 and data["image_size"] == [400, 600]
    assert data["total"]["macs"] == sum(data[part]["macs"] for part in analysis.parts)
    assert "multiply-adds" in data["convention"]
