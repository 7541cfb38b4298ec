from __future__ import annotations

import itertools
import logging
import random

import numpy as np
import pytest
import torch

from fbnet_plugin.engine.loader_state import loader_states, resume_loaders, stop_workers
from fbnet_plugin.engine.random_state import mix, resumed_seed, seed_iteration


def drawn(*key):
    seed_iteration(*key)
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_same_iteration_draws_the_same_numbers_and_no_other_does():
    keys = [*itertools.product((0, 1, 2, 2**40), (0, 1, 2, 1000), (0, 1, 2))]
    all_drawn = [drawn(*key) for key in keys]
    assert all_drawn == [drawn(*key) for key in keys]
    for of_one_generator in zip(*all_drawn):
        assert len(set(of_one_generator)) == len(keys)
    assert drawn(3, 4) == drawn(3, 4, 0)


def test_near_iterations_are_independent():
    numbers = torch.stack([torch.rand(500) for iteration in range(40) for _ in [seed_iteration(1, iteration, 0)]])
    between = torch.corrcoef(numbers) - torch.eye(40)
    assert between.abs().max() < 0.2  # 780 pairs; one standard deviation is 0.045
    assert abs(numbers.mean() - 0.5) < 0.01


def test_mixing_tells_all_inputs_apart_and_has_63_bits():
    inputs = [(), (0,), (1,), (1, 0), (0, 1), (1, 2), (2, 1), (1 << 32,), (1, 1 << 32), (0, 0, 0), (-1,), (1, 2, 3, 4)]
    mixed = [mix(*numbers) for numbers in inputs]
    assert len(set(mixed)) == len(inputs) and mixed == [mix(*numbers) for numbers in inputs]
    many = [mix(7, number) for number in range(2000)]
    assert 2**62 < max(many) < 2**63 and min(many) >= 0
    bits = np.array([[number >> bit & 1 for bit in range(63)] for number in many]).mean(0)
    assert abs(bits - 0.5).max() < 0.06  # one standard deviation is 0.011
    torch.Generator().manual_seed(max(many))


def test_seeding_does_not_initialize_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was initialized"))
    seed_iteration(1, 2, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_draws_the_same_numbers_again():
    numbers = [torch.rand(2, device="cuda") for key in ((1, 2), (1, 2), (1, 3)) for _ in [seed_iteration(*key)]]
    assert torch.equal(numbers[0], numbers[1]) and not torch.equal(numbers[0], numbers[2])


def test_the_seed_of_the_run_wins_over_a_changed_config(caplog):
    assert resumed_seed({"seed": 5}, 8, -1) == 5
    assert resumed_seed({"seed": 5}, 5, 5) == 5
    assert resumed_seed({}, 8, -1) == 8
    assert not caplog.records
    assert resumed_seed({"seed": 5}, 6, 6) == 5
    assert "SEED is 6, but the run that is resumed began with 5" in caplog.text


class Counting:
    def __init__(self, batches=0):
        self.batches, self.stopped = batches, False

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]

    def stop(self):
        self.stopped = True


def test_loaders_go_on_and_those_that_cannot_are_named_once(caplog):
    states = loader_states({"train": Counting(3), "theta": Counting(4), "own": [None]})
    assert states == {"train": {"batches": 3}, "theta": {"batches": 4}}
    loaders = {"train": Counting(), "theta": Counting()}
    with caplog.at_level(logging.WARNING):
        resume_loaders(loaders, states)
        assert not caplog.records
        resume_loaders({**loaders, "more": Counting(), "own": [None]}, states)
    assert [loader.batches for loader in loaders.values()] == [3, 4]
    assert len(caplog.records) == 1 and "begins anew (more, own)" in caplog.text
    stop_workers({**loaders, "own": [None]})
    assert all(loader.stopped for loader in loaders.values())
