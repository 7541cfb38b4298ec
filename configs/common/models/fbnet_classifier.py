"""An FBNet and its head as a classifier of images."""

from detectron2.config import LazyCall as L

from fbnet_plugin.modeling import ClassifierHead, FBNetBackbone, ImageClassifier
from fbnet_plugin.modeling.arch import build_arch, feature_channels, norm_maker
from fbnet_plugin.modeling.classifier import head_rows

from ..data.constants import constants

model = L(ImageClassifier)(
    backbone=L(FBNetBackbone)(
        arch=L(build_arch)(name="fbnet_v3_a", width_mult=1.0, padding="published"),
        out_features=["trunk4"],
        norm=L(norm_maker)(name="BN", device="${train.device}"),
        drop_path=0.0,
        freeze_at=0,
    ),
    head=L(ClassifierHead)(
        rows=L(head_rows)(arch="${...backbone.arch}"),
        in_channels=L(feature_channels)(arch="${...backbone.arch}", feature="trunk4"),
        num_classes=1000,
        dropout=0.2,
        norm="${..backbone.norm}",
    ),
    label_smoothing=0.0,
    mixup=0.0,
    distillation=None,
    pixel_mean=constants.mean,
    pixel_std=constants.std,
    input_format="RGB",
)
