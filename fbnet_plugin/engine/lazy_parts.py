"""What LazyConfigs name besides models: loaders, evaluators, image sizes and schedules, all from plain arguments."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

from detectron2.config import get_cfg
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver import WarmupParamScheduler
from detectron2.utils import comm
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler, ParamScheduler

from fbnet_plugin.arch import get_arch
from fbnet_plugin.data import ClassificationMapper, DatasetError, TrainLoader
from fbnet_plugin.data.loaders import orientations, require_same_classes
from fbnet_plugin.data.order import shuffled
from fbnet_plugin.evaluation import build_evaluator

from .errors import ConfigError
from .lr_schedule import epoch_decay

Dicts = List[Dict[str, Any]]
Mapper = Callable[[Dict[str, Any]], Any]

# ---------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------


def classification_dicts(names: Any, same_classes_as: Sequence[str] = ()) -> Dicts:
    """The dataset dicts of classification sets: of one name, or of a list of them.

    Raises:
        DatasetError: these sets and ``same_classes_as`` do not have the same classes.
    """
    dicts = get_detection_dataset_dicts(names, filter_empty=False)
    require_same_classes([*same_classes_as, *([names] if isinstance(names, str) else names)])
    return dicts


def train_loader(
    dataset: Dicts,
    mapper: Mapper,
    *,
    total_batch_size: int,
    num_workers: int = 4,
    aspect_ratio_grouping: bool = False,
    seed: int = -1,
) -> TrainLoader:
    """Endless batches of shuffled images, which a resumed run goes on with exactly where they stood.

    Args:
        dataset: dataset dicts.
        mapper: from a dict to what the model takes.
        total_batch_size: images of all processes together.
        num_workers: processes that map ahead, for each training process.
        aspect_ratio_grouping: batches have images that are all wider than high, or all not.
        seed: of order and augmentation; below 0 a random one, the same in all processes.

    Raises:
        DatasetError: there are no images.
        ConfigError: the processes cannot share the batch evenly.
    """
    if not dataset:
        raise DatasetError("the training dataset has no images")
    if total_batch_size < 1 or total_batch_size % comm.get_world_size():
        processes = comm.get_world_size()
        raise ConfigError(f"total_batch_size is {total_batch_size}, expected a multiple of the {processes} processes")
    return TrainLoader(
        DatasetFromList(dataset, copy=False),
        mapper,
        shuffled(len(dataset)),
        seed=comm.shared_random_seed() if seed < 0 else seed,
        batch_size=total_batch_size,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        num_workers=num_workers,
        bucket_of=orientations(dataset) if aspect_ratio_grouping else None,
        torch_alone=isinstance(mapper, ClassificationMapper),
    )


def dataset_evaluator(dataset_name: str, output_dir: str) -> DatasetEvaluator:
    """The evaluator that suits a dataset.

    Args:
        dataset_name: registered.
        output_dir: where the predictions of detectors go.
    """
    return build_evaluator(get_cfg(), dataset_name, output_dir)


def arch_resolution(arch: str) -> int:
    """px of the square that an architecture, of the zoo or of a file, is published for."""
    return get_arch(arch).resolution


def arch_test_resize(arch: str) -> int:
    """px of the short side before the central square is cut out, as published for an architecture."""
    return get_arch(arch).test_resize()


# ---------------------------------------------------------------------------------------------
# Schedules: factors on the learning rate as functions of progress, in [0, 1). All lengths of one
# schedule are in one unit, epochs or iterations.
# ---------------------------------------------------------------------------------------------


def warmup_cosine(length: float, warmup: float = 0, warmup_factor: float = 0.001) -> ParamScheduler:
    """Half a cosine from 1 to 0, as WarmupCosineLR.

    Args:
        length: of the whole schedule.
        warmup: of its beginning, in which the factor grows linearly.
        warmup_factor: what it grows from.
    """
    return _with_warmup(CosineParamScheduler(1, 0), _above_zero(length), warmup, warmup_factor)


def warmup_multi_step(
    length: int, steps: Sequence[int], gamma: float = 0.1, warmup: float = 0, warmup_factor: float = 0.001
) -> ParamScheduler:
    """Times ``gamma`` at each of ``steps``, as WarmupMultiStepLR; those behind the end are left out.

    Args:
        length, warmup, warmup_factor: see ``warmup_cosine``.
        steps: increasing.
        gamma: factor at each step.
    """
    milestones = [step for step in steps if step <= _above_zero(length)]
    factors = [gamma**number for number in range(len(milestones) + 1)]
    return _with_warmup(MultiStepParamScheduler(factors, length, milestones), length, warmup, warmup_factor)


def warmup_exponential(epochs: int, decay: float, warmup: int = 0, warmup_factor: float = 0.001) -> ParamScheduler:
    """Times ``decay`` after each epoch that follows the warm-up, as WarmupExponentialLR.

    Args:
        epochs: of the whole schedule.
        decay: per epoch.
        warmup, warmup_factor: see ``warmup_cosine``.
    """
    return _with_warmup(epoch_decay(decay, _above_zero(epochs), epochs, warmup), epochs, warmup, warmup_factor)


def _above_zero(length: float) -> float:
    if not length > 0:
        raise ConfigError(f"lr_multiplier: the length is {length}, expected above 0 (train.epochs or train.max_iter?)")
    return length


def _with_warmup(schedule: ParamScheduler, length: float, warmup: float, factor: float) -> ParamScheduler:
    return WarmupParamScheduler(schedule, factor, min(warmup / length, 1.0), "linear")
