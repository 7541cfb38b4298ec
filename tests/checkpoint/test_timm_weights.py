"""timm's own networks: the same logits and gradients after the conversion, and the way back."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from detectron2.modeling import build_model
from foreign_files import Classifier, randomize
from torch import nn

from fbnet_plugin.arch import get_arch
from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer
from fbnet_plugin.checkpoint.schemes import convert_foreign
from fbnet_plugin.checkpoint.timm_names import to_timm
from fbnet_plugin.engine import load_config

timm = pytest.importorskip("timm")

# timm's name and tag -> architecture here, tensors.
NETWORKS = {
    "fbnetv3_b.ra2_in1k": ("fbnet_v3_b_timm", 597),
    "fbnetv3_d.ra2_in1k": ("fbnet_v3_d_timm", 655),
    "fbnetv3_g.ra2_in1k": ("fbnet_v3_g_timm", 737),
    "fbnetc_100.rmsp_in1k": ("fbnet_c_timm", 392),
}


@pytest.fixture(scope="module")
def networks():
    """timm's networks by name, in evaluation mode, with random weights and statistics."""
    made = {}

    def get(name: str) -> nn.Module:
        if name not in made:
            made[name] = randomize(timm.create_model(name.partition(".")[0])).eval()
        return made[name]

    return get


@pytest.fixture
def hub(networks, monkeypatch, tmp_path):
    """Random weights in the place of each download from timm's hub; gives the files that were asked for."""
    from safetensors.torch import save_file
    from timm.models import _hub

    asked = []

    def download(repo_id: str, filename: str, revision=None, local_files_only: bool = False) -> str:
        name = repo_id.partition("/")[2]
        if local_files_only or filename != "model.safetensors":
            raise _hub.EntryNotFoundError("not there")
        asked.append(f"{repo_id}/{filename}")
        save_file(networks(name).state_dict(), tmp_path / filename)
        return str(tmp_path / filename)

    monkeypatch.setattr(_hub, "hf_hub_download", download)
    monkeypatch.setattr(_hub, "has_hf_hub", lambda necessary=False: True)
    return asked


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_gradients_are_those_of_timm(name, networks, hub, caplog):
    """In evaluation mode within 1e-5; in training mode every parameter's gradient, in float64, to rounding."""
    arch, count = NETWORKS[name]
    theirs, ours = networks(name), Classifier(get_arch(arch), 1000).eval()
    with caplog.at_level(logging.INFO):
        FBNetCheckpointer(ours, strict=True).load(f"timm://{name}")
    assert hub == [f"timm/{name}/model.safetensors"]
    assert f"timm's names of {arch}, {count} tensors" in caplog.text and f"{count} tensors by name" in caplog.text
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images)
        assert expected.std() > 0.05
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-5)

    theirs, ours = copy.deepcopy(theirs).double().train(), ours.double().train()
    images, slope = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.randn(4, 1000, dtype=torch.float64)
    (theirs(images) * slope).sum().backward()
    (ours(images) * slope).sum().backward()
    found = {**theirs.state_dict(), **{key: p.grad for key, p in theirs.named_parameters()}}
    gradients = convert_foreign(found).state  # the names of the gradients are those of their parameters
    largest = max(float(parameter.grad.abs().max()) for parameter in ours.parameters())
    for key, parameter in ours.named_parameters():  # some are zero but for rounding: biases that a norm takes away
        torch.testing.assert_close(parameter.grad, gradients[key], rtol=1e-6, atol=1e-10 * largest, msg=key)
    after = convert_foreign(theirs.state_dict()).state
    for key, value in ours.named_buffers():
        torch.testing.assert_close(value, after[key], msg=key)


@pytest.mark.parametrize("envelope", ["state_dict", "state_dict_ema", "module."])
def test_timm_s_own_training_files(envelope, networks, tmp_path, caplog):
    """With both, the average is taken."""
    state = networks("fbnetc_100.rmsp_in1k").state_dict()
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    content = {"state_dict": state, "epoch": 3, "arch": "fbnetc_100"}
    if envelope == "state_dict_ema":
        content = {**content, "state_dict": other, "state_dict_ema": state}
    elif envelope == "module.":
        content["state_dict"] = {f"module.{key}": value for key, value in state.items()}
    torch.save(content, tmp_path / "last.pth.tar")
    model = Classifier(get_arch("fbnet_c_timm"), 1000)
    with caplog.at_level(logging.INFO):
        FBNetCheckpointer(model, strict=True).load(str(tmp_path / "last.pth.tar"))
    assert torch.equal(model.head.fc.weight, state["classifier.weight"])
    assert ("averaged weights" in caplog.text) == (envelope == "state_dict_ema")


def timm_features(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Maps behind each of timm's stages."""
    x = network.bn1(network.conv_stem(images))
    maps = []
    for stage in network.blocks:
        x = stage(x)
        maps.append(x)
    return maps


def detector(kind: str, name: str, *opts):
    cfg = load_config(f"COCO-Detection/{kind}", ["MODEL.DEVICE", "cpu", "MODEL.FBNET.NORM", "BN", *opts])
    cfg.MODEL.WEIGHTS, cfg.MODEL.FBNET.ARCH = f"timm://{name}", NETWORKS[name][0]
    model = build_model(cfg)
    FBNetCheckpointer(model).resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
    return model.eval()


def test_a_c4_detector_begins_with_timm_s_stages(networks, hub, caplog):
    """Four stages per image, the last one per region."""
    name = "fbnetv3_b.ra2_in1k"
    with caplog.at_level(logging.INFO):
        model = detector("faster_rcnn_fbnet_v3_b_timm_C4_3x.yaml", name)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = timm_features(networks(name), images)
        feature = model.backbone(images)["trunk3"]
        torch.testing.assert_close(feature, maps[4], rtol=1e-4, atol=1e-5)
        boxes = model.roi_heads.box_head(feature)
        torch.testing.assert_close(boxes, maps[5].mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert "to roi_heads.box_head.blocks" in caplog.text
    assert "9 not used (head." in caplog.text  # of the pooling block and the classifier


def test_a_feature_pyramid_begins_with_timm_s_stages(networks, hub, caplog):
    name = "fbnetc_100.rmsp_in1k"
    with caplog.at_level(logging.INFO):
        model = detector("faster_rcnn_fbnet_v3_g_timm_FPN_3x.yaml", name, "MODEL.FPN.NORM", "BN")
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = timm_features(networks(name), images)
        features = model.backbone.bottom_up(images)
    for feature, index in (("trunk1", 1), ("trunk2", 2), ("trunk3", 4), ("trunk4", 6)):
        torch.testing.assert_close(features[feature], maps[index], rtol=1e-4, atol=1e-5)
    assert "to backbone.bottom_up.stages" in caplog.text
    assert "fpn_output2.weight" in caplog.text  # Detectron2's report of what the file does not give


def test_the_paper_s_network_takes_them_too(networks, hub, caplog):
    """Its stem has a bias in front of a norm, which becomes zero."""
    name = "fbnetv3_b.ra2_in1k"
    model = Classifier(get_arch("fbnet_v3_b").with_padding("same"), 1000).eval()
    with caplog.at_level(logging.INFO):
        FBNetCheckpointer(model, strict=True).load(f"timm://{name}")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), networks(name)(images), rtol=0, atol=1e-5)
    assert "1 biases in front of norms are zero" in caplog.text


def test_another_number_of_classes_begins_afresh(networks, hub, caplog):
    name = "fbnetc_100.rmsp_in1k"
    model = Classifier(get_arch("fbnet_c_timm"), 7)
    FBNetCheckpointer(model).resume_or_load(f"timm://{name}", resume=False)
    assert torch.equal(model.backbone.stages[0][0].conv.weight, networks(name).conv_stem.weight)
    assert "head.fc.weight: (1000, 1984) in the file, (7, 1984) in the model" in caplog.text
    with pytest.raises(CheckpointError, match="MODEL.CLASSIFIER.NUM_CLASSES 1000"):
        FBNetCheckpointer(model, strict=True).load(f"timm://{name}")


def test_another_architecture_is_one_error(hub):
    with pytest.raises(CheckpointError, match="MODEL.FBNET.ARCH"):
        FBNetCheckpointer(Classifier(get_arch("fbnet_v3_d_timm"), 1000), strict=True).load(
            "timm://fbnetc_100.rmsp_in1k"
        )


def test_a_network_that_the_zoo_does_not_have():
    state = timm.create_model("mobilenetv3_small_050").state_dict()
    with pytest.raises(
        CheckpointError, match="has timm's names and has .* blocks of widths 16-.*1000 classes; no arch"
    ):
        convert_foreign(state)
    with pytest.raises(CheckpointError, match="is not of fbnet_c_timm: the file has 13 blocks .* the architecture 23"):
        convert_foreign(state, arch=get_arch("fbnet_c_timm"))


class TestBack:
    """Our classifiers in timm's networks."""

    @pytest.mark.parametrize(
        "arch, name",
        [
            ("fbnet_v3_b_timm", "fbnetv3_b"),
            ("fbnet_v3_d", "fbnetv3_d"),
            ("fbnet_v3_g", "fbnetv3_g"),
            ("fbnet_c_timm", "fbnetc_100"),
        ],
    )
    def test_loads_strictly_with_equal_logits(self, arch, name):
        """Of the paper's networks the bias of the stem goes into a running mean."""
        ours = randomize(Classifier(get_arch(arch), 1000)).eval()
        state = to_timm(ours.state_dict(), get_arch(arch))
        theirs = timm.create_model(name).eval()
        theirs.load_state_dict(state)
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(theirs(images), ours(images), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("name", NETWORKS)
    def test_there_and_back(self, name, networks):
        arch, state = get_arch(NETWORKS[name][0]), networks(name).state_dict()
        back = to_timm(convert_foreign(state).state, arch)
        assert set(back) == set(state) and all(back[key] is state[key] for key in state)

    @pytest.mark.parametrize("name", ["fbnet_a", "fbnet_b", "fbnet_v3_c_gpu"])
    def test_blocks_that_timm_does_not_have(self, name):
        with pytest.raises(
            CheckpointError, match=r"cannot be converted for timm: backbone.stages.\d.\d is a block that"
        ):
            to_timm({}, get_arch(name))

    def test_a_file_of_another_network(self):
        with torch.device("meta"):
            state = Classifier(get_arch("fbnet_c_timm"), 5).state_dict()
        with pytest.raises(CheckpointError, match="is not of fbnet_v3_b: backbone.stages.*is missing"):
            to_timm(state, get_arch("fbnet_v3_b"))
        with pytest.raises(CheckpointError, match="is not of fbnet_c_timm: it has teacher.weight"):
            to_timm({**state, "teacher.weight": torch.ones(1)}, get_arch("fbnet_c_timm"))
