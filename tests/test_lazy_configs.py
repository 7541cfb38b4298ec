"""Every LazyConfig describes what the YAML config of the same name does: model, data, optimizer, schedule and run."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.data import DatasetMapper
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from detectron2.utils.registry import locate
from omegaconf import ListConfig, OmegaConf
from torch import nn

from fbnet_plugin.data import ClassificationMapper, DetectionMapper
from fbnet_plugin.engine import load_config
from fbnet_plugin.engine.lazy_config import TRAIN_KEYS, load_lazy_config, run_config
from fbnet_plugin.engine.lr_schedule import build_lr_scheduler, in_iterations
from fbnet_plugin.engine.optimizer import build_optimizer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILES = [path for path in CONFIGS.rglob("*.py") if path.relative_to(CONFIGS).parts[0] != "common"]
NAMES = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in FILES)
# Names of one file of each kind of model and recipe.
KINDS = [
    "ImageNet-Classification/fbnet_a_360e", "ImageNet-Classification/fbnet_v3_g_distill_400e",
    "CIFAR10-Classification/fbnet_v3_a_32px_200e", "COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x",
    "COCO-Detection/faster_rcnn_fbnet_v3_a_FPN_3x", "COCO-Detection/retinanet_fbnet_v3_a_FPN_3x",
    "COCO-InstanceSegmentation/mask_rcnn_fbnet_v3_a_FPN_3x", "Pretrained/fbnet_v3_b_timm",
    "COCO-PanopticSegmentation/panoptic_fpn_fbnet_v3_a_3x",
]  # fmt: skip
each_pair = pytest.mark.parametrize("name", NAMES)
each_kind = pytest.mark.parametrize("name", KINDS)


def yaml_config(name: str, *opts: Any) -> CfgNode:
    return load_config(f"{CONFIGS / name}.yaml", ["MODEL.DEVICE", "cpu", *opts])


@functools.lru_cache(maxsize=None)
def loaded(name: str) -> Any:
    return load_lazy_config(f"{CONFIGS / name}.py", ["train.device=cpu"])


def lazy_config(name: str) -> Any:
    return copy.deepcopy(loaded(name))


def narrow(lazy: Any) -> Any:
    body = lazy.model.backbone
    body.get("bottom_up", body).arch.width_mult = 0.25
    return lazy


def pair_of_models(name: str) -> tuple[nn.Module, nn.Module]:
    """The YAML config's model and the LazyConfig's, with a quarter of the channels."""
    theirs = build_model(yaml_config(name, "MODEL.FBNET.WIDTH_MULT", 0.25))
    return theirs, instantiate(narrow(lazy_config(name)).model)


# Attributes of the image transforms that hold the last random number.
DRAWN = ("_real", "_whole")


def plain(value: Any) -> Any:
    """Numbers, strings and None in dicts and lists: what an object is, whatever it was made from."""
    if isinstance(value, torch.Tensor):
        return [list(value.shape), str(value.dtype), value.flatten().tolist()]
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, nn.Module) and next(value.parameters(), None) is not None:
        return type(value).__qualname__  # compared by itself, where it belongs to the tree
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, ShapeSpec):  # height and width are of no use where it is kept, and may be left out
        return [value.channels, value.stride]
    if isinstance(value, (list, tuple, set, ListConfig)):
        return [plain(item) for item in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    own = {key: item for key, item in getattr(value, "__dict__", {}).items() if key not in DRAWN}
    return {"type": type(value).__qualname__, **plain(own)}


def attributes(module: nn.Module) -> dict[str, Any]:
    """All that a module is, besides its parameters, buffers and children."""
    own = {key: value for key, value in vars(module).items() if key not in ("_parameters", "_buffers", "_modules")}
    return {"type": type(module).__qualname__, **plain(own)}


def assert_same_tree(theirs: nn.Module, ours: nn.Module) -> None:
    expected, found = dict(theirs.named_modules()), dict(ours.named_modules())
    assert list(found) == list(expected)
    for name in expected:
        assert attributes(found[name]) == attributes(expected[name]), name
    # Values are random, but not those of buffers: anchors, pixel means, running statistics.
    assert shapes(ours.named_parameters()) == shapes(theirs.named_parameters())
    assert plain(dict(ours.named_buffers())) == plain(dict(theirs.named_buffers()))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def shapes(named: Any) -> list[tuple[str, torch.Size, bool]]:
    return [(name, parameter.shape, parameter.requires_grad) for name, parameter in named]


def test_the_main_configs_have_one():
    """All but bases, recipes, searches and demos; networks of torchvision have YAML configs alone."""
    folders = ["ImageNet-Classification", "CIFAR10-Classification"]
    folders += ["COCO-Detection", "COCO-InstanceSegmentation", "COCO-PanopticSegmentation", "Pretrained"]
    yamls = [path for folder in folders for path in (CONFIGS / folder).glob("*.yaml")]
    main = [path for path in yamls if not path.name.startswith(("Base-", "resnet50_"))]
    assert NAMES == sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in main)
    assert set(KINDS) < set(NAMES)


@each_pair
def test_the_docstring_names_the_file_itself(name):
    text = Path(f"{CONFIGS / name}.py").read_text()
    command = re.search(r"^Run: python (\S+) --config-file (\S+)(?: --eval-only)?$", text, re.MULTILINE)
    assert text.startswith(f'"""{Path(name).name}.yaml as a LazyConfig')
    assert [(CONFIGS.parent / path).is_file() for path in command.groups()] == [True, True]
    assert command.group(2) == f"configs/{name}.py"


@each_pair
def test_same_model(name):
    """Types, settings, names, shapes, and the buffers' values, of the model and of all that is in it."""
    assert_same_tree(*pair_of_models(name))


def test_a_difference_in_any_part_would_be_seen():
    """The comparison above is one that can fail."""
    name = "COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x"
    theirs = build_model(yaml_config(name, "MODEL.FBNET.WIDTH_MULT", 0.25))
    for key, value in (
        ("proposal_generator.nms_thresh", 0.6), ("proposal_generator.post_nms_topk", [2000, 76]),
        ("proposal_generator.anchor_generator.sizes", [[32, 64, 96, 128, 161]]), ("pixel_mean", [123.675, 116.28, 104]),
        ("roi_heads.box_pooler.sampling_ratio", 2), ("roi_heads.box_predictor.test_topk_per_image", 50),
        ("roi_heads.proposal_matcher.thresholds", [0.6]), ("backbone.drop_path", 0.1), ("backbone.freeze_at", 1),
        ("proposal_generator.head.rows.repeat", 1), ("roi_heads.box_predictor.box2box_transform.weights", [1, 1, 1, 1]),
    ):  # fmt: skip
        lazy = narrow(lazy_config(name))
        OmegaConf.update(lazy.model, key, value)
        try:
            assert_same_tree(theirs, instantiate(lazy.model))
        except AssertionError:
            continue
        pytest.fail(f"model.{key} = {value} made no difference")


@pytest.mark.parametrize("name", [KINDS[1], KINDS[3]])
def test_same_outputs_and_losses(name):
    """With the same weights, of the same images, in evaluation and in training."""
    theirs, ours = pair_of_models(name)
    ours.load_state_dict(theirs.state_dict())
    for model in (theirs, ours):
        if hasattr(model, "distillation"):
            model.distillation.teacher = lambda images, inputs, mixup: torch.ones(len(images), 1000)
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    inputs = [{"image": image, "height": 64, "width": 96, "label": 3}] * 2
    if "COCO" in name:
        boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
        inputs = [
            {**one, "instances": Instances((64, 96), gt_boxes=boxes, gt_classes=torch.tensor([2]))} for one in inputs
        ]
    losses, outputs = [], []
    for model in (theirs, ours):
        torch.manual_seed(1)
        with EventStorage(0):
            losses.append({key: value.item() for key, value in model.train()(inputs).items()})
        with torch.no_grad():
            outputs.append(model.eval()(inputs)[0])
    assert losses[0] == losses[1] and all(value == value for value in losses[0].values())
    if "COCO" in name:
        outputs = [{"scores": one["instances"].scores, "boxes": one["instances"].pred_boxes.tensor} for one in outputs]
    for key in outputs[0]:
        assert len(outputs[0][key]) and torch.equal(outputs[0][key], outputs[1][key])


@each_kind
def test_same_optimizer(name):
    """Class, and learning rate, weight decay, momentum and the like of each parameter, by its name."""
    cfg, lazy = yaml_config(name, "MODEL.FBNET.WIDTH_MULT", 0.25), narrow(lazy_config(name))
    model = build_model(cfg)
    lazy.optimizer.params.model = model
    theirs, ours = build_optimizer(cfg, model), instantiate(lazy.optimizer)
    assert type(ours).__mro__[:-1] == type(theirs).__mro__[-len(type(ours).__mro__) : -1]
    names = {parameter: name for name, parameter in model.named_parameters()}

    def settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        read = ("lr", "weight_decay", "momentum", "nesterov", "dampening", "alpha", "eps")
        groups = [
            ({key: group[key] for key in read if key in group}, group["params"]) for group in optimizer.param_groups
        ]
        return {names[parameter]: values for values, parameters in groups for parameter in parameters}

    assert settings(ours) == settings(theirs) and len(settings(ours)) == len(names)


@each_pair
def test_same_run(name):
    """Everything in ``train``, and all other keys that the engine reads, have the YAML config's values."""
    cfg, run = yaml_config(name), run_config(lazy_config(name))
    for key in [*TRAIN_KEYS.values(), *("SOLVER.IMS_PER_BATCH", "DATALOADER.NUM_WORKERS", "INPUT.FORMAT")]:
        if key != "SOLVER.MAX_ITER" or not cfg.SOLVER.EPOCHS:
            assert value_of(run, key) == value_of(cfg, key), key
    assert (run.DATASETS.TRAIN, run.DATASETS.TEST) == (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST)
    assert run.MODEL.META_ARCHITECTURE == cfg.MODEL.META_ARCHITECTURE
    assert run.MODEL.DISTILLATION == cfg.MODEL.DISTILLATION


def value_of(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


@each_kind
def test_same_schedule(name):
    """The factors on the learning rate at 2,000 points of the run, and around each of its steps."""
    cfg, lazy = yaml_config(name), lazy_config(name)
    cfg = in_iterations(cfg, 50_000 if "CIFAR" in name else 1_281_167) if cfg.SOLVER.EPOCHS else cfg
    last = cfg.SOLVER.MAX_ITER
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    theirs = build_lr_scheduler(cfg, optimizer)._multiplier
    ours = LRMultiplier(optimizer, instantiate(lazy.lr_multiplier), last)._multiplier
    iterations = {round(share * last) for share in np.linspace(0, 1, 2000, endpoint=False)}
    iterations |= {max(step + change, 0) for step in (*cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS) for change in (-9, 9)}
    for iteration in sorted(one for one in iterations if one < last):
        assert ours(iteration / last) == pytest.approx(theirs(iteration / last), rel=1e-5), iteration


@each_kind
@pytest.mark.parametrize("training", [True, False])
def test_same_mapper_and_dataset(name, training):
    cfg, lazy = yaml_config(name), lazy_config(name)
    node = lazy.dataloader.train if training else lazy.dataloader.test
    classification = cfg.MODEL.META_ARCHITECTURE == "ImageClassifier"
    theirs = (ClassificationMapper if classification else DetectionMapper)(cfg, training)
    ours = instantiate(node.mapper)
    assert plain(ours) == plain(theirs)
    assert isinstance(ours, ClassificationMapper if classification else DatasetMapper)
    assert bool(node.dataset.get("filter_empty")) == (
        training and not classification and cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    assert node.get("aspect_ratio_grouping", False) == (
        training and not classification and cfg.DATALOADER.ASPECT_RATIO_GROUPING
    )


@each_pair
def test_a_pair_s_sizes_and_folder_are_the_same(name):
    """What differs between the files of a kind: architecture (above), size of the images, output folder, epochs."""
    cfg, lazy = yaml_config(name), lazy_config(name)
    assert lazy.train.output_dir == cfg.OUTPUT_DIR
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        for training, node in ((True, lazy.dataloader.train), (False, lazy.dataloader.test)):
            assert plain(instantiate(node.mapper)) == plain(ClassificationMapper(cfg, training))


@each_kind
def test_survives_being_written_as_yaml(name, tmp_path):
    """The file that a run leaves in its folder describes the run: every node, and the function or class of each."""
    lazy = lazy_config(name)
    LazyConfig.save(lazy, str(tmp_path / "config.yaml"))
    assert not (tmp_path / "config.yaml.pkl").exists()
    again = load_lazy_config(str(tmp_path / "config.yaml"))
    assert with_targets(again) == with_targets(lazy)
    assert run_config(again) == run_config(lazy)


def with_targets(cfg: Any) -> Any:
    """A config as plain data, each target as the object that it names."""

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            target = node.get("_target_")
            found = {"_target_": locate(target) if isinstance(target, str) else target} if target else {}
            return {**{key: resolved(value) for key, value in node.items()}, **found}
        return [resolved(value) for value in node] if isinstance(node, list) else node

    return resolved(OmegaConf.to_container(cfg, resolve=False))
