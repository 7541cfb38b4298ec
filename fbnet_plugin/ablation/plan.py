"""An ablation as data: what is trained, and which figure of which training stands where in the table."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from detectron2.config import CfgNode

from fbnet_plugin.arch import dump_arch
from fbnet_plugin.atomic_file import atomic_write
from fbnet_plugin.engine.ema import FINAL, SUFFIX
from fbnet_plugin.engine.identity import changes, config_lines
from fbnet_plugin.modeling import arch_from_config

from .errors import AblationError

PLAN_FILE, CONFIG_FILE = "plan.json", "config.yaml"
TECHNIQUES, RECIPES = "techniques", "recipes"
# What may differ when an ablation goes on: it changes where and how trainings run, not what comes out.
_FREE = ("OUTPUT_DIR", "VERSION", "DATALOADER.NUM_WORKERS", "VIS_PERIOD", "SOLVER.CHECKPOINT_PERIOD",
         "SOLVER.CHECKPOINT_EPOCHS")  # fmt: skip


@dataclass(frozen=True)
class Training:
    """One training of the ablation.

    Attributes:
        name: of its folder.
        cfg: complete and frozen, except for what the folder decides; see ``config_in``.
        teacher: name of the training whose weights teach this one, "" for none.
    """

    name: str
    cfg: CfgNode
    teacher: str = ""

    def config_in(self, folder: str, trainings: Mapping[str, Training]) -> CfgNode:
        """The config to train with.

        Args:
            folder: of the ablation.
            trainings: all of them, by name.
        """
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = os.path.join(folder, self.name)
        if self.teacher:
            where, averaged = os.path.join(folder, self.teacher), trainings[self.teacher].cfg.MODEL_EMA.ENABLED
            cfg.MODEL.DISTILLATION.TEACHER_CONFIG = os.path.join(where, CONFIG_FILE)
            cfg.MODEL.DISTILLATION.TEACHER_WEIGHTS = os.path.join(where, FINAL if averaged else "model_final.pth")
        cfg.freeze()
        return cfg

    def identity(self) -> List[str]:
        """What the training is, as lines; another one has other lines."""
        lines = config_lines(self.cfg, _FREE)
        if self.cfg.MODEL.BACKBONE.NAME.startswith("build_fbnet_"):  # ARCH may be the path of a file
            lines += dump_arch(arch_from_config(self.cfg)).splitlines()
        return [*lines, f"teacher: {self.teacher!r}"]


@dataclass(frozen=True)
class Entry:
    """A figure in the table.

    Attributes:
        row, column: where it stands.
        seed: of the training.
        training: its name.
        average: the figure of the averaged weights, not of the model's own.
    """

    row: str
    column: str
    seed: int
    training: str
    average: bool


@dataclass(frozen=True)
class Outline:
    """What a report needs to know, besides the folders of the trainings.

    Attributes:
        kind: TECHNIQUES (the paper's Table 8) or RECIPES (Table 3).
        metric: the figure, "group/name" as the evaluator has it.
        columns: of the table; the first is what the others are compared with.
        entries: in the order of the table's rows.
        epochs: of each training by its name, 0 where the config counts in iterations.
        teachers: trainings that taught others, and whether their averaged weights did.
    """

    kind: str
    metric: str
    columns: Tuple[str, ...]
    entries: Tuple[Entry, ...]
    epochs: Mapping[str, int]
    teachers: Mapping[str, bool]

    def rows(self) -> List[str]:
        """In the order of their first entries."""
        return list(dict.fromkeys(entry.row for entry in self.entries))

    def trainings(self) -> List[str]:
        """Names, teachers first."""
        return list(dict.fromkeys([*self.teachers, *(entry.training for entry in self.entries)]))


@dataclass(frozen=True)
class Plan:
    """
    Attributes:
        outline: of the table.
        trainings: in the order in which they run; a teacher stands before those whom it teaches.
    """

    outline: Outline
    trainings: Tuple[Training, ...]


def outline_of(kind: str, metric: str, columns: Sequence[str], entries: Sequence[Entry],
               trainings: Sequence[Training]) -> Outline:  # fmt: skip
    """The outline of a table over ``trainings``."""
    by_name = {one.name: one for one in trainings}
    epochs = {one.name: int(one.cfg.SOLVER.EPOCHS) for one in trainings}
    taught = dict.fromkeys(one.teacher for one in trainings if one.teacher)
    teachers = {name: bool(by_name[name].cfg.MODEL_EMA.ENABLED) for name in taught}
    return Outline(kind, metric, tuple(columns), tuple(entries), epochs, teachers)


def metric_key(metric: str, average: bool) -> str:
    """The figure's name in metrics.json: classification/top1, or classification_ema/top1 for the average."""
    group, _, name = metric.partition("/")
    return f"{group}{SUFFIX if average else ''}/{name}"


def check_metric(metric: str) -> str:
    """
    Raises:
        AblationError: not of the form "group/name".
    """
    group, slash, name = metric.partition("/")
    if not (group and slash and name) or group.endswith(SUFFIX):
        raise AblationError(f"--metric is {metric!r}, expected group/name, such as classification/top1")
    return metric


def begin(plan: Plan, folder: str) -> Outline:
    """Writes the plan into a folder that is new, or adds it to the one that the folder holds.

    Returns:
        the outline of all that the folder holds now.

    Raises:
        AblationError: the folder's ablation is of another kind, or has a training of the same name and another
            config; nothing is written.
    """
    path = os.path.join(folder, PLAN_FILE)
    identities = {one.name: one.identity() for one in plan.trainings}
    outline = plan.outline
    if os.path.exists(path):
        before = _read(path)
        _refuse_changes(before, outline, identities, path)
        outline = _merged(_outline(before["outline"]), outline)
        identities = {**before["identities"], **identities}
    os.makedirs(folder, exist_ok=True)
    content = {"outline": dataclasses.asdict(outline), "identities": identities}
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    return outline


def refuse_another(plan: Plan, folder: str) -> None:
    """
    Raises:
        AblationError: see ``begin``.
    """
    path = os.path.join(folder, PLAN_FILE)
    if os.path.exists(path):
        _refuse_changes(_read(path), plan.outline, {one.name: one.identity() for one in plan.trainings}, path)


def read_outline(folder: str) -> Outline:
    """The outline of the ablation in a folder.

    Raises:
        AblationError: there is none, or the file is not one.
    """
    path = os.path.join(folder, PLAN_FILE)
    if not os.path.isfile(path):
        raise AblationError(f"{folder} holds no ablation (no {PLAN_FILE}); techniques or recipes begins one there")
    return _outline(_read(path)["outline"])


def _read(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        _outline(content["outline"])
        dict(content["identities"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AblationError(f"{path}: is not the plan of an ablation ({type(error).__name__}: {error})") from None
    return content


def _outline(data: Mapping[str, Any]) -> Outline:
    values = {**data, "columns": tuple(data["columns"]), "entries": tuple(Entry(**one) for one in data["entries"])}
    return Outline(**values)


def _refuse_changes(before: Mapping[str, Any], now: Outline, identities: Mapping[str, List[str]], path: str) -> None:
    kind = before["outline"]["kind"]
    if kind != now.kind:
        raise AblationError(f"{path} is an ablation of {kind}, not of {now.kind}; name another --output")
    for name in sorted(set(identities) & set(before["identities"])):
        old, new = ({"config": lines, "latency_table": ""} for lines in (before["identities"][name], identities[name]))
        found = changes(old, new, {"config": f"the config of {name}"})
        if found:
            head = f"{path}: an ablation goes on as it began, or is begun anew in another --output:"
            raise AblationError("\n  ".join([head, *found]))


def _merged(before: Outline, now: Outline) -> Outline:
    """What was there, and after it what has come; rows and seeds may be added one after the other."""
    entries = tuple(dict.fromkeys((*before.entries, *now.entries)))
    return dataclasses.replace(
        now, entries=entries, epochs={**before.epochs, **now.epochs}, teachers={**before.teachers, **now.teachers}
    )
