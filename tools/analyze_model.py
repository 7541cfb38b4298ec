#!/usr/bin/env python3
"""Print the parameters and the multiply-adds (MACs) of the model that a config describes, part by part.

    analyze_model.py --config-file FILE [--image-size H W] [--proposals N] [--json] [KEY VALUE ...]

FILE is a path, or the name of one of the project's configs. Any Detectron2 meta-architecture will do; parts that are
not known here are listed with their parameters alone. Weights and data are not needed, nor is a GPU.

Examples:
    analyze_model.py --config-file COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml --image-size 400 600
    analyze_model.py --config-file ImageNet-Classification/fbnet_v3_a_400e.yaml --json MODEL.FBNET.WIDTH_MULT 0.5

Exit status: 0; 2 when the input is at fault, with one message that says how.
"""

from __future__ import annotations

import argparse
import json
from typing import List, Optional

from fbnet_plugin.engine import exit_codes, load_config, positive
from fbnet_plugin.modeling.analysis import analyze


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a path, or the name of a shipped config")
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=positive,
        metavar=("H", "W"),
        help="px; default: the test crop of a classifier, else a 480x640 photograph as the config resizes it",
    )
    parser.add_argument(
        "--proposals", type=positive, metavar="N", help="regions per image; default: MODEL.RPN.POST_NMS_TOPK_TEST"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config values, after all options")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with exit_codes():
        cfg = load_config(args.config_file, args.opts)
        analysis = analyze(cfg, tuple(args.image_size) if args.image_size else None, args.proposals)
    data = {"config_file": args.config_file, **analysis.to_dict()}
    print(json.dumps(data, indent=2) if args.json else analysis.to_text())


if __name__ == "__main__":
    main()
