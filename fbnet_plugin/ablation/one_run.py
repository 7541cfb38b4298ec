"""One training in a process of its own: ``python -m fbnet_plugin.ablation.one_run --config-file FILE``.

As tools/train_net.py with --resume. The results are where the trainer leaves them, in OUTPUT_DIR/results.json.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import Any, List, Optional

from fbnet_plugin.engine import argument_parser, exit_codes, launch, num_gpus, prepare, setup, trainer_class

from .lock import sole_writer

OWNED = "--until-stdin-closes"


def run(args: argparse.Namespace) -> Any:
    """Trains from the newest checkpoint, or from the beginning; every process of the training runs this."""
    with exit_codes():
        cfg = setup(args)
        trainer = trainer_class(cfg)(cfg)
        trainer.resume_or_load(resume=True)
        return trainer.train()


def main(argv: Optional[List[str]] = None) -> None:
    parser = argument_parser()
    parser.add_argument(OWNED, action="store_true", help="stop as after SIGTERM when the process that started it ends")
    args = parser.parse_args(argv)
    args.resume = True
    if args.until_stdin_closes:
        threading.Thread(target=_stop_with_owner, daemon=True).start()
    with exit_codes():
        cfg, _ = prepare(args)
        # One that was left behind may still be writing its last checkpoint.
        with sole_writer(cfg.OUTPUT_DIR, wait=True):
            launch(run, num_gpus=num_gpus(args), num_processes=args.num_processes, args=(args,))


def _stop_with_owner() -> None:
    while os.read(sys.stdin.fileno(), 1):  # nothing when the other end is closed, as the system does for the dead
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
