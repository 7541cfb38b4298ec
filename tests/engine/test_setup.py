from __future__ import annotations

import signal
import sys

import pytest
import torch

from fbnet_plugin.arch import ArchError
from fbnet_plugin.checkpoint import CheckpointError
from fbnet_plugin.data import DatasetError
from fbnet_plugin.engine import ConfigError, TrainingStopped, argument_parser, exit_codes, num_gpus, prepare
from fbnet_plugin.engine.setup import resume_command

TINY = (
    "MODEL.META_ARCHITECTURE TinyClassifier DATASETS.TRAIN ('tiny_train',) DATASETS.TEST () SOLVER.IMS_PER_BATCH 4"
).split()


def parse(*argv):
    return argument_parser().parse_args([*argv, *TINY])


@pytest.mark.parametrize("error", [ArchError, CheckpointError, ConfigError, DatasetError])
def test_bad_input_is_a_message_and_exit_code_2(error, capsys):
    with pytest.raises(SystemExit) as ended, exit_codes():
        raise error("what is wrong")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: what is wrong\n"


def test_bad_input_in_a_data_loading_worker_is_the_same_message(capsys):
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise DatasetError("cannot read the image a.jpg: cut: short")

    with pytest.raises(SystemExit) as ended, exit_codes():
        list(torch.utils.data.DataLoader(Broken(), num_workers=1))
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: cannot read the image a.jpg: cut: short\n"


def test_divergence_is_exit_code_1_and_other_errors_pass(capsys):
    with pytest.raises(SystemExit) as ended, exit_codes():
        raise FloatingPointError("loss not finite at iteration 3")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: loss not finite at iteration 3\n"
    with pytest.raises(ZeroDivisionError), exit_codes():
        raise ZeroDivisionError


def test_a_stopped_run_says_how_to_continue(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tools/train_net.py", "--config-file", "my config.yaml", "SEED", "1"])
    stop = TrainingStopped(signal.SIGTERM)
    stop.iteration, stop.checkpoint = 12, "output/model_0000012.pth"
    with pytest.raises(SystemExit) as ended, exit_codes():
        raise stop
    assert ended.value.code == 143
    message = capsys.readouterr().err
    assert "stopped by SIGTERM after iteration 12" in message
    assert "tools/train_net.py --resume --config-file 'my config.yaml' SEED 1" in message


def test_resume_is_not_said_twice():
    assert resume_command(["a.py", "--resume", "SEED", "1"]).endswith("a.py --resume SEED 1")


def test_the_command_line_is_detectron2s_and_one_flag_more():
    args = argument_parser().parse_args("--config-file a --num-gpus 2 --num-processes 3 --eval-only SEED 1".split())
    assert (args.config_file, args.num_gpus, args.num_processes, args.eval_only) == ("a", 2, 3, True)
    assert args.opts == ["SEED", "1"] and argument_parser().parse_args([]).dist_url.startswith("tcp://127.0.0.1:")


def test_without_cuda_the_cpu_is_used_and_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg, notes = prepare(parse())
    assert cfg.MODEL.DEVICE == "cpu" and cfg.is_frozen()
    assert notes[0] == "MODEL.DEVICE is cuda, but PyTorch finds no CUDA device; using cpu"
    assert num_gpus(parse()) == 0 and num_gpus(parse("--num-gpus", "4")) == 4


def test_with_cuda_no_gpu_is_used_only_when_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert prepare(parse())[0].MODEL.DEVICE == "cuda"
    cfg, notes = prepare(parse("--num-gpus", "0"))
    assert cfg.MODEL.DEVICE == "cpu" and "--num-gpus is 0" in notes[0]


def test_the_batch_is_divided_among_all_processes():
    with pytest.raises(ConfigError, match="multiple of the 6 processes"):
        prepare(parse("--num-gpus", "0", "--num-processes", "3", "--num-machines", "2"))
