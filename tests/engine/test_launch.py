from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
import tiny_task
import torch
import torch.multiprocessing as mp
from detectron2.utils import comm

from fbnet_plugin.engine import ConfigError, FBNetTrainer, launch
from fbnet_plugin.engine.launch import _ends_of_children


def train_and_report(folder, start_method):
    """What each of two processes does in the test below."""
    report = {"rank": comm.get_rank(), "local": (comm.get_local_rank(), comm.get_local_size())}
    report["threads"], report["workers"] = torch.get_num_threads(), multiprocessing.get_start_method() == start_method
    trainer = FBNetTrainer(tiny_task.tiny_cfg(folder))
    report["seen"] = []

    def see(step, losses):
        report["seen"].append(losses["loss_cls"].item())

    tiny_task.TinyClassifier.on_step = staticmethod(see)
    trainer.train()
    report["weights"] = {name: value.detach().clone() for name, value in trainer.model.module.named_parameters()}

    def poison(step, losses):
        return {"loss_cls": losses["loss_cls"] * (float("nan") if comm.get_rank() == 1 else 1.0)}

    tiny_task.TinyClassifier.on_step = staticmethod(poison)
    try:
        trainer.run_step()
    except FloatingPointError as error:  # in both processes
        report["error"] = str(error)
    same = trainer.model.module.state_dict()
    report["stepped"] = any(not torch.equal(value, same[name]) for name, value in report["weights"].items())
    torch.save(report, os.path.join(folder, f"report{comm.get_rank()}.pt"))
    comm.synchronize()
    raise ValueError("something of its own")


def test_two_cpu_processes_train_the_same_model_and_their_failure_surfaces(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads = torch.get_num_threads()
    with pytest.raises(mp.ProcessRaisedException, match="something of its own"):
        launch(train_and_report, num_gpus=0, num_processes=2, args=(str(tmp_path), multiprocessing.get_start_method()))
    one, two = (torch.load(tmp_path / f"report{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (one["rank"], one["local"], two["rank"], two["local"]) == (0, (0, 2), 1, (1, 2))
    assert one["threads"] == two["threads"] == max(1, threads // 2)
    assert one["workers"] and two["workers"]
    assert len(one["seen"]) == 6 and one["seen"] != two["seen"]  # other images
    assert all(torch.equal(value, two["weights"][name]) for name, value in one["weights"].items())
    assert one["error"] == two["error"] and "loss_cls = nan (process 1)" in one["error"]
    assert not one["stepped"] and not two["stepped"]
    assert sorted(path.name for path in tmp_path.glob("*.pth"))[-1] == "model_final.pth"


def test_exit_codes_of_processes_become_this_ones():
    for code, expected in ((130, 130), (2, 2), (-signal.SIGKILL, 137)):
        with pytest.raises(SystemExit) as ended, _ends_of_children():
            raise mp.ProcessExitedException("ended", error_index=0, error_pid=1, exit_code=code)
        assert ended.value.code == expected
    with pytest.raises(SystemExit) as ended, _ends_of_children():
        raise KeyboardInterrupt
    assert ended.value.code == 130


def test_one_process_is_this_one(tmp_path):
    here = []
    launch(here.append, num_gpus=0, args=(os.getpid(),))
    launch(here.append, num_gpus=1, args=(os.getpid(),))
    assert here == [os.getpid()] * 2


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"num_gpus": 64}, "--num-gpus 64: PyTorch finds"),
        ({"num_gpus": 1, "num_processes": 2}, "--num-processes 2 is for CPUs, with --num-gpus 0"),
        ({"num_gpus": 0, "num_machines": 2}, "--dist-url auto works on one machine"),
    ],
)
def test_impossible_requests_are_refused(asked, message):
    with pytest.raises(ConfigError, match=message):
        launch(print, **asked)
