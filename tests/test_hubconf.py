"""The checkout as a repository of ``torch.hub``."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from fbnet_plugin import build_model, list_models

ROOT = Path(__file__).resolve().parent.parent


def load(name, *args, **kwargs):
    return torch.hub.load(str(ROOT), name, *args, source="local", **kwargs)


def test_an_entry_is_the_network_of_its_name():
    torch.manual_seed(1)
    network = load("fbnet_v3_a", num_classes=3, width_mult=0.25)
    torch.manual_seed(1)
    same = build_model("fbnet_v3_a", num_classes=3, width_mult=0.25)
    for (name, ours), (_, theirs) in zip(network.state_dict().items(), same.state_dict().items()):
        assert torch.equal(ours, theirs), name
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 3)


def test_build_model_takes_any_name():
    network = load("build_model", "fbnet_c", features_only=True, width_mult=0.25)
    assert network.feature_info.reduction() == [2, 4, 8, 16, 32]
    with pytest.raises(RuntimeError, match="fbnet_v9"):
        load("fbnet_v9")


def test_every_architecture_is_an_entry_and_nothing_else_is():
    spec = spec_from_file_location("hubconf", ROOT / "hubconf.py")  # torch.hub.list would ask GitHub
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    entries = [name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")]
    assert sorted(entries) == sorted(["build_model", "list_models", *list_models()])
    assert all(getattr(module, name).__doc__ for name in entries)
