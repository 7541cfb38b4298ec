#!/usr/bin/env python3
"""Train or evaluate a classifier or a detector that a LazyConfig describes; Detectron2's command line.

    lazyconfig_train_net.py --config-file FILE [--resume] [--eval-only] [--num-gpus N] [--num-processes N]
                            [key=value ...]

FILE is a path, or the name of one of the project's configs, such as COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.py.
The keys are those of the file: model, dataloader, optimizer, lr_multiplier and train, and what stands below them. A key
that neither the file nor the class or function that it is for knows is an error; +key=value adds it all the same.

Examples:
    lazyconfig_train_net.py --config-file FILE                                       # train; the GPU, or the CPU
    lazyconfig_train_net.py --config-file FILE optimizer.lr=0.1 train.ema.decay=0.999
    lazyconfig_train_net.py --config-file FILE model.backbone.arch.name=fbnet_v3_c   # another architecture
    lazyconfig_train_net.py --config-file FILE --resume                              # go on where it was stopped
    lazyconfig_train_net.py --config-file FILE --eval-only train.init_checkpoint=output/model_final.pth
    lazyconfig_train_net.py --config-file FILE --num-gpus 8                          # one process per GPU

Exit status: 0; 1 when training diverged or failed; 2 when the input is at fault, with one message that says how and
nothing written; 130 or 143 when Ctrl-C or SIGTERM stopped it, with the state of the completed iterations written.
"""

from __future__ import annotations

import argparse
from typing import Any, List, Optional

from fbnet_plugin.engine import argument_parser, exit_codes, launch_run
from fbnet_plugin.engine.lazy import evaluate, train
from fbnet_plugin.engine.lazy_config import prepare_lazy, setup_lazy


def run(args: argparse.Namespace) -> Any:
    """Trains or evaluates; every process runs this. Returns the results, where there are any."""
    with exit_codes():
        cfg = setup_lazy(args)
        return evaluate(cfg, resume=args.resume) if args.eval_only else train(cfg, resume=args.resume)


def main(argv: Optional[List[str]] = None) -> None:
    args = argument_parser().parse_args(argv)
    with exit_codes():
        prepare_lazy(args)  # once, before any process starts
        launch_run(run, args)


if __name__ == "__main__":
    main()
