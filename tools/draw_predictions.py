#!/usr/bin/env python3
"""Draw a detector's predictions on the first images of its test set into one picture."""

from __future__ import annotations

import argparse

from detectron2.utils.logger import setup_logger

from fbnet_plugin.checkpoint import FBNetCheckpointer
from fbnet_plugin.engine import FBNetTrainer, exit_codes, prepare
from fbnet_plugin.plotting import draw_detections


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="the detector's config; a path or a name below configs/")
    parser.add_argument("--output", default="predictions.png", help="the picture, a .png file")
    parser.add_argument("--count", type=int, default=12, help="number of images")
    parser.add_argument("--threshold", type=float, default=0.5, help="smallest score of a box that is drawn")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config values, such as MODEL.WEIGHTS FILE"
    )
    args = parser.parse_args()
    args.num_gpus, args.num_machines, args.num_processes, args.eval_only, args.resume = 1, 1, 1, True, False
    return args


def main() -> None:
    args = parse_args()
    with exit_codes():
        cfg, _ = prepare(args)
        setup_logger(name="fbnet_plugin")
        model = FBNetTrainer.build_model(cfg)
        FBNetCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS)
        loader = FBNetTrainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
        boxes = draw_detections(cfg, model, loader, args.output, count=args.count, threshold=args.threshold)
        print(f"{boxes} boxes drawn: {args.output}")


if __name__ == "__main__":
    main()
