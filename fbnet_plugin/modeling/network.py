"""An architecture as an ordinary ``nn.Module``, without a config: classifier or feature maps, in timm's manner."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import nn

from ..arch import ArchError, ArchSpec
from ..arch.checks import check_int
from ..layers import Norm
from .backbone import FBNetBackbone
from .classifier import ClassifierHead, head_rows

# ImageNet's, for RGB values from 0 to 1; times 255 they are MODEL.PIXEL_MEAN and MODEL.PIXEL_STD of the configs.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FBNet(nn.Module):
    """Backbone and classifier head; the state dict has the names of an ``ImageClassifier``'s.

    Attributes:
        num_classes: outputs; 0 where the last layer is the identity.
        num_features: channels of ``forward_features``.
        head_hidden_size: inputs of the last layer.
        default_cfg, pretrained_cfg: how images are prepared, see ``image_settings``.

    Args:
        arch: the architecture; without a head only pool and linear layer follow its stages.
        num_classes: outputs; 0 for the pooled features instead of logits.
        drop_rate: dropout probability before the linear layer.
        drop_path_rate: probability that the last block drops its residual branch; earlier blocks linearly less.
        norm_layer: makes norm layers.

    Raises:
        ArchError: a number out of range.
    """

    def __init__(
        self,
        arch: ArchSpec,
        num_classes: int,
        *,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_layer: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        check_probability("drop_rate", drop_rate)
        check_probability("drop_path_rate", drop_path_rate)
        rows = head_rows(arch)
        self.backbone = FBNetBackbone(arch, norm=norm_layer, drop_path=drop_path_rate)
        self.num_features = arch.stages[-1].out
        self.head_hidden_size = rows[-1].out if rows else self.num_features
        self.head = ClassifierHead(rows, self.num_features, 1, drop_rate, norm_layer)
        self.default_cfg = self.pretrained_cfg = image_settings(arch)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """A new last layer with fresh weights; 0 classes: none.

        Raises:
            ArchError: not a number of classes.
        """
        self.num_classes = check_int("num_classes", num_classes, 0, 1 << 24)
        self.default_cfg["num_classes"] = num_classes
        like = next(self.parameters())
        fc = ClassifierHead((), self.head_hidden_size, num_classes).fc if num_classes else nn.Identity()
        self.head.fc = fc.to(like.device, like.dtype)

    def get_classifier(self) -> nn.Module:
        """The last layer: linear, or the identity where there are no classes."""
        return self.head.fc

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalized images (N, C, H, W) -> logits (N, num_classes), or (N, head_hidden_size) without classes."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalized images (N, C, H, W) -> the last map (N, num_features, about H / 32, about W / 32)."""
        (features,) = self.backbone(x).values()
        return features

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """The last map -> logits (N, num_classes), or with ``pre_logits`` what the last layer takes."""
        return self.head.hidden(x) if pre_logits else self.head(x)


class FBNetFeatures(nn.Module):
    """The maps of some stages, for a neck or a decoder.

    Attributes:
        feature_info: of the maps that ``forward`` returns.

    Args:
        arch: the architecture; stages after the last one asked for are not built.
        out_indices: of stages, negative ones from the end; None for all. Stage i of the zoo's networks has stride
            2, 4, 8, 16, 32.
        drop_path_rate, norm_layer: as in ``FBNet``.

    Raises:
        ArchError: there is no such stage, or a number is out of range.
    """

    def __init__(
        self,
        arch: ArchSpec,
        out_indices: Optional[Sequence[int]] = None,
        *,
        drop_path_rate: float = 0.0,
        norm_layer: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        check_probability("drop_path_rate", drop_path_rate)
        count = len(arch.stages)
        asked = range(count) if out_indices is None else out_indices
        if not asked:
            raise ArchError("is empty, expected at least one stage, or None for all", "out_indices")
        indices = sorted({stage_index(i, count, arch.name) for i in asked})
        features = [f"trunk{index}" for index in indices]
        self.backbone = FBNetBackbone(arch, out_features=features, norm=norm_layer, drop_path=drop_path_rate)
        self.feature_info = FeatureInfo(arch, indices)
        self.default_cfg = self.pretrained_cfg = image_settings(arch)

    def forward(self, x: torch.Tensor) -> List[torch.Tensor]:
        """Normalized images (N, C, H, W) -> per index a map (N, channels, about H / reduction, about W / reduction)."""
        return list(self.backbone(x).values())


class FeatureInfo:
    """What the maps of ``FBNetFeatures`` are: one dict each with num_chs, reduction, module and index."""

    def __init__(self, arch: ArchSpec, indices: Sequence[int]):
        strides = arch.strides()
        self._maps: List[Dict[str, Any]] = [
            {"num_chs": arch.stages[i].out, "reduction": strides[i], "module": f"backbone.stages.{i}", "index": i}
            for i in indices
        ]

    def channels(self) -> List[int]:
        """Of each map."""
        return [one["num_chs"] for one in self._maps]

    def reduction(self) -> List[int]:
        """Stride of each map against the image."""
        return [one["reduction"] for one in self._maps]

    def module_name(self) -> List[str]:
        """Name of the module that makes each map."""
        return [one["module"] for one in self._maps]

    def get_dicts(self) -> List[Dict[str, Any]]:
        """All that is known of each map."""
        return [dict(one) for one in self._maps]

    def __getitem__(self, index: int) -> Dict[str, Any]:
        return self._maps[index]

    def __len__(self) -> int:
        return len(self._maps)


def image_settings(arch: ArchSpec) -> Dict[str, Any]:
    """How images are prepared for a network, with timm's keys, so that timm's ``resolve_data_config`` reads them."""
    return {
        "architecture": arch.name,
        "input_size": (arch.in_channels, arch.resolution, arch.resolution),
        "crop_pct": arch.resolution / arch.test_resize(),
        "interpolation": "bilinear",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "first_conv": "backbone.stages.0.0.conv",
        "classifier": "head.fc",
    }


def stage_index(index: int, count: int, name: str) -> int:
    """``index`` from 0, where it may count from the end.

    Raises:
        ArchError: there is no such stage.
    """
    if not isinstance(index, int) or not -count <= index < count:
        raise ArchError(f"got {index!r}, expected numbers from {-count} to {count - 1} ({name})", "out_indices")
    return index % count


def check_probability(name: str, value: float) -> None:
    """
    Raises:
        ArchError: it is not from 0 to below 1.
    """
    if not 0 <= value < 1:
        raise ArchError(f"got {value}, expected a probability from 0 to below 1", name)
