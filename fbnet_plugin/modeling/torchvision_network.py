"""How torchvision's networks are put together, and what a recipe changes in them: norms and stochastic depth."""

from __future__ import annotations

import difflib
import itertools
import logging
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Tuple

import torch
import torchvision
from detectron2.layers import ShapeSpec
from torch import nn
from torchvision.models import get_model_builder, list_models
from torchvision.models.convnext import CNBlock
from torchvision.models.efficientnet import FusedMBConv, MBConv
from torchvision.models.mnasnet import _InvertedResidual as MNASNetBlock
from torchvision.models.mobilenetv2 import InvertedResidual as MobileNetV2Block
from torchvision.models.mobilenetv3 import InvertedResidual as MobileNetV3Block
from torchvision.models.regnet import ResBottleneckBlock
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import StochasticDepth, stochastic_depth

from ..arch import ArchError
from ..layers import Norm

logger = logging.getLogger(__name__)

NAME = "MODEL.TORCHVISION.NAME"
TRACED_PX = 4096  # so large that also maps that lack a few pixels of padding show their stride


@dataclass(frozen=True)
class Family:
    """How torchvision writes down one kind of network.

    Attributes:
        steps: the children that run one after the other up to the last map; ``.*`` stands for each child of one.
        linear: the last linear layer.
        features: step -> name of the map behind it; empty: ``stride4`` and so on, the last map of each stride.
        relu: whether a ReLU comes between the last map and the pool.
    """

    steps: Tuple[str, ...]
    linear: str
    features: Mapping[str, str] = field(default_factory=dict)
    relu: bool = False


_RESNET = dict(maxpool="stem", layer1="res2", layer2="res3", layer3="res4", layer4="res5")
_SHUFFLENET_STEPS = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")

# Module of torchvision.models -> its networks.
FAMILIES = {
    "alexnet": Family(("features.*",), "classifier.6"),
    "convnext": Family(("features.*",), "classifier.2"),
    "densenet": Family(("features.*",), "classifier", relu=True),
    "efficientnet": Family(("features.*",), "classifier.1"),
    "mnasnet": Family(("layers.*",), "classifier.1"),
    "mobilenetv2": Family(("features.*",), "classifier.1"),
    "mobilenetv3": Family(("features.*",), "classifier.3"),
    "regnet": Family(("stem", "trunk_output.*"), "fc"),
    "resnet": Family(("conv1", "bn1", "relu", *_RESNET), "fc", _RESNET),
    "shufflenetv2": Family(_SHUFFLENET_STEPS, "fc"),
    "vgg": Family(("features.*",), "classifier.6"),
}

# Residual block -> its child whose output is the branch.
BRANCHES = {
    BasicBlock: "bn2",
    Bottleneck: "bn3",
    CNBlock: "stochastic_depth",
    FusedMBConv: "stochastic_depth",
    MBConv: "stochastic_depth",
    MNASNetBlock: "layers",
    ResBottleneckBlock: "f",
    MobileNetV2Block: "conv",
    MobileNetV3Block: "block",
}


def _module_name(name: str) -> str:
    return get_model_builder(name).__module__.rpartition(".")[2]


def list_networks() -> List[str]:
    """Names of all networks that can be a backbone, sorted."""
    return sorted(name for name in list_models(module=torchvision.models) if _module_name(name) in FAMILIES)


def family_of(name: str) -> Family:
    """The family of a network.

    Raises:
        ArchError: torchvision has no such network, or it is none that can be a backbone.
    """
    networks = list_networks()
    if name in networks:
        return FAMILIES[_module_name(name)]
    near = difflib.get_close_matches(str(name).lower(), networks, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    expected = f"expected a network of torchvision that can be a backbone: {', '.join(networks)}"
    raise ArchError(f"got {name!r}; {hint}{expected}", NAME)


def named_steps(network: nn.Module, family: Family) -> Dict[str, nn.Module]:
    """The modules that run one after the other, by their names in the network."""
    steps = {}
    for step in family.steps:
        outer, _, each = step.partition(".")
        module = network.get_submodule(outer)
        if each:
            steps.update({f"{outer}.{inner}": child for inner, child in module.named_children()})
        else:
            steps[outer] = module
    return steps


def trace(network: nn.Module, family: Family) -> Dict[str, ShapeSpec]:
    """Channels and stride of the map behind each step, from an image that has a shape and no values."""
    shapes: Dict[str, ShapeSpec] = {}

    def note(step: str):
        def hook(module: nn.Module, inputs: Tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            shapes[step] = ShapeSpec(channels=output.shape[1], stride=round(TRACED_PX / output.shape[3]))

        return hook

    hooks = [module.register_forward_hook(note(step)) for step, module in named_steps(network, family).items()]
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    values = {name: tensor.detach().to("meta") for name, tensor in tensors}
    image = torch.empty((1, 3, TRACED_PX, TRACED_PX), device="meta")
    with torch.no_grad():
        torch.func.functional_call(network.eval(), values, (image,))
    network.train()
    for hook in hooks:
        hook.remove()
    return shapes


def feature_places(family: Family, shapes: Mapping[str, ShapeSpec]) -> Dict[str, str]:
    """Feature name -> the step whose output it is, in order of execution."""
    if family.features:
        return {feature: step for step, feature in family.features.items()}
    return {f"stride{shape.stride}": step for step, shape in shapes.items()}  # the last of each stride stays


def replace_norms(network: nn.Module, norm: Norm, name: str) -> None:
    """Puts other norm layers in the place of all batch norms; eps, momentum, weights and statistics go along.

    Raises:
        ArchError: ``norm`` gives no layer; the convs before batch norms have no bias, so they need one.
    """
    for parent in network.modules():
        for key, old in list(parent.named_children()):
            if type(old) is not nn.BatchNorm2d:
                continue
            new = norm(old.num_features)
            if new is None:
                raise ArchError(f'got "", expected a norm; {name} has norms everywhere', "MODEL.FBNET.NORM")
            if type(new) is nn.BatchNorm2d:
                continue
            for number in ("eps", "momentum"):
                if hasattr(new, number):
                    setattr(new, number, getattr(old, number))
            known = new.state_dict()
            new.load_state_dict({k: v for k, v in old.state_dict().items() if k in known})
            setattr(parent, key, new)


class DropBranch:
    """Forward hook of a residual branch: stochastic depth (arXiv:1603.09382), image by image, in training."""

    def __init__(self, probability: float):
        self.probability = probability

    def __call__(self, module: nn.Module, inputs: Tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return stochastic_depth(output, self.probability, "row", module.training)


def set_drop_path(network: nn.Module, drop_path: float, name: str) -> None:
    """Stochastic depth from 0 in the first block to ``drop_path`` in the last, linear in depth.

    Blocks whose shapes leave them no residual count too, as in FBNet's trunk. The names in the state dict stay.
    """
    blocks = [module for module in network.modules() if type(module) in BRANCHES]
    if not blocks and drop_path > 0:
        logger.warning(f"MODEL.FBNET.DROP_PATH is ignored: {name} has no residual blocks")
    for index, block in enumerate(blocks):
        probability = drop_path * index / max(len(blocks) - 1, 1)
        branch = block.get_submodule(BRANCHES[type(block)])
        if isinstance(branch, StochasticDepth):
            branch.p = probability
        elif probability > 0 and _has_residual(block):
            branch.register_forward_hook(DropBranch(probability))


def _has_residual(block: nn.Module) -> bool:
    """Whether a block adds its input; ResNets and RegNets always do, through a conv where shapes change."""
    return getattr(block, "use_res_connect", getattr(block, "apply_residual", True))
