"""The search as a run: what it does in which iteration, what it leaves behind, and that it resumes exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from detectron2.utils.env import seed_all_rng
from tiny_search import search_cfg, table_of, tiny_space

from fbnet_plugin.arch import get_arch, load_arch
from fbnet_plugin.checkpoint import CheckpointError, read_checkpoint
from fbnet_plugin.dnas import DNASTrainer, load_distribution
from fbnet_plugin.engine import FBNetTrainer, TrainingStopped

ROOT = Path(__file__).resolve().parents[2]
WEIGHT_STEPS, THETA_STEPS = 8, 2  # of an epoch: 287 and 72 images in batches of 32
ITERATIONS = 4 * WEIGHT_STEPS + 3 * THETA_STEPS


class Killed(Exception):
    pass


def search(cfg, resume=False, end_at=None, watch=None) -> DNASTrainer:
    """A run; ``end_at`` raises after that iteration, without anything being written."""
    seed_all_rng(cfg.SEED)  # as the tool does before it makes the model
    trainer = DNASTrainer(cfg)
    trainer.resume_or_load(resume)
    step = trainer._trainer.run_step

    def run_step():
        step()
        if watch is not None:
            watch(trainer)
        if trainer.iter == end_at:
            raise Killed

    trainer._trainer.run_step = run_step
    try:
        trainer.train()
    except Killed:
        assert end_at is not None
    return trainer


def final_state(folder: Path) -> dict:
    """All that a run ends with, but for times."""
    checkpoint = read_checkpoint(str(folder / "model_final.pth"))
    trainer = checkpoint["trainer"]
    files = {path.name: path.read_bytes() for path in (folder / "search").iterdir()}
    return {"model": checkpoint["model"], "trainer": trainer, "files": files}


def assert_equal(a, b, where="") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b)):
            assert_equal(one, other, f"{where}[{i}]")
    else:
        assert a == b, where


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted search: its folder, and per iteration phase, temperature, theta and a weight."""
    folder, seen = tmp_path_factory.mktemp("whole"), []

    def watch(trainer):
        net = trainer.model
        weight = next(net.inner.parameters()).detach().clone()
        seen.append((trainer._trainer.phase, net.temperature, net.theta.detach().clone(), weight))

    search(search_cfg(folder), watch=watch)
    return folder, seen


class TestAlternation:
    def test_phases(self, whole):
        expected = ["weights"] * WEIGHT_STEPS + 3 * (["weights"] * WEIGHT_STEPS + ["theta"] * THETA_STEPS)
        assert [phase for phase, *_ in whole[1]] == expected

    def test_temperature_falls_by_epoch(self, whole):
        found = [tau for _, tau, *_ in whole[1]]
        assert found[0] == found[7] == 5.0 and found[8] == pytest.approx(5 * 0.956, abs=1e-3)
        assert found[-1] == pytest.approx(5 * 0.956**3, abs=1e-2)

    def test_each_phase_moves_its_own_parameters(self, whole):
        seen = whole[1]
        assert (seen[WEIGHT_STEPS - 1][2] == 0).all()  # theta is not trained yet
        for before, (phase, _, theta, weight) in zip(seen, seen[1:]):
            assert torch.equal(before[2], theta) == (phase == "weights")
            assert torch.equal(before[3], weight) == (phase == "theta")

    def test_learning_rate_of_the_weights(self, whole):
        """Cosine over the weight steps alone: halfway after half of them (appendix A)."""
        lines = [json.loads(line) for line in (whole[0] / "run" / "metrics.json").read_text().splitlines()]
        assert lines[-1]["lr"] < 0.001
        state = read_checkpoint(str(whole[0] / "run" / "model_final.pth"))["trainer"]
        assert state["hooks"]["WeightScheduleHook"]["last_epoch"] == 4 * WEIGHT_STEPS


class TestResult:
    def test_files(self, whole):
        folder = whole[0] / "run" / "search"
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in history] == [0, 1, 2, 3]
        assert [line["iteration"] for line in history] == [7, 17, 27, 37]
        assert "theta_loss" not in history[0] and history[1]["theta_loss"] > 0
        assert history[0]["entropy"] > history[-1]["entropy"]
        distribution = load_distribution(folder / "distribution.json")
        theta = [list(row) for row in distribution.theta]
        assert theta == [row[: len(found)] for row, found in zip(whole[1][-1][2].double().tolist(), theta)]
        arch = get_arch(str(folder / "arch.yaml"))
        assert arch.stages == tiny_space(whole[0]).arch(history[-1]["argmax"]).stages

    def test_tensorboard_has_theta(self, whole):
        event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        events = event_file.EventAccumulator(str(whole[0] / "run"))
        events.Reload()
        tags = events.Tags()
        assert {"probability/layer1/k5_e3", "entropy/layer3", "search/expected_latency_us"} <= set(tags["scalars"])
        assert "search/probability" in tags["images"]

    def test_the_result_trains(self, whole, tmp_path):
        opts = ["TRAINER", "FBNetTrainer", "MODEL.META_ARCHITECTURE", "ImageClassifier", "SOLVER.MAX_ITER", 3]
        arch = whole[0] / "run" / "search" / "arch.yaml"
        cfg = search_cfg(tmp_path, *opts, "MODEL.FBNET.ARCH", str(arch), "DATASETS.TEST", ("digits_test",))
        trainer = FBNetTrainer(cfg)
        trainer.train()
        assert trainer._last_eval_results["classification"]["top1"] > 0
        assert trainer.model.backbone.output_shape()["trunk2"].channels == load_arch(str(arch)).stages[-1].out


class TestResume:
    @pytest.mark.parametrize("end_at", [3, 7, 16, 22, 36])
    def test_equals_an_uninterrupted_run(self, whole, tmp_path, end_at):
        """Weights, both optimizers, theta, schedule, history, data order and noise (promises 1 and 3)."""
        folder = whole[0]
        cfg = search_cfg(folder, output=f"resumed_{end_at}")
        search(cfg, end_at=end_at)
        search(cfg, resume=True)
        assert_equal(final_state(folder / "run"), final_state(folder / f"resumed_{end_at}"))

    def test_kill_9(self, whole, tmp_path):
        """The real tool, killed at a moment that nothing knows of."""
        folder = whole[0]
        cfg = search_cfg(folder, output="killed")
        (folder / "killed.yaml").write_text(cfg.dump())
        command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "train_net.py"), "--resume"]
        command += ["--config-file", str(folder / "killed.yaml")]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (folder / "killed" / "model_0000013.pth").exists():
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        assert not (folder / "killed" / "model_final.pth").exists()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
        mine, theirs = (final_state(folder / name) for name in ("killed", "run"))
        assert_equal(mine["model"], theirs["model"])
        assert mine["files"]["history.jsonl"] == theirs["files"]["history.jsonl"]
        assert mine["files"]["arch.yaml"] == theirs["files"]["arch.yaml"]

    def test_ctrl_c_leaves_a_state_to_resume(self, whole, tmp_path):
        folder = whole[0]
        cfg = search_cfg(folder, output="stopped")

        def watch(trainer):
            if trainer.iter == 11:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(TrainingStopped):
            search(cfg, watch=watch)
        search(cfg, resume=True)
        assert_equal(final_state(folder / "run")["model"], final_state(folder / "stopped")["model"])

    @pytest.mark.parametrize(
        ("opts", "message"),
        [
            (["LATENCY.BETA", 0.7], r"- LATENCY.BETA: 0.6\n.*\+ LATENCY.BETA: 0.7"),
            (["DNAS.EPOCHS", 5], r"- DNAS.EPOCHS: 4\n.*\+ DNAS.EPOCHS: 5"),
        ],
    )
    def test_another_config_is_refused(self, whole, opts, message):
        with pytest.raises(CheckpointError, match="(?s)the config has changed.*" + message):
            search(search_cfg(whole[0], *opts), resume=True)

    def test_another_space_or_table_is_refused(self, tmp_path):
        search(search_cfg(tmp_path, "DNAS.EPOCHS", 2), end_at=15)
        table = tmp_path / "table.json"
        kept = table.read_bytes()
        table_of(tiny_space(tmp_path), table, seed=1)
        with pytest.raises(CheckpointError, match="the latency table has changed"):
            search(search_cfg(tmp_path, "DNAS.EPOCHS", 2), resume=True)
        table.write_bytes(kept)
        cfg = search_cfg(tmp_path, "DNAS.EPOCHS", 2)
        space = tmp_path / "tiny.yaml"
        space.write_text(space.read_text().replace("kernel: 5, expansion: 6", "kernel: 5, expansion: 3"))
        table_of(__import__("fbnet_plugin.arch", fromlist=["load_space"]).load_space(space), table)
        with pytest.raises(CheckpointError, match="(?s)the search space has changed.*the latency table has changed"):
            search(cfg, resume=True)

    def test_free_keys_may_change(self, whole):
        cfg = search_cfg(whole[0], "SOLVER.CHECKPOINT_PERIOD", 5, "DATALOADER.NUM_WORKERS", 1, output="free")
        search(search_cfg(whole[0], output="free"), end_at=20)
        search(cfg, resume=True)
        assert_equal(final_state(whole[0] / "run")["model"], final_state(whole[0] / "free")["model"])


class TestTarget:
    @pytest.mark.parametrize("share", [0.2, 0.7])
    def test_ends_within_five_percent(self, tmp_path, share):
        table = table_of(tiny_space(tmp_path), tmp_path / "table.json")
        every = sorted(
            table.latencies(
                [tiny_space(tmp_path).arch([i, j, k]) for i in range(3) for j in range(2) for k in range(4)]
            )
        )
        target = float(every[int(share * len(every))])
        cfg = search_cfg(tmp_path, "LATENCY.TARGET_US", target, "DNAS.THETA_LR", 0.3, output=f"target_{share}")
        search(cfg)
        folder = tmp_path / f"target_{share}" / "search"
        found = table.latency(load_arch(str(folder / "arch.yaml"))).total_us
        assert 0.95 * target <= found <= 1.05 * target
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        assert history[-1]["expected_latency_us"] == pytest.approx(target, rel=1e-3)

    def test_unreachable_targets_are_refused_with_what_can_be_reached(self, tmp_path):
        from fbnet_plugin.dnas import SearchError

        with pytest.raises(
            SearchError, match=r"LATENCY.TARGET_US is 5; with .* the networks of tiny take from \d+ to \d+ µs"
        ):
            DNASTrainer.check(search_cfg(tmp_path, "LATENCY.TARGET_US", 5.0))


class TestNotFinite:
    def test_theta_s_gradient_stops_the_run_before_the_step(self, tmp_path):
        trainer = DNASTrainer(search_cfg(tmp_path))
        trainer.model.theta.register_hook(lambda grad: grad * float("nan"))
        with pytest.raises(FloatingPointError, match="iteration 16: theta.grad = nan; no step was taken"):
            trainer.train()
        assert (trainer.model.theta == 0).all()

    def test_loss(self, tmp_path):
        trainer = DNASTrainer(search_cfg(tmp_path))
        trainer.model.loss.alpha = float("inf")
        with pytest.raises(FloatingPointError, match="iteration 0: loss_latency = inf"):
            trainer.train()


def test_skip_collapse_is_warned_of(tmp_path, caplog):
    """A table in which everything but skip is very slow, and a latency that outweighs all."""
    space = tiny_space(tmp_path)
    table = table_of(space, tmp_path / "table.json")
    from fbnet_plugin.latency import Entry, save_table
    from fbnet_plugin.latency.layerwise import layerwise

    skips = {
        operator
        for one, variable in zip(layerwise(space).candidates, space.variables)
        for operators, choice in zip(one, variable.choices)
        if choice["op"] == "skip"
        for operator in operators
    }
    for operator in layerwise(space).searched():
        table.entries[operator] = Entry(1.0 if operator in skips else 1e6)
    save_table(table, tmp_path / "table.json")
    search(
        search_cfg(tmp_path, "LATENCY.BETA", 8.0, "LATENCY.ALPHA", 1e-9, "DNAS.THETA_LR", 0.8, "DNAS.THETA_START", 0)
    )
    assert "skip takes over: mean probability" in caplog.text
    assert "skip" in caplog.text


def test_single_path_weight_steps_search_too(tmp_path):
    trainer = search(search_cfg(tmp_path, "DNAS.WEIGHT_STEP", "single_path"))
    assert (trainer.model.theta[trainer.model.valid] != 0).all()
