"""Shipped configs and their models by name, as ``detectron2.model_zoo`` gives its own."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode

from fbnet_plugin import model_zoo
from fbnet_plugin.checkpoint import CheckpointError
from fbnet_plugin.engine import ConfigError, config_file, load_config
from fbnet_plugin.modeling import ImageClassifier

C4 = "COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml"
LAZY = """
from detectron2.config import LazyCall as L
from torch.nn import Linear

model = L(Linear)(in_features=2, out_features=3)
train = dict(init_checkpoint="", device="cuda")
"""


@pytest.fixture
def own_configs(tmp_path, monkeypatch):
    """A folder of configs in the place of the shipped ones."""
    monkeypatch.setattr(config_file, "config_folders", lambda: [tmp_path])
    return tmp_path


def small_classifier(folder, weights=""):
    text = f"""
MODEL:
  META_ARCHITECTURE: ImageClassifier
  BACKBONE: {{NAME: build_fbnet_backbone}}
  FBNET: {{WIDTH_MULT: 0.25}}
  CLASSIFIER: {{NUM_CLASSES: 3}}
  WEIGHTS: "{weights}"
"""
    (folder / "small.yaml").write_text(text)


def test_config_files_are_found_by_name():
    assert model_zoo.get_config_file(C4).endswith(C4)
    assert model_zoo.get_config_file(f"fbnet_plugin://{C4}") == model_zoo.get_config_file(C4)
    with pytest.raises(ConfigError, match="faster_rcnn_fbnet_v3_a_C4.yaml': no such file; did you mean"):
        model_zoo.get_config_file("COCO-Detection/faster_rcnn_fbnet_v3_a_C4.yaml")


def test_no_file_of_the_users_stands_in_for_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "COCO-Detection").mkdir()
    (tmp_path / C4).write_text("SEED: 1\n")
    assert not model_zoo.get_config_file(C4).startswith(str(tmp_path))


def test_a_config_is_the_one_that_the_tools_read():
    cfg = model_zoo.get_config(C4)
    assert isinstance(cfg, CfgNode) and not cfg.is_frozen()
    assert cfg == load_config(C4) and cfg.MODEL.FBNET.ARCH == "fbnet_v3_a_det"


def test_a_model_is_built_for_training_on_the_device(own_configs):
    small_classifier(own_configs)
    model = model_zoo.get("small.yaml", device="cpu")
    assert isinstance(model, ImageClassifier) and model.training and model.device.type == "cpu"
    assert model.head.fc.out_features == 3


def test_without_cuda_it_is_the_cpu(own_configs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small_classifier(own_configs)
    assert model_zoo.get("small.yaml").device.type == "cpu"  # MODEL.DEVICE is cuda


def test_named_weights_are_loaded(own_configs, tmp_path):
    small_classifier(own_configs)
    expected = model_zoo.get("small.yaml", device="cpu").state_dict()
    torch.save(expected, tmp_path / "weights.pth")
    small_classifier(own_configs, tmp_path / "weights.pth")
    loaded = model_zoo.get("small.yaml", device="cpu").state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    small_classifier(own_configs, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="none.pth: no such file"):
        model_zoo.get("small.yaml", device="cpu")


def test_trained_needs_published_weights(own_configs):
    small_classifier(own_configs)
    for call in (model_zoo.get_config, model_zoo.get):
        with pytest.raises(ConfigError, match="small.yaml: there are no published weights for it, it names none"):
            call("small.yaml", trained=True)
    small_classifier(own_configs, "weights.pth")
    with pytest.raises(ConfigError, match="it names the file weights.pth, which is not published"):
        model_zoo.get_checkpoint_url("small.yaml")
    small_classifier(own_configs, "timm://fbnetv3_b.ra2_in1k")
    assert model_zoo.get_checkpoint_url("small.yaml") == "timm://fbnetv3_b.ra2_in1k"
    assert model_zoo.get_config("small.yaml", trained=True).MODEL.WEIGHTS == "timm://fbnetv3_b.ra2_in1k"


def test_published_weights_are_named_by_their_configs():
    cfg = model_zoo.get_config("Pretrained/fbnet_v3_b_timm.yaml", trained=True)
    assert cfg.MODEL.WEIGHTS == "timm://fbnetv3_b.ra2_in1k" and cfg.MODEL.FBNET.ARCH == "fbnet_v3_b_timm"


def test_lazy_configs_are_understood(own_configs, tmp_path):
    (own_configs / "lazy.py").write_text(LAZY)
    cfg = model_zoo.get_config("lazy.py")
    assert cfg.model.out_features == 3 and cfg.train.device == "cuda"
    model = model_zoo.get("lazy.py", device="cpu")
    assert type(model) is torch.nn.Linear and model.weight.shape == (3, 2) and model.training
    with pytest.raises(ConfigError, match="lazy.py: there are no published weights"):
        model_zoo.get("lazy.py", trained=True)
    torch.save({"weight": torch.full((3, 2), 5.0), "bias": torch.zeros(3)}, tmp_path / "five.pth")
    (own_configs / "lazy.py").write_text(LAZY.replace('""', repr(str(tmp_path / "five.pth"))))
    assert (model_zoo.get("lazy.py", device="cpu").weight == 5.0).all()
