#!/usr/bin/env python3
"""Train or evaluate a classifier or a detector, or search one; Detectron2's command line.

    train_net.py --config-file FILE [--resume] [--eval-only] [--num-gpus N] [--num-processes N] [KEY VALUE ...]

FILE is a path, or the name of one of the project's configs, such as COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml.

Examples:
    train_net.py --config-file FILE                                              # train; the GPU, or the CPU
    train_net.py --config-file FILE --resume                                     # go on where it was stopped
    train_net.py --config-file FILE --eval-only MODEL.WEIGHTS output/model_final.pth
    train_net.py --config-file DNAS/fbnet_cifar10_90e.yaml LATENCY.TABLE t.json  # search an architecture
    train_net.py --config-file FILE --num-gpus 8                                 # one process per GPU
    train_net.py --config-file FILE --num-gpus 0 --num-processes 4               # four processes on the CPU

Exit status: 0; 1 when training diverged or failed; 2 when the input is at fault, with one message that says how and
nothing written; 130 or 143 when Ctrl-C or SIGTERM stopped it, with the state of the completed iterations written.
"""

from __future__ import annotations

import argparse
from typing import Any, List, Optional

from fbnet_plugin.engine import (
    argument_parser,
    evaluate,
    exit_codes,
    launch_run,
    prepare,
    setup,
    trainer_class,
)


def run(args: argparse.Namespace) -> Any:
    """Trains or evaluates; every process runs this. Returns the results, where there are any."""
    with exit_codes():
        cfg = setup(args)
        if args.eval_only:
            return evaluate(cfg, resume=args.resume)
        trainer = trainer_class(cfg)(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()


def main(argv: Optional[List[str]] = None) -> None:
    args = argument_parser().parse_args(argv)
    with exit_codes():
        prepare(args)  # once, before any process starts
        launch_run(run, args)


if __name__ == "__main__":
    main()
