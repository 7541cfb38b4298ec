"""Networks of the zoo without Detectron2's config, in the manner of timm and torchvision."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from typing import Any, List, Optional, Sequence, Union

from torch import nn

from .arch import ArchError, ArchSpec, get_arch, list_archs, scale_width
from .checkpoint import FBNetCheckpointer
from .layers import Norm
from .modeling.network import FBNet, FBNetFeatures

# Architecture -> the weights that ``pretrained=True`` loads.
PUBLISHED = {
    "fbnet_c_timm": "timm://fbnetc_100.rmsp_in1k",
    "fbnet_v3_b_timm": "timm://fbnetv3_b.ra2_in1k",
    "fbnet_v3_d_timm": "timm://fbnetv3_d.ra2_in1k",
    "fbnet_v3_g_timm": "timm://fbnetv3_g.ra2_in1k",
}


def list_models(filter: str = "*", pretrained: bool = False) -> List[str]:
    """Names that ``build_model`` takes, sorted.

    Args:
        filter: shell pattern, such as "fbnet_v3_*"; those with ``_det`` at the end are bodies for detectors.
        pretrained: only those that ``build_model(name, pretrained=True)`` finds weights for.
    """
    names = fnmatch.filter(list_archs(), filter)
    return [name for name in names if name in PUBLISHED] if pretrained else names


def build_model(
    name: "str | os.PathLike[str]",
    *,
    num_classes: Optional[int] = None,
    pretrained: Union[bool, str, "os.PathLike[str]"] = False,
    features_only: bool = False,
    out_indices: Optional[Sequence[int]] = None,
    in_chans: Optional[int] = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    norm_layer: Norm = nn.BatchNorm2d,
    padding: Optional[str] = None,
    width_mult: float = 1.0,
) -> Union[FBNet, FBNetFeatures]:
    """A network on the CPU in training mode. It takes RGB images from 0 to 1, normalized by its ``default_cfg``.

    Args:
        name: of ``list_models``, or the path of an architecture file.
        num_classes: outputs; 0 for pooled features without a last layer. None: as many as the architecture has.
        pretrained: True for published weights (``list_models(pretrained=True)``), or the path or ``timm://`` name of
            some, in any form that ``FBNetCheckpointer`` reads. The last layer starts afresh where its size differs.
        features_only: a list of feature maps instead of logits; ``num_classes`` and ``drop_rate`` then do not matter.
        out_indices: with ``features_only``, of the stages whose maps are returned; None for all.
        in_chans: image channels; None: as many as the architecture has.
        drop_rate: dropout probability before the last layer.
        drop_path_rate: stochastic depth of the last block, linear in depth.
        norm_layer: makes the norm layer for a number of channels.
        padding: "published", or "same" for maps that stay aligned with their strides, which decoders need. None:
            "same" with ``features_only``, else "published".
        width_mult: factor on all channels.

    Raises:
        ArchError: no such architecture, an argument out of range, or no published weights.
        CheckpointError: weights that are missing, damaged, or of another network.
    """
    arch = scale_width(get_arch(name), width_mult)
    weights = _published_weights(arch.name) if pretrained is True else os.fspath(pretrained or "")
    if in_chans is not None and in_chans != arch.in_channels:
        if weights:
            problem = f"got {in_chans}, but weights are for {arch.in_channels} channels ({arch.name})"
            raise ArchError(problem, "in_chans")
        arch = dataclasses.replace(arch, in_channels=in_chans)
    arch = arch.with_padding(padding or ("same" if features_only else "published"))
    common: Any = {"drop_path_rate": drop_path_rate, "norm_layer": norm_layer}
    network: Union[FBNet, FBNetFeatures]
    if features_only:
        network = FBNetFeatures(arch, out_indices, **common)
    elif out_indices is not None:
        raise ArchError(f"got {out_indices!r} without features_only=True", "out_indices")
    else:
        network = FBNet(arch, _outputs(arch) if num_classes is None else num_classes, drop_rate=drop_rate, **common)
    if weights:
        _Pretrained(network, strict=True).load(weights, checkpointables=[])
    return network


def _published_weights(name: str) -> str:
    if name not in PUBLISHED:
        expected = f"the path of weights, or one of the networks {', '.join(PUBLISHED)}"
        raise ArchError(f"got True, but {name} has no published weights known here; expected {expected}", "pretrained")
    return PUBLISHED[name]


def _outputs(arch: ArchSpec) -> int:
    if arch.head is None:
        problem = f"{arch.name} is a body without a classifier; expected a number, or features_only=True"
        raise ArchError(problem, "num_classes")
    return arch.head.num_classes


class _Pretrained(FBNetCheckpointer):
    """Everything has to fit, except the last layer; and where only features are wanted, there may be more."""

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        fits = {
            "incorrect_shapes": [one for one in incompatible.incorrect_shapes if not one[0].startswith("head.fc.")],
            "missing_keys": [name for name in incompatible.missing_keys if not name.startswith("head.fc.")],
        }
        if isinstance(self.model, FBNetFeatures):
            fits["unexpected_keys"] = []
        super()._log_incompatible_keys(incompatible._replace(**fits))
