"""fbnet_v3_400e.py with FBNetV3-G, trained by it, as the teacher (FBNetV3 section 4.2, step 2)."""

from detectron2.config import LazyCall as L

from fbnet_plugin.modeling.distillation import Distillation

from .fbnet_v3_400e import dataloader, lr_multiplier, model, optimizer, train  # noqa: F401

model.distillation = L(Distillation)(soft_weight=0.8, hard_weight=0.2, temperature=1.0, teacher_size=0)
train.teacher.config = "ImageNet-Classification/fbnet_v3_g_400e.yaml"
train.teacher.weights = "output/fbnet_v3_g_400e/model_ema_final.pth"
