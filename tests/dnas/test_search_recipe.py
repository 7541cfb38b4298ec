"""Keys of a training recipe in a search."""

from __future__ import annotations

import pytest
from tiny_search import search_cfg

from fbnet_plugin.dnas.errors import SearchError
from fbnet_plugin.dnas.trainer import DNASTrainer
from fbnet_plugin.engine.optimizer import RMSPropTF


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL_EMA.ENABLED", True, "MODEL_EMA.ENABLED: a search keeps no average"),
        ("SOLVER.EPOCHS", 3, "a search has its own epochs in DNAS.EPOCHS"),
        ("TEST.EVAL_EPOCHS", 1, "a search has its own epochs in DNAS.EPOCHS"),
    ],
)
def test_what_a_search_does_not_do_is_refused_before_it(tmp_path, key, value, message):
    with pytest.raises(SearchError, match=message):
        DNASTrainer.check(search_cfg(tmp_path, key, value))


def test_optimizer_and_schedule_of_the_weights_are_the_recipes(tmp_path):
    recipe = ("SOLVER.OPTIMIZER", "RMSProp", "SOLVER.LR_SCHEDULER_NAME", "WarmupExponentialLR")
    cfg = search_cfg(tmp_path, *recipe, "SOLVER.EPOCH_DECAY", 0.5, "SOLVER.WARMUP_ITERS", 0)
    trainer = DNASTrainer(cfg)
    assert isinstance(trainer.optimizer, RMSPropTF) and trainer.average is None
    steps, epochs = trainer.schedule.weight_steps, trainer.schedule.epochs
    factors = [trainer.scheduler._multiplier(step / (steps * epochs)) for step in range(steps * epochs)]
    assert factors == [0.5 ** (step // steps) for step in range(steps * epochs)]
