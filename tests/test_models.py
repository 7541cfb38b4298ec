"""Networks without a config: the same function as the config's, and what timm's users expect of them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from detectron2.modeling import build_model as build_from_config
from torch import nn

from fbnet_plugin import build_model, list_models, models
from fbnet_plugin.arch import ArchError, HeadSpec, get_arch, list_archs, save_arch, scale_width
from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer
from fbnet_plugin.checkpoint.timm_url import FBNETS
from fbnet_plugin.engine import load_config

CONFIGS = ["ImageNet-Classification/fbnet_v3_a_400e.yaml", "ImageNet-Classification/fbnet_c_360e.yaml"]
NAMES = {CONFIGS[0]: "fbnet_v3_a", CONFIGS[1]: "fbnet_c"}


def narrow(name="fbnet_v3_a", **kwargs):
    return build_model(name, width_mult=0.25, **kwargs)


def no_trivial_weights(model, forward):
    """Norms with scales that start at zero would hide what is behind them; statistics are those of random images."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    with torch.no_grad():
        forward(torch.randn(8, 3, 96, 96))
    return model.eval()


def classifier(config):
    opts = ["MODEL.DEVICE", "cpu", "MODEL.FBNET.WIDTH_MULT", 0.25, "MODEL.FBNET.NORM", "BN"]
    model = build_from_config(load_config(config, opts))
    return no_trivial_weights(model, lambda x: model.head(model.backbone(x)[model.feature]))


@pytest.mark.parametrize("config", CONFIGS)
def test_it_is_the_classifier_of_the_config(config, tmp_path):
    theirs = classifier(config)
    FBNetCheckpointer(theirs, str(tmp_path)).save("theirs")
    ours = narrow(NAMES[config], pretrained=str(tmp_path / "theirs.pth")).eval()
    images = torch.rand(2, 3, 96, 80)
    normalized = theirs.normalize(255 * images)
    mean, std = (torch.tensor(ours.default_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close((images - mean) / std, normalized)
    with torch.no_grad():
        logits = ours(normalized)
        assert torch.equal(logits, theirs.predict(255 * images)) and logits.std() > 0


def test_the_classifier_of_the_config_takes_its_weights(tmp_path):
    ours = narrow()
    no_trivial_weights(ours, ours)
    torch.save(ours.state_dict(), tmp_path / "ours.pth")
    theirs = classifier(CONFIGS[0])
    FBNetCheckpointer(theirs, strict=True).load(str(tmp_path / "ours.pth"), checkpointables=[])
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs.head(theirs.backbone(images)[theirs.feature]))


@pytest.mark.parametrize("name", list_archs())
def test_every_architecture_has_its_parameters_and_maps(name):
    width = 1.0 if name == "fbnet_v3_20g" else 0.25  # its groups do not divide narrower blocks
    arch = scale_width(get_arch(name), width)
    with torch.device("meta" if width == 1.0 else "cpu"):
        features = build_model(name, features_only=True, width_mult=width)
        network = features if arch.head is None else build_model(name, width_mult=width)
        maps = features(torch.empty(2, arch.in_channels, 64, 96))
    assert sum(parameter.numel() for parameter in network.parameters()) == arch.cost().params
    info = features.feature_info
    assert len(info) == len(maps) == len(arch.stages)
    for one, channels, stride in zip(maps, info.channels(), info.reduction()):
        assert tuple(one.shape) == (2, channels, math.ceil(64 / stride), math.ceil(96 / stride))


def test_timm_calls_the_same_maps_the_same():
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model("fbnetv3_b", features_only=True)
        ours = build_model("fbnet_v3_b", features_only=True)
    # timm's last map is behind the head's first conv.
    assert ours.feature_info.channels()[:4] == theirs.feature_info.channels()[:4]
    assert ours.feature_info.reduction() == theirs.feature_info.reduction()
    two = narrow(features_only=True, out_indices=(-1, 2))
    assert [one["index"] for one in two.feature_info.get_dicts()] == [2, 4]
    assert two.feature_info.module_name() == ["backbone.stages.2", "backbone.stages.4"]
    assert [one.shape[1] for one in two(torch.randn(1, 3, 64, 64))] == two.feature_info.channels()
    assert len(narrow(features_only=True, out_indices=[1]).backbone.stages) == 2  # no stage is built for nothing


def test_timm_prepares_images_for_it():
    data = pytest.importorskip("timm.data")
    settings = data.resolve_data_config({}, model=narrow())
    assert settings["input_size"] == (3, 224, 224) and settings["mean"] == (0.485, 0.456, 0.406)
    assert settings["crop_pct"] == pytest.approx(224 / 242)  # as published
    assert settings["interpolation"] == "bilinear"
    resize, crop = data.create_transform(**settings).transforms[:2]
    assert (resize.size, crop.size) == (242, (224, 224))


def test_head_and_features_are_its_two_halves():
    network = narrow(num_classes=7)
    no_trivial_weights(network, network)
    images = torch.randn(2, 3, 64, 64)
    features = network.forward_features(images)
    assert features.shape[:2] == (2, network.num_features)
    hidden = network.forward_head(features, pre_logits=True)
    assert hidden.shape == (2, network.head_hidden_size) and network.num_classes == 7
    assert torch.equal(network.get_classifier()(hidden), network(images))
    network.reset_classifier(3)
    assert network(images).shape == (2, 3) and network.default_cfg["num_classes"] == 3
    assert torch.equal(network.forward_head(features, pre_logits=True), hidden)
    network.reset_classifier(0)
    assert torch.equal(network(images), hidden)


def test_maps_are_aligned_for_decoders_and_published_for_classifiers():
    images = torch.randn(1, 3, 224, 224)
    network, aligned = narrow().eval(), narrow(features_only=True).eval()
    assert network.forward_features(images).shape[-2:] == (6, 6)  # as published, not 7
    assert [one.shape[-1] for one in aligned(images)] == [112, 56, 28, 14, 7]
    published = narrow(features_only=True, padding="published")
    published.load_state_dict(network.state_dict(), strict=False)
    assert torch.equal(published.eval()(images)[-1], network.forward_features(images))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("features_only", [False, True])
def test_it_trains_and_traces(features_only):
    network = narrow("fbnet_v2_f1", features_only=features_only, num_classes=5, drop_rate=0.1)
    no_trivial_weights(network, network).train()
    images = torch.randn(2, 3, 64, 64)
    outputs = network(images) if features_only else [network(images)]
    sum((one * torch.randn_like(one)).sum() for one in outputs).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    network.eval()
    traced = torch.jit.trace(network, torch.randn(2, 3, 64, 64), strict=not features_only)  # a list is not strict
    for ours, theirs in zip(network(images), traced(images)):
        torch.testing.assert_close(ours, theirs)


def test_arguments_reach_the_network():
    network = narrow(in_chans=1, norm_layer=lambda c: nn.GroupNorm(1, c), drop_rate=0.3, drop_path_rate=0.2)
    kinds = {type(module) for module in network.modules()}
    assert nn.GroupNorm in kinds and nn.BatchNorm2d not in kinds
    assert network.head.dropout.p == 0.3
    rates = [module.p for module in network.modules() if type(module).__name__ == "StochasticDepth"]
    assert rates == sorted(rates) and 0.1 < rates[-1] <= 0.2
    assert network.eval()(torch.randn(1, 1, 64, 64)).shape == (1, 1000)
    assert network.default_cfg["input_size"][0] == 1


def test_bodies_for_detectors_get_pool_and_linear_layer():
    network = narrow("fbnet_v3_a_det", num_classes=4)
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 4)
    assert network.head_hidden_size == network.num_features
    with pytest.raises(ArchError, match="num_classes: fbnet_v3_a_det is a body without a classifier"):
        narrow("fbnet_v3_a_det")


def test_own_architecture_files_are_networks_too(tmp_path):
    arch = dataclasses.replace(get_arch("fbnet_c"), name="mine", head=HeadSpec(num_classes=6))
    save_arch(arch, tmp_path / "mine.yaml")
    network = build_model(tmp_path / "mine.yaml", width_mult=0.25)
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 6)
    assert network.default_cfg["architecture"] == "mine"


class TestPretrained:
    @pytest.fixture
    def weights(self, tmp_path):
        torch.manual_seed(3)
        path = tmp_path / "weights.pth"
        torch.save(narrow().state_dict(), path)
        return str(path)

    def test_another_number_of_classes_has_a_fresh_last_layer(self, weights):
        state = torch.load(weights, weights_only=True)
        network = narrow(num_classes=9, pretrained=weights)
        assert network.get_classifier().weight.shape[0] == 9
        for name, tensor in network.state_dict().items():
            assert name.startswith("head.fc.") or torch.equal(tensor, state[name]), name
        features = narrow(features_only=True, out_indices=[1], pretrained=weights)
        assert torch.equal(features.state_dict()["backbone.stages.1.0.project.conv.weight"],
                           state["backbone.stages.1.0.project.conv.weight"])  # fmt: skip

    def test_true_means_the_published_ones(self, weights, monkeypatch):
        monkeypatch.setitem(models.PUBLISHED, "fbnet_v3_a", weights)
        state = torch.load(weights, weights_only=True)
        assert torch.equal(narrow(pretrained=True).get_classifier().weight, state["head.fc.weight"])
        assert "fbnet_v3_a" in list_models(pretrained=True)

    def test_all_of_timms_are_there(self):
        assert list_models(pretrained=True) == sorted(models.PUBLISHED)
        assert sorted(models.PUBLISHED.values()) == sorted(f"timm://{name}" for name in FBNETS)

    @pytest.mark.parametrize("theirs, ours", [("fbnetv3_b", "fbnet_v3_b_timm"), ("fbnetc_100", "fbnet_c_timm")])
    def test_weights_of_timm_compute_the_same(self, theirs, ours, tmp_path):
        timm = pytest.importorskip("timm")
        network = timm.create_model(theirs)
        no_trivial_weights(network, network)
        torch.save(network.state_dict(), tmp_path / "timm.pth")
        images = torch.randn(2, 3, 96, 96)
        with torch.no_grad():
            logits = build_model(ours, pretrained=tmp_path / "timm.pth").eval()(images)
            torch.testing.assert_close(logits, network(images))
        assert logits.std() > 0

    def test_weights_of_another_network_are_refused(self, weights):
        with pytest.raises(CheckpointError, match="is of another model"):
            build_model("fbnet_v3_a", width_mult=0.5, pretrained=weights)
        with pytest.raises(CheckpointError, match="lacks|is of another model|none of its tensors"):
            narrow("fbnet_v3_c", pretrained=weights)

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ({"pretrained": True}, ArchError, "fbnet_v3_a has no published weights .* fbnet_v3_b_timm"),
            ({"pretrained": "no/such.pth"}, CheckpointError, "no/such.pth: no such file"),
            ({"pretrained": "x.pth", "in_chans": 1}, ArchError, "in_chans: got 1, but weights are for 3"),
            ({"out_indices": [1]}, ArchError, "out_indices: got .1. without features_only=True"),
            ({"out_indices": [1, 5], "features_only": True}, ArchError, "got 5, expected numbers from -5 to 4"),
            ({"out_indices": [], "features_only": True}, ArchError, "out_indices: is empty"),
            ({"num_classes": -1}, ArchError, "num_classes: got -1"),
            ({"padding": "valid"}, ArchError, "padding: got 'valid', expected published or same"),
            ({"drop_rate": 1.0}, ArchError, "drop_rate: got 1.0, expected a probability"),
            ({"drop_path_rate": -0.1}, ArchError, "drop_path_rate: got -0.1"),
            ({"width_mult": 0}, ArchError, "width factor"),
        ],
    )
    def test_mistakes_are_named(self, arguments, error, message):
        with pytest.raises(error, match=message):
            build_model("fbnet_v3_a", **arguments)


def test_names_are_listed_by_pattern():
    assert list_models() == list_archs()
    assert list_models("fbnet_v3_[ab]") == ["fbnet_v3_a", "fbnet_v3_b"]
    assert list_models("resnet*") == []
    with pytest.raises(ArchError, match="unknown architecture 'fbnet_v3_aa': did you mean fbnet_v3_a"):
        build_model("fbnet_v3_aa")
