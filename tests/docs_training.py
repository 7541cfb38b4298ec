"""Commands of the documentation that take hours: checked in full, then run small."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import docs_data
from detectron2.config import CfgNode
from docs_workshop import Workshop, flags

from fbnet_plugin.data.catalog import below_root
from fbnet_plugin.engine import argument_parser, load_config
from fbnet_plugin.latency.measure import Options
from fbnet_plugin.modeling import inner_name

TRAIN_NET = "tools/train_net.py"
CLASSES = 3  # of the stand-ins for large datasets

SMALL: Dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.FBNET.WIDTH_MULT": 0.25,
    "MODEL.FBNET.NORM": "BN",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 100,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 10,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 96,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 96,
    "INPUT.CLASSIFICATION.TRAIN_SIZE": 64,
    "INPUT.CLASSIFICATION.TEST_SIZE": 64,
    "INPUT.CLASSIFICATION.TEST_RESIZE": 64,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.REFERENCE_WORLD_SIZE": 0,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.STEPS": (),
    "SOLVER.STEP_EPOCHS": (),
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.WARMUP_EPOCHS": 0.0,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.EPOCHS": 0,
    "SOLVER.CHECKPOINT_EPOCHS": 0,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "TEST.EVAL_EPOCHS": 0,
    "DNAS.EPOCHS": 1,
    "DNAS.THETA_START": 0,
    "DNAS.CLASSES": 0,
}


def pairs(values: Dict[str, Any]) -> List[str]:
    return [str(part) for pair in values.items() for part in pair]


def train(shop: Workshop, argv: Sequence[str]) -> str:
    """A training, an evaluation or a search by tools/train_net.py."""
    try:
        args = argument_parser().parse_args(list(argv))
    except SystemExit:
        raise AssertionError("tools/train_net.py does not take these arguments") from None
    cfg = load_config(args.config_file, args.opts)
    make_own_data(cfg)
    weights = [cfg.MODEL.WEIGHTS, cfg.MODEL.DISTILLATION.TEACHER_WEIGHTS]
    shop.need(*(path for path in [*weights, cfg.LATENCY.TABLE] if path and "://" not in path))
    if args.resume:
        shop.need(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))
    space = cfg.MODEL.SUPERNET.SPACE if cfg.TRAINER == "DNASTrainer" else ""
    how = (cfg.MODEL.BACKBONE.NAME, cfg.MODEL.DISTILLATION.ENABLED, args.eval_only, args.resume)
    kind = (cfg.TRAINER, inner_name(cfg), space, *how)
    if kind in shop.kinds or is_stand_in(cfg.MODEL.DISTILLATION.TEACHER_WEIGHTS):
        leave_stand_ins(cfg)
        return ""
    shop.kinds.add(kind)
    if cfg.TRAINER == "NARSTrainer":
        return search_recipes(shop, argv)
    options = flags(argv[: len(argv) - len(args.opts)], "--num-gpus", "--num-processes", "--num-machines")
    return shop.run(TRAIN_NET, [*options, *args.opts, *pairs(small_values(cfg, args.eval_only))])


def small_values(cfg: CfgNode, evaluates: bool) -> Dict[str, Any]:
    """What makes a config train for two iterations, on a few images of nothing unless it names data of its own."""
    values = dict(SMALL)
    if not (cfg.DATASETS.COCO_JSON or cfg.DATASETS.IMAGE_FOLDERS):
        values.update(stand_in_data(cfg, evaluates))
    if "://" in cfg.MODEL.WEIGHTS or is_stand_in(cfg.MODEL.WEIGHTS):
        values["MODEL.WEIGHTS"] = ""
    if cfg.MODEL.DISTILLATION.ENABLED:
        narrow = ("MODEL.FBNET.WIDTH_MULT", "MODEL.FBNET.NORM", "MODEL.CLASSIFIER.NUM_CLASSES")
        values["MODEL.DISTILLATION.TEACHER_OPTS"] = [part for key in narrow for part in (key, values[key])]
    if cfg.TRAINER == "DNASTrainer":
        del values["MODEL.FBNET.WIDTH_MULT"]  # another space than the latency table's
        values.update({"DNAS.WEIGHT_SHARE": 0.5, "SOLVER.IMS_PER_BATCH": 4})  # one step of each kind
    return values


def stand_in_data(cfg: CfgNode, evaluates: bool) -> Dict[str, Any]:
    """Config values that name a small dataset for the config's task."""
    labels = inner_name(cfg) == "ImageClassifier"
    if labels:
        docs_data.image_folder(Path(below_root("docs_labels")), CLASSES)
        key, entry, name = "IMAGE_FOLDERS", "docs_labels=docs_labels", "docs_labels"
    else:
        docs_data.coco_dataset(Path(below_root("docs.json")), Path(below_root("docs")), CLASSES)
        key, entry, name = "COCO_JSON", "docs_photos=docs.json:docs", "docs_photos"
    number = "MODEL.CLASSIFIER.NUM_CLASSES" if labels else "MODEL.ROI_HEADS.NUM_CLASSES"
    test = (name,) if evaluates else ()
    return {f"DATASETS.{key}": [entry], "DATASETS.TRAIN": (name,), "DATASETS.TEST": test, number: CLASSES}


def looks(tool: str) -> Any:
    """A tool that runs a model, or shows its data: run with the small form of the config."""

    def run(shop: Workshop, argv: Sequence[str]) -> str:
        args = shop.parse(tool, argv)
        cfg = load_config(args.config_file, args.opts)
        make_own_data(cfg)
        shop.need(*(path for path in [cfg.MODEL.WEIGHTS, *getattr(args, "input", [])] if path and "://" not in path))
        return shop.run(tool, [*argv, *pairs(small_values(cfg, evaluates=True))])

    return run


def export(shop: Workshop, argv: Sequence[str]) -> str:
    """An export: checked, and the first classifier of a page exported, with a tiny body, as exporting takes long."""
    args = shop.parse("tools/export_model.py", argv)
    cfg = load_config(args.config_file, args.opts)
    weights = cfg.MODEL.WEIGHTS
    shop.need(*([weights] if weights and "://" not in weights else []))
    kind = ("export", cfg.MODEL.META_ARCHITECTURE)
    if kind in shop.kinds or cfg.MODEL.META_ARCHITECTURE != "ImageClassifier" or args.int8:
        return ""
    shop.kinds.add(kind)
    values = {
        **small_values(cfg, evaluates=True),
        "MODEL.FBNET.ARCH": "fbnet_v3_a_dsmask_tiny_det",
        "MODEL.WEIGHTS": "",
    }
    return shop.run("tools/export_model.py", [*argv, *pairs(values)])


def lazy(shop: Workshop, argv: Sequence[str]) -> str:
    """A LazyConfig with the values of the command line."""
    from fbnet_plugin.engine.lazy_config import load_lazy_config

    args = argument_parser().parse_args(list(argv))
    load_lazy_config(args.config_file, args.opts)
    return ""


def convert(shop: Workshop, argv: Sequence[str]) -> str:
    """A conversion of weights; a file of timm's is made of random ones first."""
    args = shop.parse("tools/convert_weights.py", argv)
    if not os.path.exists(args.input) and Path(args.input).stem in ("fbnetv3_b", "fbnetv3_g"):
        import timm
        import torch

        torch.save(timm.create_model(Path(args.input).stem).state_dict(), args.input)
    shop.need(args.input)
    return shop.run("tools/convert_weights.py", argv)


def make_own_data(cfg: CfgNode) -> None:
    """The files of the datasets that a config names itself, as the reader has them."""
    for entry in cfg.DATASETS.IMAGE_FOLDERS:
        folder = Path(below_root(entry.partition("=")[2]))
        if not folder.exists():
            docs_data.image_folder(folder, cfg.MODEL.CLASSIFIER.NUM_CLASSES)
    for entry in cfg.DATASETS.COCO_JSON:
        annotations, _, images = entry.partition("=")[2].partition(":")
        if not Path(below_root(annotations)).exists():
            classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
            docs_data.coco_dataset(Path(below_root(annotations)), Path(below_root(images)), classes)


def leave_stand_ins(cfg: CfgNode) -> None:
    """Empty files where a training that is not run would have left its results."""
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model_final.pth", "model_ema_final.pth", "last_checkpoint"):
        if not (folder / name).exists():
            (folder / name).touch()


def is_stand_in(path: str) -> bool:
    """Whether a checkpoint is one of ``leave_stand_ins``."""
    return os.path.isfile(path) and not os.path.getsize(path)


SMALL_SEARCH: Dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "SOLVER.EPOCHS": 4,
    "NARS.POOL_SIZE": 60,
    "NARS.BATCH": 6,
    "NARS.ROUNDS": 2,
    "NARS.SELECTION.FIRST_ROUND": "random",
    "NARS.EVALUATION.EXECUTOR": "ToyExecutor",
    "NARS.EVALUATION.WORKERS": 1,
    "NARS.PREDICTOR.FORM": "plain",
    "NARS.PREDICTOR.FROZEN_EPOCHS": 5,
    "NARS.PREDICTOR.TUNED_EPOCHS": 5,
    "NARS.PREDICTOR.PRETRAIN": False,
    "NARS.EVOLUTION.CHILDREN": 2,
    "NARS.EVOLUTION.TOP": 6,
    "NARS.EVOLUTION.PARENTS": 6,
    "NARS.EVOLUTION.RANDOM": 6,
    "NARS.EVOLUTION.PATIENCE": 1,
    "NARS.EVOLUTION.VERIFY": 0,
    "NARS.WINNERS.SEEDS": 1,
}


def search_recipes(shop: Workshop, argv: Sequence[str]) -> str:
    """A NARS search whose candidates take no time; of the paper's own, which needs ImageNet, arguments and config."""
    sys.path.insert(0, str(Path(__file__).parent / "nars"))
    import small_nars  # registers ToyExecutor

    assert small_nars.ToyExecutor
    args = argument_parser().parse_args(list(argv))
    cfg = load_config(args.config_file, args.opts)
    assert cfg.TRAINER == "NARSTrainer"
    if not cfg.DATASETS.TRAIN[0].startswith("digits"):
        return ""
    return shop.run("tools/nars.py", ["search", *argv, *pairs(SMALL_SEARCH)])


def nars(shop: Workshop, argv: Sequence[str]) -> str:
    """A command of tools/nars.py."""
    if argv[0] == "search":
        return search_recipes(shop, argv[1:])
    shop.parse("tools/nars.py", argv)
    if argv[0] == "pretrain":
        return ""
    if argv[0] == "pool":
        argv = [*flags(argv, "--num"), "--num", "100"]
    if argv[0] == "report":
        argv = [*argv, "--quick"]
    return shop.run("tools/nars.py", argv)


def ablate(shop: Workshop, argv: Sequence[str]) -> str:
    """The trainings of an ablation, listed and checked, not run."""
    args = shop.parse("tools/ablate.py", argv)
    if argv[0] == "report":
        return ""
    cfg = load_config(args.config_file, args.opts)
    assert cfg.MODEL.META_ARCHITECTURE == "ImageClassifier"
    for side in ("plain", "recipe"):
        if getattr(args, side, ""):
            load_config(getattr(args, side), shlex.split(getattr(args, f"{side}_opts")))
    return ""


def measure(shop: Workshop, argv: Sequence[str]) -> str:
    """A measurement: its arguments by a dry run, then a table with made-up times of the same operators."""
    tool = "tools/benchmark_latency.py"
    said = shop.run(tool, [*argv, "--dry-run"])
    args = shop.parse(tool, argv)
    if args.output:
        from fbnet_plugin.arch import get_arch, load_space
        from fbnet_plugin.latency.measure import Request

        options = Options(args.device, args.runtime, args.threads, args.batch_size, args.dtype, args.channels_last,
                          args.method)  # fmt: skip
        spaces, archs = [load_space(name) for name in args.space], [get_arch(name) for name in args.arch]
        side = args.resolution[0] if args.resolution else None
        request = Request(spaces=spaces, archs=archs, resolution=side, fixed=dict(args.fix), times=1)
        docs_data.latency_table(Path(args.output), request.operators(), options.setting())
    return said


def latency_table(shop: Workshop, argv: Sequence[str]) -> str:
    """A command of tools/latency_table.py; measured times of networks are made up first."""
    args = shop.parse("tools/latency_table.py", argv)
    if argv[0] == "fit" and not os.path.exists(args.file):
        from fbnet_plugin.arch import load_space

        docs_data.network_times(Path(args.file), load_space(args.space), args.column)
    return shop.run("tools/latency_table.py", argv)
