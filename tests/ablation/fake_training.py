"""Stands for a training: writes what one leaves in its folder. Files beside the folders say how it is to go.

``fail`` and ``hang`` hold names of trainings; one that hangs ends when it is asked to, as a training does. Each start
adds a line to the file ``starts``.
"""

import json
import os
import signal
import sys
import time

folder = os.path.dirname(sys.argv[1])
root, name = os.path.split(folder)
seed = int(name.rpartition("seed")[2] or 0) if "seed" in name else 0


def named_in(file):
    path = os.path.join(root, file)
    return os.path.exists(path) and name in open(path).read().split()


def write(file, *lines):
    with open(os.path.join(folder, file), "a") as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in lines))


def figures(value):
    return {"classification": {"top1": value}, "classification_ema": {"top1": value + 1}}


with open(os.path.join(root, "starts"), "a") as starts:
    starts.write(f"{name} {os.environ.get('OMP_NUM_THREADS', '-')} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")
if named_in("fail"):
    print("what was read")
    sys.exit("error: no memory left")
if named_in("hang"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    write("metrics.json", {"iteration": 9, "eta_seconds": 30.0})
    time.sleep(60)
final = 80.0 + seed + (2.0 if name.startswith("distilled") or "-recipe-" in name else 0.0)
for done in (2, 4):
    flat = {f"{group}/top1": its["top1"] for group, its in figures(final - 10 * (6 - done)).items()}
    write("metrics.json", {"iteration": done - 1, **flat})
write("metrics.json", {"iteration": 6, **{f"{group}/top1": its["top1"] for group, its in figures(final).items()}})
write("results.json", {"results": figures(final), "iterations": 6})
