#!/usr/bin/env python3
"""Convert weights: of timm, mobile-vision, d2go and torchvision for MODEL.WEIGHTS, and ours for timm or torchvision.

    convert_weights.py INPUT --output FILE [--to {fbnet_plugin,timm,torchvision}] [--arch NAME_OR_FILE]
                       [--weights {ema,plain}] [--allow-pickle]

INPUT is a file, or an address such as timm://fbnetv3_b.ra2_in1k. MODEL.WEIGHTS takes all of these without a conversion;
this tool is for files whose architecture is not in the zoo, for files that hold more than tensors, and for the way
back. FILE is written as a whole or not at all; a name that ends with .safetensors gives that format.

Examples:
    convert_weights.py timm://fbnetv3_g.ra2_in1k --output fbnet_v3_g.pth
    convert_weights.py output/fbnet_v3_b_timm/model_final.pth --output fbnetv3_b.safetensors --to timm
    convert_weights.py model.pth --output ours.pth --arch output/searched.yaml --weights plain
    convert_weights.py last.pth.tar --output ours.pth --allow-pickle     # of timm's training, which pickles its options
    convert_weights.py resnet50.pth --output ours.pth --arch resnet50    # a network of torchvision

Exit status: 0; 2 when the input is at fault, with one message that says how and nothing written.
"""

from __future__ import annotations

import argparse
from typing import List, Optional

from fbnet_plugin.arch import get_arch
from fbnet_plugin.checkpoint.convert_file import FORMS, convert_file, write_converted
from fbnet_plugin.checkpoint.envelopes import EMA, PLAIN
from fbnet_plugin.engine import exit_codes
from fbnet_plugin.modeling.torchvision_network import family_of, list_networks


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="INPUT", help="a file of weights, or an address")
    parser.add_argument("--output", required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--to", choices=FORMS, default=FORMS[0], help="whose names; default: %(default)s")
    parser.add_argument(
        "--arch",
        default="",
        metavar="NAME_OR_FILE",
        help="architecture of the zoo, or of a .yaml file, or a network of torchvision; default: found in the zoo",
    )
    parser.add_argument(
        "--weights",
        choices=(EMA, PLAIN),
        default=EMA,
        help="the moving average where the file has one, or the weights beside it; default: %(default)s",
    )
    parser.add_argument(
        "--allow-pickle", action="store_true", help="load objects of any class, which may run code: trusted files only"
    )
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with exit_codes():
        of_torchvision = args.arch in list_networks()
        converted = convert_file(
            args.input,
            to=args.to,
            arch=get_arch(args.arch) if args.arch and not of_torchvision else None,
            linear=family_of(args.arch).linear if of_torchvision else "",
            weights=args.weights,
            allow_pickle=args.allow_pickle,
        )
        write_converted(converted, args.output)
    print(f"names:        {converted.scheme}")
    print(f"architecture: {', '.join(converted.archs) or args.arch or 'not known'}")
    print(f"weights:      {converted.weights}")
    print(f"tensors:      {converted.tensors}")
    for notice in converted.notices:
        print(f"note:         {notice}")
    print(f"written:      {args.output}, with {args.to}'s names")


if __name__ == "__main__":
    main()
