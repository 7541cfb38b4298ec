"""270,000 iterations of 16 images with steps, Detectron2's own 3x schedule: Faster R-CNN with a feature pyramid."""

from detectron2.config import LazyCall as L

from fbnet_plugin.engine.lazy_parts import warmup_multi_step

from ..data.coco import dataloader  # noqa: F401
from ..models.fbnet_fpn import model  # noqa: F401
from ..optim import sgd as optimizer  # noqa: F401
from ..train import train

lr_multiplier = L(warmup_multi_step)(
    length="${train.max_iter}", steps=[210000, 250000], gamma=0.1, warmup=1000, warmup_factor=0.001
)
train.max_iter = 270000
