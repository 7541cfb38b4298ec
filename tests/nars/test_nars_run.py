"""Whole searches with toy candidates: stages, resuming, failures, and what is refused."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_nars
from small_nars import ToyExecutor, nars_cfg

from fbnet_plugin.arch import load_arch, load_space
from fbnet_plugin.engine import load_config
from fbnet_plugin.latency import Entry, LatencyTable, Setting, save_table
from fbnet_plugin.latency.coverage import space_operators
from fbnet_plugin.nars import SEARCHER_REGISTRY
from fbnet_plugin.nars.check import check_search
from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.opened import open_run, trained_predictor
from fbnet_plugin.nars.searcher import RandomSearcher, Searcher, evolve_for
from fbnet_plugin.nars.settings import checked
from fbnet_plugin.nars.store import Store
from fbnet_plugin.nars.trainer import NARSTrainer, store_path
from fbnet_plugin.recipe import SEARCHED, load_recipe, recipe_from_config


@pytest.fixture(autouse=True)
def no_mishaps():
    small_nars.MISHAPS.clear()
    ToyExecutor.ran = 0
    yield
    small_nars.MISHAPS.clear()


def search(cfg, resume=False):
    check_search(cfg)
    trainer = NARSTrainer(cfg)
    trainer.resume_or_load(resume)
    trainer.train()


def outcome(folder: Path) -> dict:
    """Everything that a search leaves behind except times."""
    with Store(store_path(str(folder)), read_only=True) as store:
        candidates = [
            (one.id, one.phase, one.round, one.name, store.point(one.id), store.seed(one.id), one.state, one.accuracy,
             one.curve, one.predicted, one.predicted_std, one.epochs, one.reason)
            for one in store.candidates()
        ]  # fmt: skip
        evolution = [
            {**store.get(f"evolution {target}"), "seconds": 0} for target in ("macs <= 1M", "macs <= 2M")
        ]  # fmt: skip
        kept = {key: store.get(key) for key in ("early_stop", "winners", "seed", "finished")}
    files = {path.name: path.read_bytes() for path in sorted((folder / "winners").glob("*.yaml"))}
    files = {name: data.replace(str(folder).encode(), b"FOLDER") for name, data in files.items()}
    predictor = (folder / "predictor" / "predictor.pt").read_bytes()
    return {"candidates": candidates, "evolution": evolution, **kept, "files": files, "predictor": predictor,
            "summary": (folder / "winners.json").read_text()}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a search that was never interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    search(nars_cfg(folder))
    return folder


def test_three_stages(finished):
    with open_run(str(finished), read_only=True) as (run, store):
        rounds = [store.candidates(phase="search", round=number) for number in (1, 2, 3)]
        assert [len(one) for one in rounds] == [8, 8, 8]
        assert {one.origin for one in rounds[0]} == {"random"} and {one.origin for one in rounds[1]} == {"predicted"}
        assert all(one.predicted is None for one in rounds[0]) and all(one.predicted > 0 for one in rounds[2])
        points = [store.point(one.id) for one in sum(rounds, [])]
        assert len(set(points)) == 24  # nothing is trained twice
        assert all(one.costs["macs"] <= 2e6 for one in sum(rounds, []))
        winners = store.candidates(phase="winner")
        assert [one.name for one in winners] == ["macs1M-1", "macs2M-1"]
        assert winners[0].costs["macs"] <= 1e6 and winners[1].costs["macs"] <= 2e6
        assert store.counts()["done"] == len(store.attempts()) == 26


def test_files_of_a_winner_train(finished):
    arch = load_arch(str(finished / "winners" / "macs1M-1.arch.yaml"))
    recipe = load_recipe(str(finished / "winners" / "macs1M-1.recipe.yaml"))
    assert arch.cost().macs <= 1e6
    cfg = load_config(str(finished / "winners" / "macs1M-1.yaml"))
    assert cfg.TRAINER == "FBNetTrainer" and cfg.SOLVER.EPOCHS == 16 and recipe_from_config(cfg, SEARCHED) == recipe
    (row, _) = json.loads((finished / "winners.json").read_text())
    assert row["name"] == "macs1M-1" and row["recipe"] == recipe.to_dict() and row["mean"] == row["accuracy"][0]


def test_later_rounds_stop_early(finished):
    with Store(store_path(str(finished)), read_only=True) as store:
        found = store.get("early_stop")
        assert found["threshold"] == 0.92 and 1 <= found["epoch"] < 4  # the toy's ranks hardly change
        assert {one.epochs for one in store.candidates(round=2)} == {found["epoch"]}
        assert {len(one.curve) for one in store.candidates(round=2)} == {found["epoch"]}
        assert {len(one.curve) for one in store.candidates(round=1)} == {4}


@pytest.mark.parametrize("interrupted", [[1], [9], [12, 14], [24], [26]])
def test_interrupted_anywhere_and_resumed(finished, tmp_path, interrupted):
    """The result is that of the uninterrupted search; only the candidate in flight is begun twice."""
    small_nars.MISHAPS.update(dict.fromkeys(interrupted, "interrupt"))
    resume = False
    for _ in interrupted:
        with pytest.raises(KeyboardInterrupt):
            search(nars_cfg(tmp_path), resume)
        resume = True
    search(nars_cfg(tmp_path), resume=True)
    assert outcome(tmp_path) == outcome(finished)
    with Store(store_path(str(tmp_path)), read_only=True) as store:
        assert len(store.attempts()) == 26 + len(interrupted)
        assert sum(one.outcome == "done" for one in store.attempts()) == 26


def test_killed_and_resumed(finished, tmp_path):
    """kill -9 in the second round, and again in the winners' trainings."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import small_nars; from pathlib import Path\n"
        "from fbnet_plugin.nars.trainer import NARSTrainer\n"
        "small_nars.MISHAPS[int(sys.argv[3])] = 'kill'\n"
        "t = NARSTrainer(small_nars.nars_cfg(Path(sys.argv[2]))); t.resume_or_load(sys.argv[4] == 'yes'); t.train()\n"
    )
    for place, resume in ((11, "no"), (16, "yes")):
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path), str(place), resume]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == -9, done.stderr
    with Store(store_path(str(tmp_path)), read_only=True) as store:
        assert store.counts() == {"pending": 0, "running": 1, "done": 25, "failed": 0}
    search(nars_cfg(tmp_path), resume=True)
    assert outcome(tmp_path) == outcome(finished)


def test_train_net_starts_the_same_search(finished, tmp_path, monkeypatch):
    tool = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"
    opts = [str(part) for part in small_nars.small_opts(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(tool), "--config-file", "nars/digits.yaml", *opts])
    runpy.run_path(str(tool), run_name="__main__")
    assert outcome(tmp_path) == outcome(finished)
    monkeypatch.setattr(sys, "argv", [str(tool), "--eval-only", "--config-file", "nars/digits.yaml", *opts])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tool), run_name="__main__")
    assert ended.value.code == 2


def test_verified_winners_are_the_best_of_fresh_trainings(tmp_path):
    search(nars_cfg(tmp_path, "NARS.EVOLUTION.VERIFY", 2, "NARS.SELECTION.SPREAD", "targets"))
    with open_run(str(tmp_path), read_only=True) as (run, store):
        for number in (2, 3):  # half of a round is for each target
            macs = [one.costs["macs"] for one in store.candidates(phase="search", round=number)]
            assert len(macs) == 8 and max(macs[:4]) <= 1e6 and max(macs) <= 2e6
        verified = store.candidates(phase="verify")
        names = ("macs1M-1", "macs1M-2", "macs2M-1", "macs2M-2")
        assert [one.name for one in verified] == [f"{kind}-{name}" for kind in ("evolved", "again") for name in names]
        assert {one.epochs for one in verified} == {4}
        points = [np.array(store.point(one.id)) for one in verified]
        assert (points[0] != points[1]).sum() >= 3
        measured = {store.point(one.id) for one in run.done("search")}
        assert {store.point(one.id) in measured for one in verified[4:]} == {True}
        for target, winner in zip((1e6, 2e6), store.candidates(phase="winner")):
            inside = [one for one in verified if one.costs["macs"] <= target]
            best = max(inside, key=lambda one: one.accuracy)
            assert store.point(winner.id) == store.point(best.id) and winner.origin == best.origin


def test_a_target_that_no_candidate_of_the_search_meets(tmp_path):
    target = ["NARS.EVOLUTION.TARGETS", ["macs <= 300K"]]
    search(nars_cfg(tmp_path, "NARS.EVOLUTION.VERIFY", 2, "NARS.CONSTRAINTS", "1M <= macs <= 2M", *target))
    with open_run(str(tmp_path), read_only=True) as (run, store):
        assert [one.name for one in store.candidates(phase="verify")] == [
            "evolved-macs300k-1", "evolved-macs300k-2",
        ]  # fmt: skip
        (winner,) = store.candidates(phase="winner")
        assert winner.costs["macs"] <= 300e3


def test_failures_are_recorded_and_left_out(tmp_path):
    small_nars.MISHAPS.update({2: "fail", 5: "nan", 11: "nan"})
    search(nars_cfg(tmp_path, "NARS.EVOLUTION.TARGETS", ["macs <= 2M"]))
    with open_run(str(tmp_path), read_only=True) as (run, store):
        failed = store.candidates(state="failed")
        assert [(one.name, one.reason) for one in failed] == [
            ("r1-002", "a fail"), ("r1-005", "a nan"), ("r2-003", "a nan"),
        ]  # fmt: skip
        assert len(run.done()) == 21 and store.get("finished")
        again = {store.point(one.id) for one in failed} & {store.point(one.id) for one in run.done()}
        assert not again


def test_too_many_failures_in_a_row_end_the_search(tmp_path):
    small_nars.MISHAPS.update(dict.fromkeys(range(3, 40), "fail"))
    cfg = nars_cfg(tmp_path, "NARS.EVALUATION.MAX_FAILURES", 4)
    with pytest.raises(NARSError, match="a fail"):
        search(cfg)
    with Store(store_path(str(tmp_path)), read_only=True) as store:
        assert store.counts()["failed"] == 4


def test_a_changed_config_is_not_resumed(finished, tmp_path):
    before = (finished / "nars.sqlite").read_bytes()
    for change, line in (
        (["NARS.BATCH", 9], "NARS.BATCH: 9"),
        (["SOLVER.WEIGHT_DECAY_NORM", 0.5], "SOLVER.WEIGHT_DECAY_NORM: 0.5"),
        (["NARS.SPACE", "fbnet_v3_ema", "NARS.CONSTRAINTS", "", "NARS.EVOLUTION.TARGETS", ["macs <= 500M"]], "c0"),
    ):
        with pytest.raises(NARSError) as refused:
            NARSTrainer(nars_cfg(finished, *change)).resume_or_load(True)
        with pytest.raises(NARSError, match="has changed"):
            NARSTrainer.check(nars_cfg(finished, *change))
        assert line in str(refused.value) and "another OUTPUT_DIR" in str(refused.value)
    assert (finished / "nars.sqlite").read_bytes() == before
    NARSTrainer(nars_cfg(finished, "NARS.EVALUATION.WORKERS", 2)).resume_or_load(True)


def test_a_search_is_not_overwritten(finished):
    with pytest.raises(NARSError, match="continue it with --resume"):
        NARSTrainer(nars_cfg(finished)).resume_or_load(False)


def test_evolve_for_other_constraints(finished):
    with open_run(str(finished), read_only=True) as (run, _):
        predictor = trained_predictor(run)
        target = checked("--target", "macs <= 700K, params <= 60K", run.costs.metrics)
        found = evolve_for(run, target, predictor, run.done())
        costs = run.costs(found.points)
        assert costs["macs"].max() <= 700e3 and costs["params"].max() <= 60e3
        assert np.all(np.diff(found.scores) <= 0)


def test_random_searcher(tmp_path):
    search(nars_cfg(tmp_path, "NARS.SEARCHER", "RandomSearcher"))
    with open_run(str(tmp_path), read_only=True) as (run, store):
        found = run.done()
        assert len(found) == 24 and {one.epochs for one in found} == {4}
        winner = next(one for one in store.candidates(phase="winner") if one.name == "macs2M-1")
        assert store.point(winner.id) == store.point(max(found, key=lambda one: one.accuracy).id)
        assert SEARCHER_REGISTRY.get("RandomSearcher") is RandomSearcher


def test_a_searcher_from_outside(tmp_path):
    name = "OneRoundSearcher"
    if name not in SEARCHER_REGISTRY:

        @SEARCHER_REGISTRY.register()
        class OneRoundSearcher(Searcher):
            def search(self):
                pool = self.pool()
                ids = self.run.add(self.run.pairs(pool.points[:3], ["a", "b", "c"], origin="first"), "search", 1, 4)
                self.run.evaluate(ids)

    search(nars_cfg(tmp_path, "NARS.SEARCHER", name))
    with Store(store_path(str(tmp_path)), read_only=True) as store:
        assert [one.name for one in store.candidates(state="done")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["NARS.SEARCHER", "Nobody"], "NARS.SEARCHER is 'Nobody', expected one of"),
        (["NARS.MODE", "both"], "NARS.MODE is 'both', expected one of joint, recipe, architecture"),
        (["NARS.CONSTRAINTS", "latency_us <= 5"], "LATENCY.TABLE is empty"),
        (["NARS.CONSTRAINTS", "macs about 5"], "NARS.CONSTRAINTS"),
        (["NARS.EVOLUTION.TARGETS", []], "TARGETS is empty"),
        (["NARS.EVOLUTION.TARGETS", ["macs <= 2M", "macs <= 1K"]], "no point of the space meets macs <= 1k: the small"),
        (["NARS.PREDICTOR.EMBEDDING", 0], "embedding: 0, expected an integer of at least 1"),
        (["NARS.CONSTRAINTS", "macs <= 100"], "the smallest that can be reached is"),
        (["NARS.EVALUATION.EXECUTOR", "Nobody"], "EXECUTOR"),
        (["NARS.PREDICTOR.FORM", "odd"], "NARS.PREDICTOR.FORM is 'odd', expected one of default, plain"),
        (["NARS.VALIDATION_IMAGES", 5000], "DATASETS.TRAIN has 1438 images"),
        (["NARS.CLASSES", 11], "NARS.CLASSES is 11, expected 2 to 10"),
        (["SOLVER.EPOCHS", 0], "SOLVER.EPOCHS is 0"),
        (["INPUT.CLASSIFICATION.TRAIN_SIZE", 32], "the space chooses the resolution"),
        (["NARS.METRIC", "bbox/AP"], "NARS.METRIC is 'bbox/AP'"),
        (["NARS.BATCH", 1], "NARS.BATCH is 1, expected at least 3"),
        (["NARS.SELECTION.SPREAD", "bins"], "NARS.SELECTION.SPREAD is 'bins', expected one of range, targets"),
        (["NARS.SELECTION.FIRST_ROUND", "sobol"], "FIRST_ROUND is 'sobol', expected one of maximin, random, strata"),
        (["NARS.EVALUATION.GPUS", 1.0, "NARS.EVALUATION.EXECUTOR", "LocalPoolExecutor"], "NARS.EVALUATION.GPUS is 1"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(tmp_path, change, message):
    folder = tmp_path / "run"
    with pytest.raises(Exception, match=message.replace("(", r"\(")) as error:
        check_search(nars_cfg(folder, *change))
    assert type(error.value).__name__ in ("NARSError", "DatasetError") and not folder.exists()


def test_constraints_that_nothing_meets(tmp_path):
    with pytest.raises(NARSError, match="smallest"):
        search(nars_cfg(tmp_path, "NARS.CONSTRAINTS", "macs <= 100"))


def test_a_pool_smaller_than_the_rounds(tmp_path):
    search(nars_cfg(tmp_path, "NARS.POOL_SIZE", 12, "NARS.SELECTION.SPREAD", "targets"))
    with open_run(str(tmp_path), read_only=True) as (run, store):
        found = run.done("search")
        assert len(found) == 12 and len({store.point(one.id) for one in found}) == 12 and store.get("finished")


def test_latency_as_a_constraint(tmp_path):
    space = load_space("fbnet_v3_digits")
    entries = {one: Entry(5.0 + number % 40) for number, one in enumerate(space_operators(space))}
    table = LatencyTable(Setting("cpu", "a processor", "eager"), entries)
    save_table(table, str(tmp_path / "table.json"))
    opts = ["LATENCY.TABLE", str(tmp_path / "table.json"), "NARS.CONSTRAINTS", "latency_us <= 450, macs <= 3M"]
    opts += ["NARS.EVOLUTION.TARGETS", ["latency_us <= 300"]]
    (tmp_path / "run").mkdir()
    search(nars_cfg(tmp_path / "run", *opts))
    with open_run(str(tmp_path / "run"), read_only=True) as (run, store):
        assert run.costs.metrics == ("macs", "params", "latency_us")
        assert all(one.costs["latency_us"] <= 450 for one in run.done("search"))
        (winner,) = store.candidates(phase="winner")
        assert winner.costs["latency_us"] <= 300
        assert winner.costs["latency_us"] == table.latency(run.space.arch(store.point(winner.id))).total_us
    save_table(LatencyTable(table.setting, {**entries, next(iter(entries)): Entry(9.0)}), str(tmp_path / "table.json"))
    with pytest.raises(NARSError, match="the latency table has changed"):
        NARSTrainer(nars_cfg(tmp_path / "run", *opts)).resume_or_load(True)


def test_recipe_only(tmp_path):
    cfg = nars_cfg(tmp_path, "NARS.MODE", "recipe", "MODEL.FBNET.ARCH", "fbnet_v3_a_dsmask_tiny_det")
    search(cfg)
    with open_run(str(tmp_path), read_only=True) as (run, store):
        assert run.space.num_arch == 0 and run.encoding.arch_width == 0
        assert len({json.dumps(one.arch["stages"]) for one in run.done()}) == 1
        assert len({json.dumps(one.recipe) for one in run.done()}) == 24
        assert store.get("winners") == [["best-1"]]


def test_architecture_only(tmp_path):
    cfg = nars_cfg(tmp_path, "NARS.MODE", "architecture", "SOLVER.BASE_LR", 0.07)
    search(cfg)
    with open_run(str(tmp_path), read_only=True) as (run, store):
        assert run.space.num_arch == len(run.space.variables)
        own = recipe_from_config(cfg, SEARCHED).to_dict()
        assert {json.dumps(one.recipe) for one in run.done()} == {json.dumps(own)}
        assert len({json.dumps(one.arch) for one in run.done()}) == 24
