"""Averaging and distillation, each alone and both together (FBNetV3 section 5, Table 8)."""

from __future__ import annotations

from typing import Any, List, Sequence

from detectron2.config import CfgNode

from .plan import TECHNIQUES, Entry, Plan, Training, outline_of
from .variants import name_of, variant

BASELINE, EMA, DIST, BOTH = COLUMNS = ("Baseline", "EMA", "Dist*", "Dist*+EMA")
TEACHER = "teacher"
# From the first student's seed: a teacher with a student's own initial weights would be no stranger to it.
_TEACHER_SEED = 1000


def techniques_plan(
    cfg: CfgNode, seeds: Sequence[int], metric: str, teacher_cfg: CfgNode, weights: str = "", config_file: str = ""
) -> Plan:
    """Two trainings per seed, one on the labels and one with distillation, both with an average beside them.

    The average does not act on the training that it is taken from, so that the model's own weights are the training
    without it: each training gives two of the four columns. The teacher is the one of section 4.2, trained on the
    labels first, with its averaged weights; it is the same for all seeds.

    Args:
        cfg: complete; what it says of MODEL_EMA.ENABLED and MODEL.DISTILLATION.ENABLED does not count.
        seeds: of the students.
        metric: "group/name".
        teacher_cfg: of the teacher, ``cfg`` itself for self-distillation.
        weights: of a teacher that is trained already; "" trains one.
        config_file: of that teacher, "" for ``cfg``'s own network.
    """
    labels = _without_teacher(cfg)
    keys: List[Any] = ["MODEL.DISTILLATION.ENABLED", True, "MODEL.DISTILLATION.TEACHER_OPTS", []]
    keys += ["MODEL.DISTILLATION.TEACHER_CONFIG", config_file, "MODEL.DISTILLATION.TEACHER_WEIGHTS", weights]
    distilled = variant(labels, *keys)
    trainings: List[Training] = []
    if not weights:
        trainings.append(Training(TEACHER, variant(_without_teacher(teacher_cfg), "SEED", seeds[0] + _TEACHER_SEED)))
    entries: List[Entry] = []
    row = name_of(cfg)
    for seed in seeds:
        ways = (
            ("labels", labels, "", (BASELINE, EMA)),
            ("distilled", distilled, "" if weights else TEACHER, (DIST, BOTH)),
        )
        for way, its_cfg, teacher, columns in ways:
            name = f"{way}-seed{seed}"
            trainings.append(Training(name, variant(its_cfg, "SEED", seed), teacher))
            entries += [Entry(row, column, seed, name, average) for column, average in zip(columns, (False, True))]
    return Plan(outline_of(TECHNIQUES, metric, COLUMNS, entries, trainings), tuple(trainings))


def _without_teacher(cfg: CfgNode) -> CfgNode:
    return variant(cfg, "MODEL_EMA.ENABLED", True, "MODEL.DISTILLATION.ENABLED", False)
