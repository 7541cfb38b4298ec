"""Networks of torchvision as backbone and head: torchvision's own network is the yardstick of each."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Mapping

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.models import get_model, get_model_weights
from torchvision.ops import StochasticDepth

from fbnet_plugin.arch import ArchError
from fbnet_plugin.checkpoint import CheckpointError
from fbnet_plugin.checkpoint.torchvision_names import from_torchvision, to_torchvision
from fbnet_plugin.modeling import ImageClassifier, TorchvisionBackbone
from fbnet_plugin.modeling.torchvision_backbone import torchvision_head
from fbnet_plugin.modeling.torchvision_network import BRANCHES, DropBranch, family_of, list_networks, replace_norms

BUILDER = ("MODEL.BACKBONE.NAME", "build_torchvision_backbone", "MODEL.TORCHVISION.NAME")
NO_META = ("regnet_y_400mf",)  # torchvision computes its widths with tensors

RESNET = {"stem": 4, "res2": 4, "res3": 8, "res4": 16, "res5": 32}
# One of each kind: the channels of its last map, and the strides that it has features of.
KINDS = {
    "alexnet": (256, [4, 8, 16, 32]),
    "convnext_tiny": (768, [4, 8, 16, 32]),
    "densenet121": (1024, [2, 4, 8, 16, 32]),
    "efficientnet_b0": (1280, [2, 4, 8, 16, 32]),
    "mnasnet0_5": (1280, [2, 4, 8, 16, 32]),
    "mobilenet_v2": (1280, [2, 4, 8, 16, 32]),
    "mobilenet_v3_small": (576, [2, 4, 8, 16, 32]),
    "regnet_y_400mf": (440, [2, 4, 8, 16, 32]),
    "resnet18": (512, list(RESNET.values())),
    "resnext50_32x4d": (2048, list(RESNET.values())),
    "shufflenet_v2_x0_5": (1024, [2, 4, 8, 16, 32]),
    "vgg11": (512, [1, 2, 4, 8, 16, 32]),
    "vgg11_bn": (512, [1, 2, 4, 8, 16, 32]),
}
# FBNetV3 Table 3.
TABLE_3 = ["alexnet", "resnet34", "resnet50", "resnet101", "resnet152", "densenet201", "resnext101_32x8d"]


class Whole(nn.Module):
    """Backbone and head as an ``ImageClassifier`` holds them, on normalized images."""

    def __init__(self, name: str, num_classes: int, dropout: float = 0.0, **options):
        super().__init__()
        self.backbone = TorchvisionBackbone(name, **options)
        self.head = torchvision_head(self.backbone, num_classes, dropout)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(list(self.backbone(images).values())[-1])


def without_memory(name: str) -> torch.device:
    """Where a network is built of which only shapes, or other weights, are needed: it takes no time there."""
    return torch.device("cpu" if name in NO_META else "meta")


def some_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights and statistics that keep the signal's size, and that no two channels share."""
    noise = torch.randn(1 << 18)
    state = {}
    for name, old in network.state_dict().items():
        values = noise.repeat(-(-old.numel() // len(noise)))[: old.numel()].view(old.shape)
        if old.dim() > 1:
            values = values * (2.0 / old[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            values = 0.5 + values.abs()
        elif name.endswith("weight"):
            values = 1 + 0.2 * values
        state[name] = values.to(old.dtype)
    return state


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_those_of_torchvision(name: str) -> None:
    with without_memory(name):
        theirs, ours = get_model(name, weights=None, num_classes=7).eval(), Whole(name, 7).eval()
    weights, images = some_weights(theirs), torch.randn(2, 3, 64, 64)
    linear = family_of(name).linear
    renamed = from_torchvision(linear, weights)
    assert set(renamed) == set(ours.state_dict())
    with torch.no_grad():
        expected = torch.func.functional_call(theirs, weights, (images,))
        found = torch.func.functional_call(ours, renamed, (images,))
    assert expected.std() > 1e-3 and expected.shape == (2, 7)
    assert len(ours.backbone.output_shape()) == 1  # the last map, of which the head makes logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    back = to_torchvision(linear, renamed)
    assert list(back) == list(weights) and all(back[key] is weights[key] for key in back)


@pytest.mark.parametrize("name", KINDS)
def test_maps_are_what_output_shape_says(name: str) -> None:
    channels, strides = KINDS[name]
    features = list(RESNET) if name.startswith("res") else [f"stride{stride}" for stride in strides]
    with without_memory(name):
        backbone = TorchvisionBackbone(name, out_features=features)
    shapes = backbone.output_shape()
    assert list(shapes) == features and [shape.stride for shape in shapes.values()] == strides
    assert shapes[features[-1]] == ShapeSpec(channels=channels, stride=32)
    assert backbone.size_divisibility == 0 and backbone.padding_constraints == {}
    outputs = backbone(torch.empty(2, 3, 384, 512, device=next(backbone.parameters()).device))
    assert list(outputs) == features
    for feature, shape in shapes.items():
        assert outputs[feature].shape[:2] == (2, shape.channels)
        for side, pixels in zip(outputs[feature].shape[2:], (384, 512)):
            # AlexNet's convs and pools lack padding.
            assert pixels // shape.stride - (name == "alexnet") <= side <= pixels // shape.stride


@pytest.mark.parametrize("name", ["alexnet", "densenet121", "mobilenet_v3_small", "regnet_y_400mf", "resnet18"])
def test_nothing_reaches_back_into_a_feature(name: str) -> None:
    """Torchvision's layers work in place; a map that was handed out must stay as it was."""
    features = list(RESNET) if name == "resnet18" else [f"stride{stride}" for stride in KINDS[name][1]]
    backbone = TorchvisionBackbone(name, out_features=features).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs, kept = backbone(x), {}
        for step in backbone._steps:
            x = backbone.get_submodule(step)(x)
            kept[step] = x.clone()
    for step, feature in backbone._feature_behind.items():
        assert torch.equal(outputs[feature], kept[step]), feature


@pytest.mark.parametrize("name", [*TABLE_3, "vgg16", "efficientnet_b0", "mobilenet_v3_large"])
def test_parameters_are_as_many_as_torchvision_publishes(name: str) -> None:
    with torch.device("meta"):
        ours = Whole(name, 1000)
    published = get_model_weights(name).DEFAULT.meta["num_params"]
    assert sum(parameter.numel() for parameter in ours.parameters()) == published


def test_the_networks() -> None:
    names = list_networks()
    assert set(TABLE_3) | set(KINDS) | {"wide_resnet50_2", "resnext101_64x4d", "vgg19_bn"} <= set(names)
    for absent in ("vit_b_16", "swin_t", "inception_v3", "googlenet", "fasterrcnn_resnet50_fpn", "quantized_resnet50"):
        assert absent not in names


@pytest.mark.parametrize(
    "name, message",
    [
        ("resnet5", "MODEL.TORCHVISION.NAME: got 'resnet5'; did you mean resnet50 or "),
        ("ResNet50", "MODEL.TORCHVISION.NAME: got 'ResNet50'; did you mean resnet50 or "),
        ("vit_b_16", "MODEL.TORCHVISION.NAME: got 'vit_b_16'; expected a network of torchvision that can be a back"),
        ("", "MODEL.TORCHVISION.NAME: got ''; expected a network of torchvision that can be a backbone: alexnet, "),
    ],
)
def test_unknown_networks(name: str, message: str) -> None:
    with pytest.raises(ArchError) as caught:
        TorchvisionBackbone(name)
    assert str(caught.value).startswith(message)


class TestConfig:
    def test_features_and_what_is_not_built(self, make_cfg):
        opts = ["MODEL.FBNET.OUT_FEATURES", ["res4", "res2"]]
        backbone = build_backbone(make_cfg(*BUILDER, "resnet18", *opts))
        assert backbone.output_shape() == {"res2": ShapeSpec(64, stride=4), "res4": ShapeSpec(256, stride=16)}
        assert set(dict(backbone.named_children())) == {"conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"}
        with pytest.raises(ArchError, match="OUT_FEATURES: ends with res4, the classifier of resnet18 needs its last"):
            torchvision_head(backbone, 10)

    def test_a_walked_network_ends_where_it_should(self):
        backbone = TorchvisionBackbone("mobilenet_v3_small", out_features=["stride8"])
        whole = get_model("mobilenet_v3_small", weights=None).state_dict()
        built = {int(key.split(".")[1]) for key in backbone.state_dict()}
        assert built == set(range(4)) and set(backbone.state_dict()) < set(whole)

    def test_bad_values(self, make_cfg):
        with pytest.raises(ArchError, match="got 'trunk4', expected some of stem, res2, res3, res4, res5"):
            build_backbone(make_cfg(*BUILDER, "resnet18", "MODEL.FBNET.OUT_FEATURES", ["trunk4"]))
        with pytest.raises(ArchError, match="DROP_PATH: got 1.0, expected a probability from 0 to below 1"):
            build_backbone(make_cfg(*BUILDER, "resnet18", "MODEL.FBNET.DROP_PATH", 1.0))
        with pytest.raises(ArchError, match="resnet18 takes 3 image channels, the input has 1"):
            build_backbone(make_cfg(*BUILDER, "resnet18"), ShapeSpec(channels=1))

    def test_seeds_give_torchvisions_initialisation(self):
        torch.manual_seed(3)
        theirs = get_model("resnet18", weights=None).state_dict()
        torch.manual_seed(3)
        ours = TorchvisionBackbone("resnet18").state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert set(theirs) - set(ours) == {"fc.weight", "fc.bias"}


def norms_of(network: nn.Module) -> list[nn.Module]:
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d, nn.GroupNorm)
    return [module for module in network.modules() if isinstance(module, kinds)]


class TestNorm:
    @pytest.mark.parametrize(
        "name, kind",
        [("BN", nn.BatchNorm2d), ("SyncBN", NaiveSyncBatchNorm), ("FrozenBN", FrozenBatchNorm2d), ("GN", nn.GroupNorm)],
    )
    def test_takes_the_place_of_each_batch_norm(self, name, kind, make_cfg):
        backbone = build_backbone(make_cfg(*BUILDER, "mobilenet_v3_small", "MODEL.FBNET.NORM", name))
        theirs = get_model("mobilenet_v3_small", weights=None).features
        assert len(norms_of(backbone)) == len(norms_of(theirs)) == 34
        for ours, norm in zip(norms_of(backbone), norms_of(theirs)):
            assert isinstance(ours, kind) and ours.eps == norm.eps == 0.001
            assert getattr(ours, "momentum", 0.01) == norm.momentum == 0.01
            assert ours.weight.shape == norm.weight.shape
        output = backbone(torch.randn(2, 3, 64, 64))["stride32"]
        output.square().mean().backward()
        assert output.isfinite().all()
        assert all(parameter.grad is not None for parameter in backbone.parameters())

    @pytest.mark.parametrize("norm", ["SyncBN", "FrozenBN"])
    def test_state_dict_keeps_its_names(self, norm, make_cfg):
        plain = build_backbone(make_cfg(*BUILDER, "resnet18")).state_dict()
        other = build_backbone(make_cfg(*BUILDER, "resnet18", "MODEL.FBNET.NORM", norm)).state_dict()
        lost = {key for key in plain if norm == "FrozenBN" and key.endswith("num_batches_tracked")}
        assert set(other) == set(plain) - lost

    def test_synchronized_on_a_gpu(self, make_cfg):
        cfg = make_cfg(*BUILDER, "resnet18", "MODEL.FBNET.NORM", "SyncBN", "MODEL.DEVICE", "cuda")
        with torch.device("meta"):
            assert {type(norm) for norm in norms_of(build_backbone(cfg))} == {nn.SyncBatchNorm}

    def test_weights_and_statistics_go_along(self):
        network = nn.Sequential(nn.BatchNorm2d(8, eps=0.1, momentum=0.3))
        network.load_state_dict({key: torch.rand_like(value.float()) for key, value in network.state_dict().items()})
        images = torch.randn(2, 8, 5, 5)
        expected = network.eval()(images)
        replace_norms(network, FrozenBatchNorm2d, "network")
        assert type(network[0]) is FrozenBatchNorm2d
        torch.testing.assert_close(network(images), expected)

    def test_none_at_all(self, make_cfg):
        with pytest.raises(ArchError, match='MODEL.FBNET.NORM: got "", expected a norm; resnet18 has norms everywhere'):
            build_backbone(make_cfg(*BUILDER, "resnet18", "MODEL.FBNET.NORM", ""))
        assert not norms_of(build_backbone(make_cfg(*BUILDER, "alexnet", "MODEL.FBNET.NORM", "")))


class TestFreeze:
    def test_the_first_stages(self, make_cfg):
        backbone = build_backbone(make_cfg(*BUILDER, "resnet18", "MODEL.FBNET.FREEZE_AT", 2))
        frozen = {key.split(".")[0] for key, value in backbone.named_parameters() if not value.requires_grad}
        trained = {key.split(".")[0] for key, value in backbone.named_parameters() if value.requires_grad}
        assert (frozen, trained) == ({"conv1", "layer1"}, {"layer2", "layer3", "layer4"})
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        backbone.train()(torch.randn(2, 3, 64, 64))
        moved = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
        assert {key.split(".")[0] for key in moved} == {"layer2", "layer3", "layer4"}
        lost = set(TorchvisionBackbone("resnet18").state_dict()) - set(before)
        assert len(lost) == 5 and all(key.endswith("num_batches_tracked") for key in lost)

    def test_keeps_stochastic_depth(self):
        backbone = TorchvisionBackbone("resnet18", drop_path=0.7, freeze_at=5)
        assert probabilities(backbone) == pytest.approx([0.1 * i for i in range(8)])
        assert not any(parameter.requires_grad for parameter in backbone.parameters())

    def test_out_of_range(self):
        with pytest.raises(ArchError, match=r"FREEZE_AT: got 6, expected 0 to 5 \(the built stages\) \(resnet18\)"):
            TorchvisionBackbone("resnet18", freeze_at=6)
        with pytest.raises(ArchError, match=r"FREEZE_AT: got 3, expected 0 to 2 \(the built stages\) \(resnet18\)"):
            TorchvisionBackbone("resnet18", freeze_at=3, out_features=["res2"])
        with pytest.raises(ArchError, match="FREEZE_AT: got 1, expected 0; only ResNets can be frozen in part"):
            TorchvisionBackbone("mobilenet_v2", freeze_at=1)


def probabilities(network: nn.Module) -> list[float]:
    """Of all residual blocks in order, 0 for those that never drop their branch."""
    found = []
    for block in (module for module in network.modules() if type(module) in BRANCHES):
        branch = block.get_submodule(BRANCHES[type(block)])
        hooks = [hook.probability for hook in branch._forward_hooks.values() if isinstance(hook, DropBranch)]
        found.append(branch.p if isinstance(branch, StochasticDepth) else sum(hooks))
    return found


class TestStochasticDepth:
    @pytest.mark.parametrize(
        "name, blocks", [("resnet18", 8), ("regnet_y_400mf", 16), ("efficientnet_b0", 16), ("convnext_tiny", 18)]
    )
    def test_is_linear_in_depth(self, name, blocks):
        with without_memory(name):
            found = probabilities(TorchvisionBackbone(name, drop_path=0.3))
            assert found == pytest.approx([0.3 * i / (blocks - 1) for i in range(blocks)])
            assert not any(probabilities(TorchvisionBackbone(name)))  # 0.2 is torchvision's own for EfficientNets

    @pytest.mark.parametrize("name, residual", [("mobilenet_v2", 10), ("mobilenet_v3_small", 6), ("mnasnet0_5", 10)])
    def test_only_of_blocks_with_a_residual(self, name, residual):
        with torch.device("meta"):
            found = probabilities(TorchvisionBackbone(name, drop_path=0.3))
        last = len(found) - 1
        assert all(one in (0, pytest.approx(0.3 * i / last)) for i, one in enumerate(found))
        assert sum(one > 0 for one in found) == residual

    def test_drops_images_in_training_alone(self):
        block = TorchvisionBackbone("resnet18", drop_path=0.25).layer4[1]
        images, drawn = torch.rand(1, 512, 1, 1).repeat(4000, 1, 1, 1), []
        branch = block.eval().bn2(block.conv2(block.relu(block.bn1(block.conv1(images[:1])))))
        torch.testing.assert_close(block(images), torch.relu(images + branch))
        block.bn2.train()
        block.bn2.momentum = 0.0
        block.bn2.forward = lambda x: branch.expand(len(x), -1, -1, -1)  # statistics of the batch are not the subject
        output = block(images)
        for kept in (0.0, 1 / 0.75):
            expected = torch.relu(images[0] + kept * branch[0])
            drawn.append(((output - expected).abs().amax((1, 2, 3)) < 1e-5).sum().item())
        assert sum(drawn) == 4000
        assert abs(drawn[0] - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5

    @pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
    def test_copies_and_files_keep_it(self, name):
        backbone = TorchvisionBackbone(name, drop_path=0.9)
        names = list(backbone.state_dict())
        assert names == list(TorchvisionBackbone(name).state_dict())
        images, outputs = torch.randn(4, 3, 64, 64), []
        for one in (backbone, copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
            torch.manual_seed(5)
            outputs.append(list(one(images).values())[-1])
        assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
        assert not torch.equal(outputs[0], list(backbone(images).values())[-1])  # other draws

    @pytest.mark.parametrize("name", ["alexnet", "densenet121", "vgg11"])
    def test_is_said_to_be_ignored_without_residuals(self, name, caplog):
        with torch.device("meta"), caplog.at_level(logging.WARNING):
            TorchvisionBackbone(name)
            assert not caplog.messages
            TorchvisionBackbone(name, drop_path=0.2)
        assert caplog.messages == [f"MODEL.FBNET.DROP_PATH is ignored: {name} has no residual blocks"]


class TestHead:
    @pytest.mark.parametrize(
        "name, layers",
        [
            ("alexnet", "Dropout Linear ReLU Dropout Linear ReLU"),
            ("vgg11", "Linear ReLU Dropout Linear ReLU Dropout"),
            ("mobilenet_v3_small", "Linear Hardswish Dropout"),
            ("efficientnet_b0", "Dropout"),
            ("resnet18", "Dropout"),
            ("densenet121", "Dropout"),
            ("convnext_tiny", "LayerNorm2d Flatten Dropout"),
        ],
    )
    def test_layers_and_dropout(self, name, layers):
        with torch.device("meta"):
            head = Whole(name, 5, dropout=0.35).head
        assert " ".join(type(layer).__name__ for layer in head.hidden) == layers
        assert {layer.p for layer in head.modules() if isinstance(layer, nn.Dropout)} == {0.35}
        assert isinstance(head.fc, nn.Linear) and head.fc.out_features == 5

    def test_dropout_is_before_the_last_layer(self):
        head = torchvision_head(TorchvisionBackbone("resnet18"), 4, dropout=0.5)
        nn.init.constant_(head.fc.weight, 1 / 512)
        nn.init.zeros_(head.fc.bias)
        output = head(torch.ones(200, 512, 2, 2)).detach()  # a mean of 512 draws of 0 or 2
        assert output.std() == pytest.approx(512**-0.5, rel=0.2) and output.mean() == pytest.approx(1, abs=0.01)
        assert torch.allclose(head.eval()(torch.ones(1, 512, 2, 2)), torch.ones(1, 4))

    def test_bad_dropout(self):
        with pytest.raises(ValueError, match="dropout probability"):
            torchvision_head(TorchvisionBackbone("shufflenet_v2_x0_5"), 4, dropout=1.5)

    def test_leaves_the_features_alone(self):
        backbone = TorchvisionBackbone("densenet121").eval()
        (feature,) = backbone(torch.randn(1, 3, 64, 64)).values()
        before = feature.clone()
        assert before.min() < 0
        torchvision_head(backbone, 3)(feature)
        assert torch.equal(feature, before)


class TestNames:
    def test_of_an_old_densenet(self):
        layer = "features.denseblock1.denselayer2."
        old = {f"{layer}norm.1.weight": torch.zeros(1), f"{layer}conv.2.weight": torch.ones(1)}
        new = [f"backbone.{layer}norm1.weight", f"backbone.{layer}conv2.weight"]
        assert list(from_torchvision("classifier", old)) == new

    def test_of_something_else(self):
        with pytest.raises(CheckpointError, match="has the tensor 'model.fc', expected names that begin with backb"):
            to_torchvision("fc", {"model.fc": torch.zeros(1)})


def batch(size: int = 64) -> list[Mapping]:
    return [{"image": torch.randint(0, 256, (3, size, size), dtype=torch.uint8), "label": i % 3} for i in range(4)]


def test_a_classifier_learns() -> None:
    backbone = TorchvisionBackbone("resnet18", drop_path=0.1)
    model = ImageClassifier(
        backbone=backbone,
        head=torchvision_head(backbone, 3, 0.1),
        pixel_mean=(128.0, 128.0, 128.0),
        pixel_std=(64.0, 64.0, 64.0),
    )
    optimizer, images, losses = torch.optim.SGD(model.parameters(), 0.02), batch(), []
    for _ in range(6):
        loss = model(images)["loss_cls"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert {key.split(".")[0] for key in model.state_dict()} == {"backbone", "head"}
    theirs = to_torchvision("fc", model.state_dict())
    assert not any(get_model("resnet18", weights=None, num_classes=3).load_state_dict(theirs))


def test_a_detector_on_a_resnet(make_cfg) -> None:
    opts = ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"]
    opts += ["MODEL.FBNET.OUT_FEATURES", ["res4"], "MODEL.FBNET.FREEZE_AT", 2]
    opts += ["MODEL.RPN.IN_FEATURES", ["res4"], "MODEL.ROI_HEADS.NAME", "StandardROIHeads"]
    opts += ["MODEL.ROI_HEADS.IN_FEATURES", ["res4"], "MODEL.ROI_HEADS.NUM_CLASSES", 3]
    opts += ["MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1]
    opts += ["MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 3]
    model = build_model(make_cfg(*BUILDER, "resnet18", *opts))
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 80.0, 72.0]]))
    instances.gt_classes = torch.tensor([1])
    losses = model([{"image": torch.randint(0, 256, (3, 96, 128)).float(), "instances": instances}])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in model.backbone.layer1.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in model.backbone.layer2.parameters())


@pytest.mark.skipif(torch.__version__ < "2.1", reason="the compiler of torch 2.0 knows neither hooks nor Python 3.11")
def test_compiles_in_one_piece() -> None:
    """Stochastic depth included."""
    backbone = TorchvisionBackbone("resnet18", drop_path=0.9, out_features=["stem", "res3"])
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    images, outputs = torch.randn(2, 3, 32, 32), []
    for one in (backbone, compiled):
        torch.manual_seed(5)
        outputs.append(one(images))
    for feature in ("stem", "res3"):
        torch.testing.assert_close(outputs[0][feature], outputs[1][feature])
