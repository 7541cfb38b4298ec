"""COCO's boxes, with the image sizes of Detectron2's own 3x models."""

from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data import transforms as T

from fbnet_plugin.data import DetectionMapper
from fbnet_plugin.engine.lazy_parts import dataset_evaluator, train_loader

dataloader = dict(
    train=L(train_loader)(
        dataset=L(get_detection_dataset_dicts)(names=["coco_2017_train"], filter_empty=True),
        mapper=L(DetectionMapper)(
            is_train=True,
            augmentations=[
                L(T.ResizeShortestEdge)(
                    short_edge_length=[640, 672, 704, 736, 768, 800], max_size=1333, sample_style="choice"
                ),
                L(T.RandomFlip)(horizontal=True, vertical=False),
            ],
            image_format="RGB",
            use_instance_mask=False,
        ),
        total_batch_size=16,
        num_workers=4,
        aspect_ratio_grouping=True,
        seed="${train.seed}",
    ),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
        mapper=L(DetectionMapper)(
            is_train=False,
            augmentations=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333, sample_style="choice")],
            image_format="RGB",
            use_instance_mask="${...train.mapper.use_instance_mask}",
        ),
        num_workers=4,
    ),
    evaluator=L(dataset_evaluator)(dataset_name="${..test.dataset.names}", output_dir="${train.output_dir}/inference"),
)
