#!/usr/bin/env python3
"""Joint search over architectures and training recipes (FBNetV3, NARS): the whole search, and each part by itself.

    nars.py search --config-file FILE [--resume] [KEY VALUE ...]   pool, predictor, trainings, evolution, winners
    nars.py status RUN                     how far a search is; also while it runs
    nars.py report RUN                     its figures and tables as one HTML page; also while it runs
    nars.py evolve RUN --target TEXT       pairs for other constraints, from the trained predictor, in seconds
    nars.py swap RUN                       winners with each other's recipes (the paper's Table 6); trains
    nars.py without-evolution RUN          winners beside the best of the second stage (Table 7); trains
    nars.py spaces [SPACE]                 the joint spaces, or one of them in full
    nars.py pool SPACE                     points under constraints, by quasi-Monte-Carlo, with exact costs
    nars.py pretrain SPACE                 a predictor pretrained on the costs of such a pool
    nars.py scale ARCH --macs N            an architecture scaled up or down to a number of MACs

RUN is a search's OUTPUT_DIR. `nars.py COMMAND --help` says more; tools/train_net.py starts the same search.

Exit status: 0; 1 when the search failed; 2 when the input is at fault, with one message that says how; 130 or 143 when
Ctrl-C or SIGTERM stopped it, with everything that was completed in the run's folder.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, Callable, Dict, List, Optional

import numpy as np
from tabulate import tabulate

from fbnet_plugin import engine
from fbnet_plugin.arch import get_arch, save_arch
from fbnet_plugin.arch.compound import compound_scale
from fbnet_plugin.engine import exit_codes, positive
from fbnet_plugin.latency import load_table
from fbnet_plugin.nars.constraints import parse_constraints
from fbnet_plugin.nars.costs import Costs
from fbnet_plugin.nars.encoding import Encoding
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.experiments import evolution_table, swap_recipes, swap_table, without_evolution
from fbnet_plugin.nars.opened import open_run, trained_predictor
from fbnet_plugin.nars.pool import Pool, make_pool
from fbnet_plugin.nars.predictor import Predictor, PredictorSettings
from fbnet_plugin.nars.predictor_file import save_predictor
from fbnet_plugin.nars.searcher import evolve_for, evolved_pairs
from fbnet_plugin.nars.settings import checked
from fbnet_plugin.nars.space import JointSpace, list_joint_spaces, load_joint_space
from fbnet_plugin.nars.summary import run_data
from fbnet_plugin.nars.winners import write_pairs


def search(args: argparse.Namespace) -> None:
    """The search of a config."""
    command = ["--config-file", args.config_file, *(["--resume"] if args.resume else []), *args.opts]
    setup_args = engine.argument_parser().parse_args(command)
    cfg = engine.setup(setup_args)
    if cfg.TRAINER != "NARSTrainer":
        raise NARSError(f"TRAINER is {cfg.TRAINER!r}; for this command it must be NARSTrainer, see tools/train_net.py")
    trainer = engine.trainer_class(cfg)(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


def status(args: argparse.Namespace) -> None:
    """A few lines about a run."""
    from fbnet_plugin.plotting.nars_status import status_text

    with open_run(args.run, read_only=True) as (run, _):
        print(status_text(run_data(run)))


def report(args: argparse.Namespace) -> None:
    """The page of a run."""
    from fbnet_plugin.plotting.nars_page import write_report  # Matplotlib takes a while to load

    with open_run(args.run, read_only=True) as (run, _):
        path = args.output or os.path.join(run.cfg.OUTPUT_DIR, "report.html")
        write_report(run_data(run, study=not args.quick), path)
    print(f"wrote {path}")


def evolve(args: argparse.Namespace) -> None:
    """Winners for other constraints."""
    with open_run(args.run, read_only=True) as (run, _):
        predictor = trained_predictor(run)
        targets = [checked("--target", text, run.costs.metrics) for text in args.target]
        folder, rows = args.output or os.path.join(run.cfg.OUTPUT_DIR, "evolved"), []
        for target in targets:
            found = evolve_for(run, target, predictor, run.done())
            pairs = evolved_pairs(run, target, found.points[: args.count], predictor)
            write_pairs(run, pairs, folder)
            for pair in pairs:
                costs = {metric: f"{value:,.0f}" for metric, value in pair.costs.items()}
                predicted = f"{pair.predicted:.2f} ± {pair.predicted_std:.2f}"
                rows.append(
                    {"name": pair.name, "target": pair.target, **costs, "predicted": predicted, **pair.recipe.to_dict()}
                )
    print(tabulate(rows, headers="keys"))
    print(f"\nwrote architecture, recipe and config of each to {folder}")


def swap(args: argparse.Namespace) -> None:
    """Table 6."""
    with open_run(args.run, read_only=False) as (run, _):
        print(tabulate(swap_table(swap_recipes(run, args.seeds)), headers="keys"))
        print(f"\n{run.cfg.NARS.METRIC}; also in {run.file('swap.json')}")


def no_evolution(args: argparse.Namespace) -> None:
    """Table 7."""
    with open_run(args.run, read_only=False) as (run, _):
        print(tabulate(evolution_table(without_evolution(run, args.seeds)), headers="keys"))
        print(f"\n{run.cfg.NARS.METRIC}; *: best candidate of the iterative optimization; also in "
              f"{run.file('without-evolution.json')}")  # fmt: skip


def spaces(args: argparse.Namespace) -> None:
    """The spaces, or one."""
    if args.space:
        space = load_joint_space(args.space)
        print(f"{space.name}: {space.size:.3g} points. {space.notes}")
        print(tabulate([variable_row(space, place) for place in range(len(space.variables))], headers="keys"))
        return
    rows: List[Dict[str, Any]] = []
    for name in list_joint_spaces():
        space = load_joint_space(name)
        rest = len(space.variables) - space.num_arch
        rows.append({"space": name, "points": f"{space.size:.2g}", "architecture variables": space.num_arch,
                     "recipe variables": rest})  # fmt: skip
    print(tabulate(rows, headers="keys"))


def variable_row(space: JointSpace, place: int) -> Dict[str, str]:
    """A variable of a space in words."""
    variable = space.variables[place]
    choices = [f"{value:g}" if isinstance(value, float) else str(value) for value in variable.choices]
    shown = f"{choices[0]} to {choices[-1]}" if variable.ordered and len(choices) > 4 else ", ".join(choices)
    of = "architecture" if place < space.num_arch else "recipe"
    return {"variable": variable.name, "of": of, "choices": str(len(choices)), "values": shown}


def drawn(args: argparse.Namespace) -> "tuple[JointSpace, Costs, Pool]":
    """The pool that a command's options ask for."""
    space = load_joint_space(args.space)
    costs = Costs(space, load_table(args.table) if args.table else None)
    return space, costs, make_pool(space, costs, parse_constraints(args.constraints), args.num, args.seed)


def pool(args: argparse.Namespace) -> None:
    """Draws a pool and says what is in it."""
    space, costs, found = drawn(args)
    rows = [
        {"metric": metric, **dict(zip(("smallest", "5%", "median", "95%", "largest"), _quantiles(values)))}
        for metric, values in found.costs.items()
    ]
    rejected = 1 - len(found.points) / max(found.tried, 1)
    print(f"{len(found.points):,} of {space.size:.3g} points; {found.tried:,} drawn, {rejected:.1%} rejected")
    print(tabulate(rows, headers="keys"))
    if args.output:
        path = args.output if args.output.endswith(".npz") else f"{args.output}.npz"
        np.savez_compressed(path, points=found.points, **found.costs)
        print(f"wrote {path}: points (choice indices) and costs")


def _quantiles(values: np.ndarray) -> List[str]:
    return [f"{value:,.0f}" for value in np.quantile(values, (0, 0.05, 0.5, 0.95, 1))]


def pretrain(args: argparse.Namespace) -> None:
    """Stage 1 alone."""
    space, costs, found = drawn(args)
    encoding, names = Encoding(space.variables, space.num_arch), tuple(costs.metrics)
    predictor = Predictor(encoding.arch_width, encoding.width, names, PredictorSettings(), args.seed)
    codes = encoding.encode(found.points)[:, : encoding.arch_width]
    shown = predictor.pretrain(codes, np.stack([found.costs[name] for name in names], axis=1))
    rows = []
    for place, name in enumerate(names):
        ratio = np.abs(shown.predicted[:, place] / shown.true[:, place] - 1)
        rows.append({"statistic": name, "held out": len(ratio), "mean error": f"{ratio.mean():.2%}"})
    print(tabulate(rows, headers="keys"))
    save_predictor(predictor, args.output)
    print(f"wrote {args.output}")


def scale(args: argparse.Namespace) -> None:
    """Compound scaling (section 4.2: FBNetV3-A, F and G)."""
    spec = get_arch(args.arch)
    found = compound_scale(spec, args.macs, tolerance=args.tolerance)
    output = args.output or f"{found.arch.name}.yaml"
    cost = found.arch.cost()
    header = f"{spec.name}, compound scaled by tools/nars.py with phi = {found.phi:.3f}."
    save_arch(found.arch, output, header)
    print(f"{found.arch.name}: phi {found.phi:.3f}, {found.arch.resolution} px, {cost.macs / 1e6:,.1f}M MACs "
          f"(wanted {args.macs / 1e6:,.1f}M), {cost.params / 1e6:,.2f}M parameters; wrote {output}")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run_command=run)
        return sub

    sub = command("search", search, "Search as a config says, or go on with --resume.")
    sub.add_argument("--config-file", required=True, metavar="FILE", help="such as nars/digits.yaml")
    sub.add_argument("--resume", action="store_true", help="go on with the search in OUTPUT_DIR")
    sub.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys and their values")

    _run(command("status", status, "How far a search is."))
    sub = _run(command("report", report, "Figures and tables of a search as one HTML page."))
    sub.add_argument("--output", metavar="FILE", help="default: RUN/report.html")
    sub.add_argument("--quick", action="store_true", help="without the predictor's cross-validation (Figure 4c-e)")

    sub = _run(command("evolve", evolve, "Pairs for other constraints, from a search's trained predictor."))
    sub.add_argument(
        "--target",
        action="append",
        required=True,
        metavar="TEXT",
        help='such as "macs <= 500M, params <= 9M"; repeatable',
    )
    sub.add_argument("--count", type=positive, default=1, metavar="N", help="pairs per target; default: %(default)s")
    sub.add_argument("--output", metavar="DIR", help="default: RUN/evolved")

    for name, run, text in (
        ("swap", swap, "Train the winners with each other's recipes (Table 6)."),
        ("without-evolution", no_evolution, "Train the best of the second stage beside the winners (Table 7)."),
    ):
        sub = _run(command(name, run, text))
        sub.add_argument(
            "--seeds", type=positive, default=1, metavar="N", help="trainings of each; default: %(default)s"
        )

    sub = command("spaces", spaces, "The joint spaces, or one in full.")
    sub.add_argument("space", nargs="?", metavar="SPACE", help="a name, or the path of a file")

    sub = _space(command("pool", pool, "Points under constraints, by quasi-Monte-Carlo, with exact costs."))
    sub.add_argument("--output", metavar="FILE", help="write points and costs to a .npz file")
    sub = _space(command("pretrain", pretrain, "A predictor, pretrained on the costs of a pool."))
    sub.add_argument("--output", required=True, metavar="FILE", help="of the predictor")

    sub = command("scale", scale, "Compound scaling of an architecture to a number of MACs.")
    sub.add_argument("arch", metavar="ARCH", help="a name in the zoo, or the path of a file")
    sub.add_argument("--macs", type=number, required=True, metavar="N", help="such as 2.1G or 357M")
    sub.add_argument(
        "--tolerance", type=float, default=0.05, metavar="X", help="accepted deviation; default: %(default)s"
    )
    sub.add_argument("--output", metavar="FILE", help="default: the scaled architecture's name")
    return top


def _run(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
    sub.add_argument("run", metavar="RUN", help="OUTPUT_DIR of a search")
    return sub


def _space(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
    sub.add_argument("space", metavar="SPACE", help="a joint space's name, or the path of its file")
    sub.add_argument("--constraints", default="", metavar="TEXT", help='such as "400M <= macs <= 800M"')
    sub.add_argument("--num", type=positive, default=20000, metavar="N", help="points; default: %(default)s")
    sub.add_argument("--table", metavar="FILE", help="latency table, for constraints on latency_us")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    return sub


def number(text: str) -> float:
    """A number that may end in K, M or G."""
    try:
        return parse_constraints(f"macs <= {text}")[0].high
    except NARSError:
        raise argparse.ArgumentTypeError(f"{text} is no number such as 357M or 2.1G") from None


def main(argv: Optional[List[str]] = None) -> None:
    args = parser().parse_args(argv)
    with exit_codes(words=1):
        args.run_command(args)


if __name__ == "__main__":
    main()
