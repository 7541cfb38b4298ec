from __future__ import annotations

import logging
import os

import pytest
import torch
from torch import nn

from fbnet_plugin.checkpoint import CheckpointError, FBNetCheckpointer


class State:
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.fixture
def run(tmp_path):
    """A folder with the checkpoints of iterations 1, 3 and 5, whose weights are 1, 3 and 5."""
    model = nn.Linear(2, 2)
    checkpointer = FBNetCheckpointer(model, str(tmp_path), trainer=State())
    for iteration in (1, 3, 5):
        nn.init.constant_(model.weight, iteration)
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        os.utime(tmp_path / f"model_{iteration:07d}.pth", (1000 + iteration, 1000 + iteration))
    nn.init.constant_(model.weight, 99)
    return tmp_path, checkpointer


def truncate(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def resumed(checkpointer):
    iteration = checkpointer.resume_or_load("", resume=True)["iteration"]
    assert torch.equal(checkpointer.model.weight, torch.full((2, 2), float(iteration)))
    return iteration


def test_the_pointer_decides(run, caplog):
    folder, checkpointer = run
    assert resumed(checkpointer) == 5
    (folder / "last_checkpoint").write_text("model_0000003.pth\n")
    assert resumed(checkpointer) == 3
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_newest_checkpoint_leads_to_the_previous_one(run, caplog, share):
    folder, checkpointer = run
    truncate(folder / "model_0000005.pth", share)
    assert resumed(checkpointer) == 3
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{folder / 'model_0000005.pth'}: " in warnings[0]
    assert warnings[1] == f"Falling back to checkpoint {folder / 'model_0000003.pth'}"


def test_a_flipped_bit_in_a_tensor_leads_to_the_previous_checkpoint(run, caplog):
    folder, checkpointer = run
    path = folder / "model_0000005.pth"
    content = path.read_bytes()
    weight = torch.full((2, 2), 5.0).numpy().tobytes()
    assert content.count(weight) == 1
    path.write_bytes(content.replace(weight, bytes([weight[0] ^ 1]) + weight[1:]))
    assert torch.load(path, weights_only=True)["model"]["weight"][0, 0] != 5  # PyTorch does not notice
    assert resumed(checkpointer) == 3
    assert "is damaged" in caplog.text


def test_two_damaged_checkpoints_lead_to_the_one_before(run):
    folder, checkpointer = run
    truncate(folder / "model_0000005.pth")
    truncate(folder / "model_0000003.pth")
    assert resumed(checkpointer) == 1


@pytest.mark.parametrize(
    "pointer, complaint",
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe\x00garbage\x00", "is not there"),
        (b"model_0000009.pth", "is not there"),
        (b"../model_0000001.pth", "is not there"),
        (b"a" * 100_000, "is not there"),
        (None, "is missing"),
    ],
)
def test_a_pointer_to_nothing_leads_to_the_newest_checkpoint(run, caplog, pointer, complaint):
    folder, checkpointer = run
    path = folder / "last_checkpoint"
    path.unlink() if pointer is None else path.write_bytes(pointer)
    assert checkpointer.has_checkpoint()
    assert resumed(checkpointer) == 5
    assert any(complaint in record.message for record in caplog.records if record.levelno == logging.WARNING)


def test_newest_means_written_last_not_numbered_highest(run):
    """The folder of an earlier, longer run may be used again."""
    folder, checkpointer = run
    (folder / "last_checkpoint").unlink()
    os.utime(folder / "model_0000003.pth", (2000, 2000))
    assert resumed(checkpointer) == 3


def test_weights_alone_are_not_a_state_to_continue_from(run, caplog):
    folder, checkpointer = run
    torch.save({"model": checkpointer.model.state_dict()}, folder / "model_0000005.pth")
    assert resumed(checkpointer) == 3
    assert "has no trainer and no iteration" in caplog.text


def test_nothing_readable_is_an_error_and_never_a_new_run(run):
    folder, checkpointer = run
    for path in folder.glob("*.pth"):
        truncate(path)
    with pytest.raises(CheckpointError) as error:
        checkpointer.resume_or_load("", resume=True)
    message = str(error.value)
    assert str(folder) in message and "without --resume" in message
    assert all(f"model_000000{number}.pth" in message for number in (1, 3, 5))
    assert torch.equal(checkpointer.model.weight, torch.full((2, 2), 99.0))


def test_a_pointer_without_any_checkpoint_is_an_error(run):
    folder, checkpointer = run
    for path in folder.glob("*.pth"):
        path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint in it can be resumed from"):
        checkpointer.resume_or_load("", resume=True)


def test_an_unused_folder_is_a_new_run_with_the_given_weights(tmp_path):
    weights, model = tmp_path / "weights.pth", nn.Linear(2, 2)
    torch.save({"model": {"weight": torch.full((2, 2), 7.0), "bias": torch.zeros(2)}}, weights)
    (tmp_path / "out").mkdir()
    torch.save({"model": {}}, tmp_path / "out" / "pretrained.pth")  # not the name of a training state
    checkpointer = FBNetCheckpointer(model, str(tmp_path / "out"), trainer=State())
    assert not checkpointer.has_checkpoint()
    checkpointer.resume_or_load(str(weights), resume=True)
    assert torch.equal(model.weight, torch.full((2, 2), 7.0))


def test_without_resume_the_state_in_the_folder_is_left_alone(run):
    folder, checkpointer = run
    checkpointer.resume_or_load("", resume=False)
    assert torch.equal(checkpointer.model.weight, torch.full((2, 2), 99.0))
