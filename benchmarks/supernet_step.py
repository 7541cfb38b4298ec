#!/usr/bin/env python3
"""Time and memory of one DNAS iteration: a step of the weights, and a step of theta.

    supernet_step.py [--resolutions 32 224] [--batch 8] [--rounds 3] [--threads 2] [--nni-python PYTHON]

Contestants, on FBNet's space (22 layers of 9 candidates, last 1x1 conv of 1984 channels, 1000 classes: 13.29 M weights;
its ImageNet strides at any resolution):

plain         every candidate's output times its gate, stacked and summed; torch's convolutions, contiguous, gradients
              of both groups in both steps
nni           NNI 3.0's GumbelDARTS on the same modules as "plain", if PYTHON (default: this one) can import nni
ours          the meta-architecture Supernet as a search runs it (on a CPU the allocator keeps freed memory)
checkpoint    Supernet with MODEL.SUPERNET.CHECKPOINT
single_path   Supernet whose weight steps run one sampled path

Every contestant runs in a fresh process per round, one after the other, the order turned by one each round; all use the
same SGD and Adam. Figures are medians over rounds; ratios are taken within a round. Memory is the peak of the resident
set (of CUDA's allocations on a GPU) and what of that was not there before the network was built. In the end one
iteration of "ours" and of "plain" is compared in float64. The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any, Dict, List, Optional

from tabulate import tabulate

HERE = os.path.dirname(os.path.abspath(__file__))
CONTESTANTS = ["plain", "nni", "ours", "checkpoint", "single_path"]


def visit(contestant: str, resolution: int, args: argparse.Namespace, device: str) -> Dict[str, Any]:
    """What a fresh process measures.

    Raises:
        RuntimeError: it failed.
    """
    python = (args.nni_python or sys.executable) if contestant == "nni" else sys.executable
    steps = args.steps or (12 if resolution <= 64 else 3)
    command = [python, os.path.join(HERE, "supernet_contestants.py"), contestant, device]
    command += [str(number) for number in (resolution, args.batch, steps, args.threads)]
    env = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "PYTHONWARNINGS": "ignore"}
    env["PYTHONPATH"] = os.pathsep.join([os.path.dirname(HERE), env.get("PYTHONPATH", "")])
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def has_nni(python: Optional[str]) -> bool:
    """Whether an interpreter can import nni."""
    return subprocess.run([python or sys.executable, "-c", "import nni"], capture_output=True).returncode == 0


def ratio(rounds: List[Dict[str, Any]], slow: str, fast: str, key: str = "iteration_ms") -> Optional[float]:
    """Median over the rounds of slow / fast."""
    if slow not in rounds[0]:
        return None
    return statistics.median(one[slow][key] / one[fast][key] for one in rounds)


def figures_of(rounds: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Medians of one resolution, and how they compare."""
    figures: Dict[str, Any] = {}
    for name in rounds[0]:
        keys = rounds[0][name]
        figures[name] = {
            key: statistics.median(one[name][key] for one in rounds) for key in keys if keys[key] is not None
        }
        for base in ("plain", "nni"):
            figures[name][f"{base}_time_ratio"] = ratio(rounds, base, name)
            figures[name][f"{base}_cpu_ratio"] = ratio(rounds, base, name, "cpu_ms")
    figures["mixed_per_single_path_weight_step"] = ratio(rounds, "ours", "single_path", "weight_ms")
    return figures


def print_table(figures: Dict[str, Any], title: str) -> None:
    print(f"\n{title}")
    rows = []
    for name, found in figures.items():
        if not isinstance(found, dict):
            continue
        keys = ["iteration_ms", "weight_ms", "theta_ms", "cpu_ms", "peak_mb", "added_mb", "plain_time_ratio"]
        rows.append([name, *(found.get(key) for key in [*keys, "nni_time_ratio", "nni_cpu_ratio"])])
    headers = [
        "",
        "iteration ms",
        "weight step",
        "theta step",
        "CPU ms",
        "peak MB",
        "added MB",
        "plain / it",
        "NNI / it",
    ]
    floats = ("", ".0f", ".0f", ".0f", ".0f", ".0f", ".0f", ".2f", ".2f", ".2f")
    print(tabulate(rows, [*headers, "by CPU time"], floatfmt=floats, tablefmt="pipe"))
    print(f"weight step, mixed / single path: {figures['mixed_per_single_path_weight_step']:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", help="not used: images are random")
    parser.add_argument(
        "--nni-python", metavar="PYTHON", help="an interpreter with nni, torch and what this package needs"
    )
    parser.add_argument("--resolutions", nargs="+", type=int, default=[32, 224], help="px; default: %(default)s")
    parser.add_argument("--batch", type=int, default=8, help="images per step; default: %(default)s")
    parser.add_argument("--rounds", "--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="timed iterations per round; default: 12, above 64 px 3")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    args = parser.parse_args()
    names = [name for name in args.contestants if name != "nni" or has_nni(args.nni_python)]
    if names != args.contestants:
        print("nni cannot be imported, its rows are left out; see --nni-python")
    result: Dict[str, Any] = {"batch": args.batch, "threads": args.threads}
    for device in devices():
        for resolution in args.resolutions:
            rounds: List[Dict[str, Any]] = []
            for number in range(args.rounds):
                turned = names[number % len(names) :] + names[: number % len(names)]
                rounds.append({name: visit(name, resolution, args, device) for name in turned})
                line = ", ".join(f"{name} {rounds[-1][name]['iteration_ms']:.0f} ms" for name in names)
                print(f"{device}, {resolution} px, round {number + 1} of {args.rounds}: {line}", flush=True)
            found = result[f"{device}_{resolution}px"] = figures_of([{n: one[n] for n in names} for one in rounds])
            print_table(found, f"{device}, {resolution} px")
    result["difference_float64"] = visit("difference", 64, args, "cpu")
    print("\nours and plain, one iteration in float64 (64 px), relative differences:", end=" ")
    print(", ".join(f"{key} {value:.1e}" for key, value in result["difference_float64"].items()))
    print(json.dumps(result))


def devices() -> List[str]:
    """cpu, and cuda where there is one."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


if __name__ == "__main__":
    main()
