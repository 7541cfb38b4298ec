"""What of a search can be known to fail before it starts."""

from __future__ import annotations

from typing import List

from detectron2.config import CfgNode

from fbnet_plugin.arch.space_scaling import small_map_warning
from fbnet_plugin.engine.lr_schedule import counts_epochs
from fbnet_plugin.latency.layerwise import layerwise
from fbnet_plugin.modeling import space_from_config
from fbnet_plugin.modeling.arch import SUPERNET

from .data import search_data
from .errors import SearchError
from .settings import latency_loss_from_config, latency_matrix_from_config, schedule_from_config
from .supernet import NOISES

WEIGHT_STEPS = ("mixed", "single_path")


def completed(cfg: CfgNode) -> CfgNode:
    """A copy whose image sizes, where the config leaves them to the architecture, are the space's resolution."""
    cfg = cfg.clone()
    cfg.defrost()
    size = space_from_config(cfg).frame({}).resolution
    keys = cfg.INPUT.CLASSIFICATION
    keys.TRAIN_SIZE = keys.TRAIN_SIZE or size
    keys.TEST_SIZE = keys.TEST_SIZE or size
    cfg.freeze()
    return cfg


def check_search(cfg: CfgNode) -> List[str]:
    """Checks space, latency table and target, schedule and data of a search.

    Returns:
        warnings, one line each.

    Raises:
        SearchError, ArchError, LatencyError: what is wrong and what is accepted.
    """
    if cfg.MODEL.META_ARCHITECTURE != SUPERNET:
        raise SearchError(
            f"TRAINER DNASTrainer trains a Supernet, not MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}"
        )
    if cfg.MODEL_EMA.ENABLED:
        raise SearchError("MODEL_EMA.ENABLED: a search keeps no average of the supernet's weights; expected False")
    if cfg.MODEL.DISTILLATION.ENABLED:
        raise SearchError("MODEL.DISTILLATION.ENABLED: a search has no teacher; expected False")
    if counts_epochs(cfg):
        raise SearchError(
            "a search has its own epochs in DNAS.EPOCHS; SOLVER.EPOCHS, SOLVER.WARMUP_EPOCHS, SOLVER.STEP_EPOCHS, "
            "SOLVER.STOP_EPOCH and TEST.EVAL_EPOCHS are for other trainers"
        )
    for key, value, known in (
        ("MODEL.SUPERNET.NOISE", cfg.MODEL.SUPERNET.NOISE, NOISES),
        ("DNAS.WEIGHT_STEP", cfg.DNAS.WEIGHT_STEP, WEIGHT_STEPS),
    ):
        if value not in known:
            raise SearchError(f"{key} is {value!r}, expected one of {', '.join(known)}")
    space = space_from_config(cfg)
    layerwise(space)
    notes = [note for note in [small_map_warning(space)] if note]
    latency_loss_from_config(cfg)
    matrix = latency_matrix_from_config(cfg, space)
    if matrix is None:
        notes.append("LATENCY.TABLE is empty: the search knows of no latency and will not find a fast network")
    elif cfg.LATENCY.TARGET_US:
        low, high = matrix.reach_us()
        if not low <= cfg.LATENCY.TARGET_US <= high:
            raise SearchError(
                f"LATENCY.TARGET_US is {cfg.LATENCY.TARGET_US:.0f}; with {cfg.LATENCY.TABLE} the networks of "
                f"{space.name} take from {low:.0f} to {high:.0f} µs"
            )
    data = search_data(cfg)
    schedule_from_config(cfg, data)
    if data.classes and len(data.classes) != cfg.MODEL.CLASSIFIER.NUM_CLASSES:
        raise SearchError(
            f"DNAS.CLASSES is {len(data.classes)}, so MODEL.CLASSIFIER.NUM_CLASSES must be too, not "
            f"{cfg.MODEL.CLASSIFIER.NUM_CLASSES}"
        )
    if data.classes and cfg.DATASETS.TEST:
        raise SearchError("DNAS.CLASSES leaves classes out that DATASETS.TEST has; leave DATASETS.TEST empty")
    return notes
