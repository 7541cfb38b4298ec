#!/usr/bin/env python3
"""Draw what a model says of images, or of a video: boxes, masks, keypoints, segments, or a classifier's best classes.

    demo.py --config-file FILE --input PATH [PATH ...] --output PATH [--confidence-threshold X] [--json FILE]
            [--scale S] [--video-codec CODE] [KEY VALUE ...]

FILE is a path, or the name of one of the project's configs; MODEL.WEIGHTS among the KEY VALUE pairs names the weights.
Images are resized as the config says for testing, one at a time. Class names are those of DATASETS.TEST.

PATHs are image files, folders (with the folders in them), quoted patterns such as 'photos/**/*.jpg', or one video. The
output of a single image or video is a file, or a folder; that of several is a folder, in which they lie as in the
folder that they come from. Inputs are never overwritten. A video keeps its size and frames per second; Ctrl-C ends it
early, and what has been drawn by then is a complete file.

Examples:
    demo.py --config-file COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml --input photo.jpg --output drawn.jpg \\
        MODEL.WEIGHTS output/model_final.pth
    demo.py --config-file FILE --input photos --output drawn --json found.json MODEL.WEIGHTS model_final.pth
    demo.py --config-file FILE --input street.mov --output street.mp4 --confidence-threshold 0.7 MODEL.WEIGHTS W

One line per image says what was found and the milliseconds of the model with its preparation. --json writes what was
found as COCO's results, with the images and categories that they refer to; "annotations" is what pycocotools' loadRes
takes. With --confidence-threshold 0 these can be evaluated.

Exit status: 0; 1 when some images could not be read (they are named, the others are drawn); 2 when the input is at
fault, with one message that says how; 130 when Ctrl-C ended it.
"""

from __future__ import annotations

import argparse
import sys
from typing import List, Optional

from detectron2.utils.logger import setup_logger

from fbnet_plugin.engine import exit_codes
from fbnet_plugin.plotting.demo import draw_images, draw_video
from fbnet_plugin.plotting.demo_files import is_video, plan_pictures
from fbnet_plugin.plotting.demo_predictor import Predictor, demo_config, demo_metadata
from fbnet_plugin.plotting.demo_results import Results


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a path, or the name of a shipped config")
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help="images, folders, patterns, a video")
    parser.add_argument("--output", required=True, metavar="PATH", help="a file for one image or a video, or a folder")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, metavar="X", help="smallest score; default: %(default)s"
    )
    parser.add_argument("--json", metavar="FILE", help="write what was found there too")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="S", help="factor on the size of drawn images; default: 1"
    )
    parser.add_argument(
        "--video-codec", default="mp4v", metavar="CODE", help="four letters, as OpenCV has them; default: %(default)s"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config values, after all options")
    args = parser.parse_args(argv)
    if not 0 < args.scale <= 20:
        parser.error(f"--scale: got {args.scale:g}, expected above 0, at most 20")
    return args


def run(args: argparse.Namespace) -> int:
    """Draws; the exit status."""
    pictures = plan_pictures(args.input, args.output)
    cfg = demo_config(args.config_file, args.opts, args.confidence_threshold)
    metadata = demo_metadata(cfg)
    predictor = Predictor.from_config(cfg)
    results = Results(metadata)
    failures: List[str] = []
    complete = True
    if is_video(pictures[0].source):
        complete = draw_video(predictor, pictures[0], metadata, codec=args.video_codec, results=results)
    else:
        failures = draw_images(predictor, pictures, metadata, scale=args.scale, results=results)
    if args.json:
        results.write(args.json)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 130 if not complete else 1 if failures else 0


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    setup_logger(name="fbnet_plugin", abbrev_name="fbnet_plugin").setLevel("WARNING")
    with exit_codes():
        try:
            status = run(args)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            status = 130
    raise SystemExit(status)


if __name__ == "__main__":
    main()
