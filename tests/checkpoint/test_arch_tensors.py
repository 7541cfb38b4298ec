"""The names and shapes that are derived from a spec are those of the modules."""

from __future__ import annotations

import pytest
import torch
from foreign_files import Classifier

from fbnet_plugin.arch import get_arch, list_archs
from fbnet_plugin.checkpoint.arch_tensors import classifier_blocks, classifier_channels

# One of each kind: shuffles, stacked depthwise convs, skips, fused blocks, no norm behind depthwise convs, no head.
KINDS = ["fbnet_a", "fbnet_b", "fbnet_a_released", "fbnet_c_timm", "fbnet_a_se", "fbnet_v2_f1", "fbnet_v3_g"]
KINDS += ["fbnet_v3_20g", "fbnet_v3_c_gpu", "fbnet_v3_a_det", "fbnet_v3_a_dsmask_det", "fbnet_v2_dmasking_l3"]


@pytest.mark.parametrize("name", KINDS)
def test_every_block(name: str) -> None:
    arch = get_arch(name)
    with torch.device("meta"):
        model = Classifier(arch, 7)
    found = {
        block.prefix + tensor: shape for block in classifier_blocks(arch) for tensor, shape in block.tensors.items()
    }
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items() if not key.startswith("head.fc.")}
    assert found == expected
    assert classifier_channels(arch) == model.head.fc.in_features


def test_all_of_the_zoo_has_names() -> None:
    assert all(classifier_blocks(get_arch(name)) for name in list_archs())
