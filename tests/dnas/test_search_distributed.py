"""Two processes on a CPU search as one does (promise 10)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from tiny_search import search_cfg

from fbnet_plugin.checkpoint import read_checkpoint
from fbnet_plugin.dnas import DNASTrainer
from fbnet_plugin.engine import launch

# Group norm: batch norm would see half of the batch in each of two processes. No flips and crops of chance.
OPTS = ["MODEL.FBNET.NORM", "GN", "SOLVER.CHECKPOINT_PERIOD", 20, "SOLVER.BASE_LR", 0.02]


def run(cfg: CfgNode, output: str, resume: bool, stop_at: int) -> None:
    """What each process does: search, and write what it ends with."""
    seed_all_rng(cfg.SEED + comm.get_rank())  # as the tool does: unequal weights before they are broadcast
    trainer = DNASTrainer(cfg)
    trainer.resume_or_load(resume)
    if stop_at:
        trainer.max_iter = stop_at
    trainer.train()
    net = trainer.model
    state = {"theta": net.theta.detach(), **{name: p.detach() for name, p in net.inner.named_parameters()}}
    torch.save(state, f"{output}_{comm.get_rank()}.pt")


def search(folder: Path, output: str, processes: int, *opts, resume: bool = False, stop_at: int = 0) -> list[dict]:
    """Per process theta and weights at the end."""
    args = (search_cfg(folder, *OPTS, *opts, output=output), str(folder / output), resume, stop_at)
    launch(run, num_gpus=0, num_processes=processes, args=args)
    return [torch.load(folder / f"{output}_{rank}.pt", weights_only=True) for rank in range(processes)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A search by one process: its folder and what it ends with."""
    folder = tmp_path_factory.mktemp("searches")
    return folder, search(folder, "one", 1)[0]


def distance(a: dict, b: dict) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_theta_is_identical_in_all_processes_and_that_of_one(one):
    folder, alone = one
    first, second = search(folder, "two", 2)
    assert first.keys() == second.keys() == alone.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["theta"].abs().max() > 0.05
    assert distance(first, alone) < 2e-3
    texts = [(folder / name / "search" / "history.jsonl").read_text() for name in ("one", "two")]
    losses = [[json.loads(line)["weights_loss"] for line in text.splitlines()] for text in texts]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_checkpoint_goes_on_with_another_number_of_processes(one):
    folder, alone = one
    search(folder, "changed", 2, stop_at=21)
    assert (folder / "changed" / "model_0000019.pth").is_file()
    (folder / "changed" / "model_final.pth").unlink()
    (folder / "changed" / "last_checkpoint").write_text("model_0000019.pth")
    resumed = search(folder, "changed", 1, resume=True)[0]
    assert distance(resumed, alone) < 2e-3
    assert read_checkpoint(str(folder / "changed" / "model_final.pth"))["iteration"] == 37


@pytest.mark.parametrize("opts", [("MODEL.SUPERNET.NOISE", "image"), ("DNAS.WEIGHT_STEP", "single_path")])
def test_other_draws_are_those_of_one_process_too(one, opts):
    """Each image has its own noise whichever process it is in; all processes run the same path."""
    folder, _ = one
    short = (*opts, "DNAS.EPOCHS", 2)
    (alone,) = search(folder, f"{opts[1]}_1", 1, *short)
    first, second = search(folder, f"{opts[1]}_2", 2, *short)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert distance(first, alone) < 2e-3
