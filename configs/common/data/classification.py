"""Classified images at the size that the model's architecture is published for: ImageNet, random crops and flips."""

from detectron2.config import LazyCall as L

from fbnet_plugin.data import ClassificationMapper
from fbnet_plugin.data.augmentation import testing_transform, training_transform
from fbnet_plugin.data.loaders import classification_test_loader
from fbnet_plugin.engine.lazy_parts import (
    arch_resolution,
    arch_test_resize,
    classification_dicts,
    dataset_evaluator,
    train_loader,
)

dataloader = dict(
    train=L(train_loader)(
        dataset=L(classification_dicts)(names=["imagenet_train"]),
        mapper=L(ClassificationMapper)(
            is_train=True,
            transform=L(training_transform)(
                size=L(arch_resolution)(arch="${model.backbone.arch.name}"),
                area=[0.08, 1.0],
                aspect=[0.75, 1.3333333333333333],
                flip="horizontal",
                augment=None,
            ),
            image_format="RGB",
        ),
        total_batch_size=256,
        num_workers=8,
        seed="${train.seed}",
    ),
    test=L(classification_test_loader)(
        dataset=L(classification_dicts)(names="imagenet_val", same_classes_as="${dataloader.train.dataset.names}"),
        mapper=L(ClassificationMapper)(
            is_train=False,
            transform=L(testing_transform)(
                size=L(arch_resolution)(arch="${model.backbone.arch.name}"),
                resize=L(arch_test_resize)(arch="${model.backbone.arch.name}"),
            ),
            image_format="RGB",
        ),
        total_batch_size="${..train.total_batch_size}",
        num_workers=8,
    ),
    evaluator=L(dataset_evaluator)(dataset_name="${..test.dataset.names}", output_dir="${train.output_dir}/inference"),
)
