#!/usr/bin/env python3
"""Draw a dataset: what is annotated in it, or what arrives in training after augmentation.

    visualize_data.py --config-file FILE --source {annotation,dataloader} --output-dir DIR [--count N]
                      [--dataset {train,test}] [KEY VALUE ...]

FILE is a path, or the name of one of the project's configs.

annotation  images as they lie in their files, with their boxes, masks and keypoints, or with their class; N of them
            evenly spaced over DATASETS.TRAIN (without the images that training leaves out), or over the first set of
            DATASETS.TEST
dataloader  images as the model gets them: cropped, resized, flipped, augmented, mixed, with what is annotated then; the
            first N of a training with this SEED, or with --dataset test of the first set of DATASETS.TEST

Pictures are DIR/000_NAME.png and so on; small images are enlarged. One line per picture says what is on it.

Examples:
    visualize_data.py --config-file COCO-InstanceSegmentation/mask_rcnn_fbnet_v3_a_FPN_3x.yaml --source annotation \\
        --output-dir seen
    visualize_data.py --config-file ImageNet-Classification/fbnet_v3_a_400e.yaml --source dataloader --count 100 \\
        --output-dir seen INPUT.CLASSIFICATION.AUTO_AUGMENT randaugment MODEL.CLASSIFIER.MIXUP 0.2

Exit status: 0; 2 when the input is at fault, with one message that says how.
"""

from __future__ import annotations

import argparse
import os
from typing import List, Optional

from tqdm import tqdm

from fbnet_plugin.data import register_from_config
from fbnet_plugin.engine import exit_codes, load_config
from fbnet_plugin.plotting.dataset import TEST, TRAIN, annotated, loaded
from fbnet_plugin.plotting.demo_files import write_rgb

SOURCES = {"annotation": annotated, "dataloader": loaded}


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a path, or the name of a shipped config")
    parser.add_argument("--source", required=True, choices=list(SOURCES), help="what is drawn")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--count", type=int, default=20, metavar="N", help="pictures; default: %(default)s")
    parser.add_argument("--dataset", choices=[TRAIN, TEST], default=TRAIN, help="default: %(default)s")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config values, after all options")
    args = parser.parse_args(argv)
    if args.count < 1:
        parser.error(f"--count: got {args.count}, expected 1 or more")
    return args


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with exit_codes():
        cfg = load_config(args.config_file, args.opts)
        register_from_config(cfg)
        cfg.freeze()
        pictures = SOURCES[args.source](cfg, args.dataset, args.count)
        for number, shown in enumerate(tqdm(pictures, total=args.count, unit="image", disable=None, leave=False)):
            path = os.path.join(args.output_dir, f"{number:03d}_{shown.name}.png")
            write_rgb(shown.pixels, path)
            tqdm.write(f"{path}: {shown.says}")


if __name__ == "__main__":
    main()
