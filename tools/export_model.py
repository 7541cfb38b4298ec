#!/usr/bin/env python3
"""Write the model that a config describes as an ONNX or TorchScript file.

    export_model.py --config-file FILE --format {onnx,torchscript} --output FILE [--image-size H W] [--fixed-size]
                    [--part {model,backbone}] [--sample-images PATH ...] [--tolerance X]
                    [--int8 --calibration PATH ... [--calibration-images N] [--method M] [--keep-float PART ...]
                    [--evaluate] [--threads N]] [KEY VALUE ...]

Classifiers, Faster R-CNN with C4 and FPN, and the backbone alone of any model. Batch norms are folded into the
convolutions, and the graph normalizes raw pixels (0 to 255) itself; architecture, classes, mean and weights are in the
file's metadata. The exported network runs against PyTorch on real images before anything is written, and a file that
differs is refused. Those images are --sample-images (files, folders or names of datasets), else some of DATASETS.TEST,
else photographs of scikit-image. A classifier or a backbone takes any number of images, a detector one image
of any size, unless --fixed-size.

--int8 writes an int8 ONNX file of a classifier or a backbone instead: ranges come from the images of --calibration,
and what it costs and gives is measured on DATASETS.TEST (--evaluate), or on the sample images.

Examples:
    export_model.py --config-file ImageNet-Classification/fbnet_v3_a_400e.yaml --format onnx --output fbnet_v3_a.onnx \\
        MODEL.WEIGHTS output/fbnet_v3_a/model_final.pth
    export_model.py --config-file COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml --format torchscript \\
        --output detector.ts --image-size 320 320 --sample-images photos/ --tolerance 1e-3
    export_model.py --config-file Digits/fbnet_v3_a_dsmask_tiny_digits.yaml --format onnx --int8 --evaluate \\
        --calibration digits_train --output int8.onnx MODEL.WEIGHTS output/fbnet_v3_a_dsmask_tiny_digits/model_final.pth

Exit status: 0; 1 when the network cannot be exported or the result differs, and nothing is written; 2 when the input is
at fault; with one message that says how.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from typing import Any, Iterator, List, Optional, Tuple

from detectron2.config import CfgNode

from fbnet_plugin.data import build_test_loader, register_from_config
from fbnet_plugin.engine import exit_codes, load_config, positive
from fbnet_plugin.export.classifier import TOLERANCE, backbone_exportable, classifier_exportable
from fbnet_plugin.export.errors import ExportError, ExportInputError
from fbnet_plugin.export.exportable import Exportable
from fbnet_plugin.export.int8_report import Labelled, int8_report
from fbnet_plugin.export.model import load_model
from fbnet_plugin.export.onnx_file import OnnxNetwork
from fbnet_plugin.export.quantize import METHODS, PARTS, quantize
from fbnet_plugin.export.samples import named_images, sample_images
from fbnet_plugin.export.write import FORMATS, ONNX, check_path, export, save, verified

CHECKED, COMPARED = 4, 64  # images, where none are named
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a path, or the name of a shipped config")
    parser.add_argument("--format", required=True, choices=list(FORMATS))
    parser.add_argument("--output", required=True, metavar="FILE")
    parser.add_argument(
        "--image-size", nargs=2, type=positive, metavar=("H", "W"), help="px, to which images are resized; default: "
        "as in the config's test, such as INPUT.CLASSIFICATION.TEST_SIZE",
    )
    parser.add_argument("--fixed-size", action="store_true", help="one image of that size, and no other")
    parser.add_argument("--part", choices=("model", "backbone"), default="model", help="default: %(default)s")
    parser.add_argument("--sample-images", nargs="+", default=[], metavar="PATH", help="to check the file on")
    parser.add_argument(
        "--tolerance", type=float, default=None, metavar="X",
        help="largest difference, as a share of the largest result; of a detector's scores, of its coordinates as a "
        f"share of the image's longer side; default: {TOLERANCE:g}",
    )  # fmt: skip
    int8 = parser.add_argument_group("int8")
    int8.add_argument("--int8", action="store_true", help="write an int8 ONNX file")
    int8.add_argument("--calibration", nargs="+", default=[], metavar="PATH", help="files, folders or datasets")
    int8.add_argument(
        "--calibration-images", type=positive, default=100, metavar="N", help="of each folder; default: %(default)s"
    )
    int8.add_argument("--method", choices=METHODS, default=METHODS[0], help="of the ranges; default: %(default)s")
    int8.add_argument(
        "--keep-float", nargs="+", choices=PARTS, default=(), metavar="PART",
        help=f"what stays float32, of {', '.join(PARTS)} (gates, first convolution, last layer); default: nothing",
    )  # fmt: skip
    int8.add_argument("--evaluate", action="store_true", help="top-1 accuracy on the first of DATASETS.TEST")
    int8.add_argument("--threads", type=positive, default=1, metavar="N", help="while timing; default: %(default)s")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config values, after all options")
    args = parser.parse_args(argv)
    for paths in (args.sample_images, args.calibration):  # which take what follows them
        first = next((i for i, one in enumerate(paths) if _KEY.fullmatch(one) and not os.path.exists(one)), len(paths))
        args.opts, paths[first:] = paths[first:] + args.opts, []
    return args


def check_args(args: argparse.Namespace) -> None:
    """
    Raises:
        ExportInputError: options that do not go together.
    """
    if args.int8 and args.format != ONNX:
        raise ExportInputError(f"--int8 with --format {args.format}: expected onnx")
    if args.int8 and not args.calibration:
        raise ExportInputError("--int8 needs --calibration: a folder of images of the kind that the network will see")
    if not args.int8 and (args.calibration or args.evaluate):
        raise ExportInputError("--calibration and --evaluate are for --int8")
    if args.tolerance is not None and not args.tolerance > 0:
        raise ExportInputError(f"--tolerance is {args.tolerance}, expected a number above 0")
    check_path(args.output)


def exportable_of(args: argparse.Namespace, cfg: CfgNode, model: Any) -> Exportable:
    """The part of the model that is asked for."""
    size = tuple(args.image_size) if args.image_size else None
    chosen = {} if args.tolerance is None else {"tolerance": args.tolerance}
    if args.part == "backbone":
        return backbone_exportable(cfg, model, size, not args.fixed_size, **chosen)
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        return classifier_exportable(cfg, model, size, not args.fixed_size, **chosen)
    if args.int8:
        raise ExportInputError("--int8 is for classifiers and backbones; add --part backbone")
    from fbnet_plugin.export.detector import detector_exportable

    return detector_exportable(cfg, model, size, not args.fixed_size, **chosen)


def labelled(cfg: CfgNode) -> Iterator[Labelled]:
    """The images of the first test set with their classes.

    Raises:
        ExportInputError: there is no test set, or the model is no classifier.
    """
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier" or not cfg.DATASETS.TEST:
        raise ExportInputError("--evaluate needs a classifier and a dataset in DATASETS.TEST")
    loader = build_test_loader(cfg, cfg.DATASETS.TEST[0])
    return ((one["image"], one["label"]) for batch in loader for one in batch)


def run(args: argparse.Namespace) -> str:
    """Exports; returns what there is to say of the file."""
    check_args(args)
    cfg = load_config(args.config_file, args.opts)
    register_from_config(cfg)
    start = time.monotonic()
    exportable = exportable_of(args, cfg, load_model(cfg))
    samples = sample_images(cfg, args.sample_images, COMPARED if args.int8 else CHECKED)
    if args.int8:
        content, difference = verified(exportable, args.format, samples.images)
    else:
        content, difference = export(exportable, args.format, args.output, samples.images)
    print(f"the {args.format} network gives what PyTorch gives on {samples.origin}: {difference.text}", flush=True)
    if args.int8:
        content = to_int8(args, cfg, exportable, content, samples.images)
        save(content, args.output)
    return "\n".join([*described(args, exportable, content), f"took {time.monotonic() - start:.1f} s"])


def to_int8(args: argparse.Namespace, cfg: CfgNode, exportable: Exportable, content: bytes, images: Any) -> bytes:
    """The int8 form of an ONNX model; what it costs and gives is printed."""
    compared = labelled(cfg) if args.evaluate else ((image, None) for image in images)
    calibration = named_images(cfg, args.calibration, args.calibration_images)
    print(f"calibrating on {calibration.origin}", flush=True)
    int8 = quantize(content, exportable, calibration.images, args.method, args.keep_float)
    print(int8_report(exportable, content, int8, compared, args.threads).to_text(), flush=True)
    return int8


def described(args: argparse.Namespace, exportable: Exportable, content: bytes) -> List[str]:
    """File, size, inputs and outputs."""
    lines = [f"{args.output}: {len(content) / 1e6:.2f} MB"]
    if args.format == ONNX:
        inputs, outputs = OnnxNetwork(content).shapes()
    else:
        inputs = {name: named_shape(exportable, name) for name in exportable.inputs}
        outputs = {name: [] for name in exportable.outputs}
    for kind, shapes in (("input", inputs), ("output", outputs)):
        lines += [f"  {kind:<6} {name} {tuple(shape) if shape else ''}".rstrip() for name, shape in shapes.items()]
    return lines


def named_shape(exportable: Exportable, name: str) -> Tuple[Any, ...]:
    """The shape of an input, with the name of a size where it is free."""
    free = exportable.dynamic.get(name, {})
    return tuple(free.get(axis, size) for axis, size in enumerate(exportable.inputs[name].shape))


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        with exit_codes():
            print(run(args))
    except ExportError as error:
        print(f"error: {error}; nothing was written (MODEL.WEIGHTS and --tolerance decide)", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
