"""Files with mobile-vision's published names and shapes, for every network of which it has published weights."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from foreign_files import Classifier, mobile_vision_blocks, mobile_vision_file, randomize
from torch import nn

from fbnet_plugin.arch import get_arch, list_archs
from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer
from fbnet_plugin.checkpoint.blocks_of_file import match
from fbnet_plugin.checkpoint.mobile_vision_names import read_mobile_vision
from fbnet_plugin.checkpoint.schemes import convert_foreign

PUBLISHED = [name for name in list_archs() if get_arch(name).published.weights]
ENTRIES = {"fbnet_a_released": 380, "fbnet_v2_f1": 288, "fbnet_v3_a": 598}


def test_there_are_all_published_networks():
    assert len(PUBLISHED) == 23
    assert {f"fbnet_v3_{letter}" for letter in "abcdefg"} | {f"fbnet_{one}_released" for one in "abc"} <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_finds_its_place(name):
    """The objects in the order of our model are those in the order of the file: none is swapped with its like."""
    arch = get_arch(name)
    with torch.device("meta"):
        channels = arch.head.blocks[-1].out
        state = mobile_vision_file(mobile_vision_blocks(arch), nn.Linear(channels, 1000))
        ours = Classifier(arch, 1000).state_dict()
    assert len(state) == ENTRIES.get(name, len(state))
    found = convert_foreign(state)
    assert (found.scheme, found.unknown) == ("mobile-vision", []) and name in found.archs
    assert {key: value.shape for key, value in found.state.items()} == {key: value.shape for key, value in ours.items()}
    assert [id(found.state[key]) for key in ours][:-2] == [id(value) for value in state.values()][:-2]
    network = read_mobile_vision(state)
    for other in found.archs:  # it does not matter which of the networks with these tensors is found
        assert list(match(network, get_arch(other)).state) == list(found.state)


@pytest.mark.parametrize("name", ["fbnet_a_released", "fbnet_v2_f1", "fbnet_v3_a"])
def test_logits_are_those_of_the_file_s_blocks(name, tmp_path, caplog):
    """With mobile-vision's blocks run one after the other; the average comes first, and the licence is said."""
    arch = get_arch(name)
    blocks, classifier = mobile_vision_blocks(arch), nn.Linear(arch.head.blocks[-1].out, 10)
    for seed, block in enumerate(blocks.values()):
        randomize(block, seed).eval()
    randomize(classifier, 99)
    state = mobile_vision_file(blocks, classifier)
    plain = {key: torch.zeros_like(value) for key, value in state.items()}
    path = str(tmp_path / "model.pth")
    torch.save({"model_ema": {f"module.{key}": value for key, value in state.items()}, "state_dict": plain}, path)
    model = Classifier(arch, 10).eval()
    with caplog.at_level(logging.INFO):
        FBNetCheckpointer(model, strict=True).load(path)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        x = images
        for block in blocks.values():
            x = block(x)
        expected = classifier(x.mean((2, 3)))
        assert expected.std() > 0.05
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    assert "mobile-vision's names of" in caplog.text and "averaged weights" in caplog.text
    (licence,) = [record for record in caplog.records if "CC BY-NC 4.0" in record.message]
    assert licence.levelno == logging.WARNING and "non-commercial" in licence.message


@pytest.mark.parametrize("content", ["model_ema None", "state_dict", "bare"])
def test_envelopes(content, tmp_path):
    arch = get_arch("fbnet_v2_f1")
    state = mobile_vision_file(mobile_vision_blocks(arch), nn.Linear(arch.head.blocks[-1].out, 10))
    whole = {"model_ema None": {"model_ema": None, "state_dict": state}, "state_dict": {"state_dict": state}}
    torch.save(whole.get(content, state), tmp_path / "model.pth")
    model = Classifier(arch, 10)
    FBNetCheckpointer(model, strict=True).load(str(tmp_path / "model.pth"))
    assert torch.equal(model.head.fc.bias, state["head.conv.bias"])


def test_biases_of_the_release_in_a_network_without_them(tmp_path, caplog):
    """FBNet-C's release has a bias in every convolution; a network without them gives the same logits."""
    arch = get_arch("fbnet_c_released")
    bare = arch.map_blocks(lambda block: dataclasses.replace(block, bias=False) if hasattr(block, "bias") else block)
    blocks, classifier = mobile_vision_blocks(arch), nn.Linear(1984, 10)
    for seed, block in enumerate(blocks.values()):
        randomize(block, seed)
    state = mobile_vision_file(blocks, classifier)
    torch.save({"state_dict": state}, tmp_path / "model.pth")
    with_them, without = Classifier(arch, 10).eval(), Classifier(bare, 10).eval()
    for model in (with_them, without):
        with caplog.at_level(logging.INFO):
            FBNetCheckpointer(model, strict=True).load(str(tmp_path / "model.pth"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(without(images), with_them(images), rtol=0, atol=1e-5)
    biases = sum(name.startswith("backbone") and name.endswith("conv.bias") for name in state)
    assert f"{biases} biases folded into running means" in caplog.text


def test_int8_friendly_forms_are_refused():
    """Their depthwise convolutions have no norm, which no network of the zoo with a classifier has."""
    arch = get_arch("fbnet_v3_a")
    with torch.device("meta"):
        state = mobile_vision_file(mobile_vision_blocks(arch), nn.Linear(1984, 1000))
    state = {key: value for key, value in state.items() if ".dw.bn." not in key}
    with pytest.raises(CheckpointError, match="has mobile-vision's names and has .* no architecture in the zoo"):
        convert_foreign(state)
    with pytest.raises(
        CheckpointError, match="is not of fbnet_v3_a: backbone.stages.0.1.depthwise.norm.weight is missing"
    ):
        convert_foreign(state, arch=arch)


def test_tensors_without_a_place_are_reported():
    arch = get_arch("fbnet_v2_f1")
    with torch.device("meta"):
        state = mobile_vision_file(mobile_vision_blocks(arch), nn.Linear(1600, 10))
    found = convert_foreign({**state, "auxiliary.weight": torch.ones(1)})
    assert found.unknown == ["auxiliary.weight"] and "auxiliary.weight" in found.state
    assert "1 of them without a place here" in str(found)
    with pytest.raises(CheckpointError, match="holds auxiliary.weight, a int; expected a tensor"):
        convert_foreign({**state, "auxiliary.weight": 3})
