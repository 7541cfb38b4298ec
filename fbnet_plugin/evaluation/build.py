"""The evaluator that suits a dataset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple

from detectron2 import evaluation
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from .classification import ClassificationEvaluator

if TYPE_CHECKING:
    from detectron2.config import CfgNode

Maker = Callable[[str, Optional[str]], DatasetEvaluator]


def has_fast_coco_eval() -> bool:
    """Whether Detectron2's compiled COCO evaluation can be used; without it pycocotools gives the same figures."""
    try:
        from detectron2 import _C
    except ImportError:
        return False
    needed = ("COCOevalEvaluateImages", "COCOevalAccumulate", "InstanceAnnotation")
    return all(hasattr(_C, name) for name in needed)


def _coco(name: str, folder: Optional[str]) -> DatasetEvaluator:
    if MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id") is None:
        # Loading fills in the category ids that COCOEvaluator maps classes to, and makes files made at first use.
        DatasetCatalog.get(name)
    return evaluation.COCOEvaluator(name, output_dir=folder, use_fast_impl=has_fast_coco_eval())


def _sem_seg(name: str, folder: Optional[str]) -> DatasetEvaluator:
    return evaluation.SemSegEvaluator(name, distributed=True, output_dir=folder)


# evaluator_type in a dataset's metadata -> what makes its evaluators.
MAKERS: Dict[str, Tuple[Maker, ...]] = {
    "image_classification": (lambda name, folder: ClassificationEvaluator(name),),
    "coco": (_coco,),
    "coco_panoptic_seg": (_sem_seg, _coco, lambda name, folder: evaluation.COCOPanopticEvaluator(name, folder)),
    "sem_seg": (_sem_seg,),
    "lvis": (lambda name, folder: evaluation.LVISEvaluator(name, output_dir=folder),),
    "pascal_voc": (lambda name, folder: evaluation.PascalVOCDetectionEvaluator(name),),
    "cityscapes_instance": (lambda name, folder: evaluation.CityscapesInstanceEvaluator(name),),
    "cityscapes_sem_seg": (lambda name, folder: evaluation.CityscapesSemSegEvaluator(name),),
}


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: Optional[str] = None) -> DatasetEvaluator:
    """The evaluator that the ``evaluator_type`` of a dataset's metadata asks for.

    Args:
        cfg: OUTPUT_DIR is where the predictions of detectors go, into ``inference``.
        dataset_name: as in ``cfg.DATASETS.TEST``.
        output_folder: in place of that folder.

    Raises:
        KeyError: no such dataset.
        ValueError: its metadata has no ``evaluator_type`` or one that is not known here.
    """
    if dataset_name not in DatasetCatalog:
        raise KeyError(f"dataset {dataset_name!r} is not registered; registered are {', '.join(DatasetCatalog.list())}")
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in MAKERS:
        raise ValueError(f"dataset {dataset_name!r} has evaluator_type {kind!r}, expected one of {', '.join(MAKERS)}")
    folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    evaluators: List[DatasetEvaluator] = [make(dataset_name, folder) for make in MAKERS[kind]]
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)
