#!/usr/bin/env python3
"""What a way of training brings, measured: many trainings of one config, their spread, a table and a plot.

    ablate.py techniques --config-file FILE --output DIR [KEY VALUE ...]
        FBNetV3's Table 8: the config's network without and with a moving average of its weights (EMA), without and
        with distillation from a teacher that is trained first.
    ablate.py recipes --config-file FILE --networks NAME ... --recipe FILE --output DIR [KEY VALUE ...]
        FBNetV3's Table 3: several networks, each with a plain recipe and with a published one.
    ablate.py report DIR
        The table and the plot of what there is; also while it runs.

Trainings are ordinary ones in folders of DIR, each in a process of its own. The same command goes on where it was
stopped; more --seeds or --networks add to what is there. Results: DIR/ablation.md, ablation.json and ablation.png.

Examples:
    ablate.py techniques --config-file ImageNet-Classification/fbnet_v3_a_400e.yaml --output output/table8 --num-gpus 8
    ablate.py recipes --config-file ImageNet-Classification/Base-Torchvision.yaml --output output/table3 --num-gpus 8 \\
        --networks alexnet resnet50 densenet201 --plain Recipes/plain_90e.yaml --recipe Recipes/fbnet_v3_400e.yaml

Exit status: 0; 1 when a training failed (the others ran); 2 when the input is at fault, with one message that says how
and nothing written; 130 or 143 when Ctrl-C or SIGTERM stopped it, with the state of the trainings written.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any, List, Optional

from fbnet_plugin.ablation.check import check
from fbnet_plugin.ablation.errors import AblationError
from fbnet_plugin.ablation.lock import sole_writer
from fbnet_plugin.ablation.outcome import Outcome
from fbnet_plugin.ablation.plan import Plan, begin, check_metric, refuse_another
from fbnet_plugin.ablation.recipes import recipes_plan
from fbnet_plugin.ablation.schedule import Schedule
from fbnet_plugin.ablation.summary import Summary, summarize
from fbnet_plugin.ablation.table import PICTURE_FILE, main_table, outcome_text, write_tables
from fbnet_plugin.ablation.techniques import techniques_plan
from fbnet_plugin.ablation.variants import with_curve
from fbnet_plugin.engine import TrainingStopped, exit_codes, load_config, num_gpus, positive


def techniques(args: argparse.Namespace) -> int:
    """Table 8."""
    cfg = with_curve(load_config(args.config_file, args.opts))
    teacher = with_curve(load_config(args.teacher_config, args.opts)) if args.teacher_config else cfg
    seeds = seeds_of(cfg.SEED, args.seeds)
    config_file = args.teacher_config if args.teacher_weights else ""
    metric = check_metric(args.metric)
    return run(techniques_plan(cfg, seeds, metric, teacher, args.teacher_weights, config_file), args)


def recipes(args: argparse.Namespace) -> int:
    """Table 3."""
    for name in args.networks:
        if name.partition(".")[0].isupper():
            raise AblationError(f"--networks: {name} is no network; another option must stand between it and KEY VALUE")
    seeds = seeds_of(load_config(args.config_file, args.opts).SEED, args.seeds)
    own = [pairs(args.plain_opts), pairs(args.recipe_opts)]
    metric = check_metric(args.metric)
    plan = recipes_plan(args.config_file, args.networks, seeds, metric, args.plain, args.recipe, args.opts, *own)
    return run(plan, args)


def seeds_of(first: int, number: int) -> List[int]:
    """As many seeds, from the config's SEED on, or from 1 where that is a random one."""
    start = first if first >= 0 else 1
    return list(range(start, start + number))


def pairs(text: str) -> List[str]:
    """KEY VALUE pairs in one argument, quoted as for a shell."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise AblationError(f"{text!r}: {error}") from None


def run(plan: Plan, args: argparse.Namespace) -> int:
    """Trains what is not trained yet, then reports."""
    gpus = num_gpus(args)
    refuse_another(plan, args.output)
    for note in check(plan, gpus, args.jobs):
        print(f"warning: {note}", file=sys.stderr)
    if args.dry_run:
        print("\n".join(training.name for training in plan.trainings))
        return 0
    with sole_writer(args.output, wait=False):
        outline = begin(plan, args.output)

        def describe(name: str, outcome: Outcome) -> str:
            return outcome_text(outline, name, outcome)

        def changed() -> None:
            write_tables(summarize(args.output), args.output)

        schedule = Schedule(plan, args.output, jobs=args.jobs, num_gpus=gpus, changed=changed, describe=describe,
                            say=lambda text: print(text, flush=True))  # fmt: skip
        try:
            failed = schedule.run()
        except TrainingStopped as stop:
            print(f"stopped by {stop}; the same command goes on", file=sys.stderr)
            raise SystemExit(128 + stop.signum) from None
    show(summarize(args.output), args.output)
    return 1 if failed else 0


def report(args: argparse.Namespace) -> int:
    """What there is."""
    show(summarize(args.output, check_metric(args.metric) if args.metric else ""), args.output)
    return 0


def show(summary: Summary, folder: str) -> None:
    """Writes tables and plot, and prints the table."""
    from fbnet_plugin.plotting.ablation import draw_ablation  # Matplotlib takes a while to load

    paths = [*write_tables(summary, folder), os.path.join(folder, PICTURE_FILE)]
    draw_ablation(summary, paths[-1])
    print(f"\n{main_table(summary)}\n\nwrote {', '.join(Path(path).name for path in paths)} to {folder}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    text = (
        "Baseline, EMA, distillation, and both. The average does not act on the training, so that each training gives "
        "the figures with and without it: two trainings per seed, and the teacher's."
    )
    sub = common(commands.add_parser("techniques", help="EMA and distillation (Table 8)", description=text))
    sub.add_argument("--teacher-config", default="", metavar="FILE", help="default: the config itself")
    sub.add_argument("--teacher-weights", default="", metavar="FILE", help="default: the teacher is trained first")
    sub.set_defaults(run_command=techniques)

    text = (
        "Each network with a plain recipe and with another one. A recipe is a part of a config, such as "
        "Recipes/fbnet_v3_400e.yaml, or a recipe's own file, as a search writes it; KEY VALUE pairs come after it."
    )
    sub = common(commands.add_parser("recipes", help="two recipes on several networks (Table 3)", description=text))
    text = "names of torchvision.models, or architectures of this project by name or file"
    sub.add_argument("--networks", nargs="+", required=True, metavar="NAME", help=text)
    sub.add_argument("--plain", default="", metavar="FILE", help="default: the config as it is")
    sub.add_argument("--recipe", default="", metavar="FILE", help="default: the config as it is")
    for side in ("plain", "recipe"):
        sub.add_argument(f"--{side}-opts", default="", metavar="'KEY VALUE ...'", help=f"of the {side} side alone")
    sub.set_defaults(run_command=recipes)

    sub = commands.add_parser("report", help="table and plot of what there is", description="Table and plot again.")
    sub.add_argument("output", metavar="DIR", help="--output of the ablation")
    sub.add_argument("--metric", default="", metavar="GROUP/NAME", help="another figure than the ablation's")
    sub.set_defaults(run_command=report)
    return top


def common(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Options of the commands that train."""
    sub.add_argument("--config-file", required=True, metavar="FILE", help="path or name, as for tools/train_net.py")
    sub.add_argument("--output", required=True, metavar="DIR", help="of all trainings, and of the results")
    sub.add_argument("--seeds", type=positive, default=3, metavar="N", help="from the config's SEED on; default: 3")
    text = "the figure, as the evaluator names it; default: %(default)s"
    sub.add_argument("--metric", default="classification/top1", metavar="GROUP/NAME", help=text)
    text = "of each training; default: 1 where there is one"
    sub.add_argument("--num-gpus", type=int, default=1, metavar="N", help=text)
    sub.add_argument("--jobs", type=positive, default=1, metavar="N", help="trainings at a time; default: 1")
    sub.add_argument("--dry-run", action="store_true", help="check everything and list the trainings, write nothing")
    sub.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys of all trainings; the last arguments")
    return sub


def main(argv: Optional[List[str]] = None) -> Any:
    args = parser().parse_args(argv)
    with exit_codes(words=1):
        code = args.run_command(args)
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
