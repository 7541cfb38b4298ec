"""Evaluation of weights that lie in a file."""

from __future__ import annotations

import logging
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from fbnet_plugin.checkpoint import FBNetCheckpointer

from .ema import MODEL_EMA, evaluate_average, load_average
from .registry import trainer_class
from .results import EVALUATED, write_results

_logger = logging.getLogger(__name__)


def evaluate(cfg: CfgNode, resume: bool = False, trainer: Any = None) -> Any:
    """Evaluates ``MODEL.WEIGHTS`` on ``DATASETS.TEST``, with ``MODEL_EMA.ENABLED`` also the average in the file.

    The results are written to ``OUTPUT_DIR/evaluation.json`` too.

    Args:
        cfg: complete and frozen.
        resume: evaluate the newest checkpoint of the run in ``OUTPUT_DIR`` instead, where there is one.
        trainer: whose ``build_model`` and ``test`` make and evaluate the model; None: those of ``cfg.TRAINER``.

    Returns:
        the results, with the same names as those of the training run's own evaluation.

    Raises:
        CheckpointError: the file cannot be used, or does not fit the model.
    """
    trainer = trainer or trainer_class(cfg)
    model = trainer.build_model(cfg)
    checkpointer = FBNetCheckpointer(model, cfg.OUTPUT_DIR, strict=True)
    content = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    results = trainer.test(cfg, model)
    if cfg.MODEL_EMA.ENABLED and MODEL_EMA not in content:
        _logger.warning("MODEL_EMA.ENABLED: the file holds no average beside its weights, which alone were evaluated")
    elif cfg.MODEL_EMA.ENABLED:
        load_average(model, content[MODEL_EMA])
        results = evaluate_average(trainer, cfg, model, results)
    if comm.is_main_process():
        write_results(os.path.join(cfg.OUTPUT_DIR, EVALUATED), results, {"weights": checkpointer.loaded})
        verify_results(cfg, results)
    return results
