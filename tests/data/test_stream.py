"""Training data is a function of (seed, number of batches consumed), whoever asks and from wherever."""

from __future__ import annotations

import logging
import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetFromList, build
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler

from fbnet_plugin.data import DatasetError, TrainLoader, build_train_loader
from fbnet_plugin.data.order import order_from_config, replayed, shard_of, shuffled
from fbnet_plugin.data.stream import batches

SIZE = 10
ORDERS = {
    "shuffled": shuffled(SIZE),
    "repeat factors": replayed(lambda seed: RepeatFactorTrainingSampler(torch.linspace(1, 2, SIZE), seed=seed)),
    "shard": shard_of(TrainingSampler(SIZE, seed=5)),
}
TALL = [number % 3 == 0 for number in range(SIZE)]


def dicts() -> list:
    return [{"id": number, "width": 3, "height": 4 if TALL[number] else 2} for number in range(SIZE)]


def draw(entry: dict) -> tuple:
    """The image and a number of each generator that augmentations draw from."""
    return entry["id"], random.random(), float(np.random.rand()), float(torch.rand(()))


def loader(seed: int = 7, batch_size: int = 4, mapper=draw, order=None, **more) -> TrainLoader:
    dataset = DatasetFromList(dicts(), copy=False)
    return TrainLoader(dataset, mapper, order or shuffled(SIZE), seed=seed, batch_size=batch_size, **more)


def take(stream, count: int) -> list:
    return list(islice(stream, count))


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_can_be_entered_anywhere(name: str) -> None:
    order = ORDERS[name]
    whole = take(order(3, 0), 5 * SIZE)
    for start in (0, 1, SIZE - 1, SIZE, SIZE + 1, 4 * SIZE - 3):
        assert take(order(3, start), SIZE) == whole[start : start + SIZE]


def test_each_epoch_shuffles_all_images_anew_and_the_seed_matters() -> None:
    epochs = [take(shuffled(50)(3, 50 * epoch), 50) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert take(shuffled(50)(4, 0), 50) != epochs[0]


def test_an_epoch_far_ahead_costs_no_more_than_the_first() -> None:
    """Going through the positions before it would take years."""
    far = loader(batch_size=SIZE)
    far.load_state_dict({"seed": 7, "batches": 10**15})
    assert sorted(number for number, *_ in next(far)) == list(range(SIZE))


def test_batches_are_grouped_as_detectron2_groups_them() -> None:
    order = take(shuffled(SIZE)(1, 0), 100)
    expected = take(AspectRatioGroupedDataset([dicts()[index] for index in order], 4), 20)
    made = batches(enumerate(order), 4, TALL)
    assert [[index for _, index in batch] for batch in islice(made, 20)] == [
        [entry["id"] for entry in batch] for batch in expected
    ]


@pytest.mark.parametrize("bucket_of", [None, TALL], ids=["plain", "grouped"])
@pytest.mark.parametrize("name", ORDERS)
def test_resuming_gives_the_same_samples(name: str, bucket_of: list) -> None:
    more = {"order": ORDERS[name], "sharded": name == "shard", "bucket_of": bucket_of}
    whole = take(loader(**more), 9)
    assert len({sample for batch in whole for sample in batch}) == 36  # no two are augmented alike
    for done in (0, 1, 4, 8):
        before, after = loader(**more), loader(seed=99, **more)
        take(before, done)
        assert before.state_dict() == {"seed": 7, "batches": done}
        after.load_state_dict(before.state_dict())
        assert take(after, 9 - done) == whole[done:]


def test_workers_change_nothing_and_what_they_fetched_ahead_does_not_count() -> None:
    whole = take(loader(bucket_of=TALL), 8)
    with_workers = loader(bucket_of=TALL, num_workers=2)
    assert take(with_workers, 3) == whole[:3]
    assert with_workers.state_dict() == {"seed": 7, "batches": 3}  # while the workers are at the eighth
    without = loader(bucket_of=TALL)
    without.load_state_dict(with_workers.state_dict())
    assert take(without, 5) == whole[3:]
    with_workers.load_state_dict({"seed": 7, "batches": 1})  # also later
    assert take(with_workers, 3) == whole[1:4]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_generators_of_this_process_are_left_alone(workers: int) -> None:
    def state() -> tuple:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = state()
    stream = loader(num_workers=workers)
    assert state() == before
    take(stream, 2)
    assert state() == before
    with pytest.raises(DatasetError):
        next(loader(mapper=refuse))
    assert state() == before


def refuse(entry: dict) -> None:
    raise DatasetError(f"image {entry['id']} {random.random()} {np.random.rand()} {torch.rand(())}")


@pytest.mark.parametrize("bucket_of", [None, TALL], ids=["plain", "grouped"])
def test_two_processes_share_the_batches_of_one(bucket_of: list) -> None:
    whole = take(loader(bucket_of=bucket_of), 9)
    ranks = [loader(bucket_of=bucket_of, rank=rank, world_size=2) for rank in (0, 1)]
    for batch in whole[:4]:
        assert [next(ranks[0]), next(ranks[1])] == [batch[0::2], batch[1::2]]
    alone = loader(bucket_of=bucket_of)
    alone.load_state_dict(ranks[1].state_dict())
    assert take(alone, 5) == whole[4:]


def test_processes_with_a_sampler_of_their_own_draw_different_numbers() -> None:
    more = {"order": shard_of(range(SIZE)), "sharded": True, "world_size": 2}
    shares = [take(loader(rank=rank, **more), 9) for rank in (0, 1)]
    assert [len(share) for share in shares] == [5, 5]  # it ends where the sampler does
    first, second = ([sample for batch in share for sample in batch] for share in shares)
    assert [number for number, *_ in first] == [number for number, *_ in second] == list(range(SIZE))
    assert not {draws for _, *draws in map(tuple, first) for draws in draws} & {x for _, *y in second for x in y}


def test_seeding_pytorchs_generator_alone_gives_it_the_same_numbers() -> None:
    def torchs(batches: list) -> list:
        return [[(number, for_torch) for number, _, _, for_torch in batch] for batch in batches]

    random.seed(0)
    np.random.seed(0)
    expected = [(random.random(), float(np.random.rand())) for _ in range(4)]
    whole, alone = take(loader(), 5), loader(torch_alone=True)
    random.seed(0)
    np.random.seed(0)
    first = next(alone)
    assert [tuple(others) for _, *others, _ in first] == expected  # the numbers that came next anyway
    assert torchs([first, *take(alone, 4)]) == torchs(whole)


def some(entry: dict):
    """None for every image but two; the random numbers say whether the position is the same."""
    return draw(entry) if entry["id"] in (2, 5) else None


def test_an_image_without_result_is_replaced_by_the_same_other_one_each_time(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        whole = take(loader(mapper=some), 6)
    assert "gave None for 3 images in a row" in caplog.text
    assert {number for batch in whole for number, *_ in batch} == {2, 5}
    resumed = loader(mapper=some, num_workers=2)
    resumed.load_state_dict({"seed": 7, "batches": 2})
    assert take(resumed, 4) == whole[2:]
    with pytest.raises(DatasetError, match="None for every one of the 10 images"):
        next(loader(mapper=lambda entry: None))


def boxes() -> list:
    """Class 1 is rare: its two images repeat."""
    return [{**entry, "annotations": [{"category_id": int(entry["id"] < 2)}]} for entry in dicts()]


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RandomSubsetTrainingSampler", "RepeatFactorTrainingSampler"])
def test_samplers_of_the_config(cfg, sampler: str) -> None:
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.RANDOM_SUBSET_RATIO = sampler, 0.5
    cfg.DATALOADER.REPEAT_THRESHOLD, cfg.SOLVER.IMS_PER_BATCH = 0.8, 2
    whole = build_train_loader(cfg, dataset=boxes(), mapper=draw, seed=3)
    seen = [number for batch in islice(whole, 20) for number, *_ in batch]
    counts = np.bincount(seen, minlength=SIZE)
    expected = {"TrainingSampler": (10, 4, 4), "RandomSubsetTrainingSampler": (5, 8, 8)}
    if sampler in expected:
        assert (np.count_nonzero(counts), counts[counts > 0].min(), counts.max()) == expected[sampler]
    else:  # repeat factor sqrt(0.8 / 0.2) = 2, so about 40 / 12 epochs
        assert counts[:2].min() > counts[2:].max()
    resumed = build_train_loader(cfg, dataset=boxes(), mapper=draw)
    resumed.load_state_dict({"seed": 3, "batches": 19})
    assert next(resumed) == take(build_train_loader(cfg, dataset=boxes(), mapper=draw, seed=3), 20)[19]


def test_weighted_samplers_where_detectron2_has_them(cfg, monkeypatch) -> None:
    cfg.DATALOADER.SAMPLER_TRAIN = "WeightedCategoryTrainingSampler"
    factors = torch.ones(SIZE)
    factors[3] = 5
    sampler = lambda cfg, enable_category_balance: RepeatFactorTrainingSampler(factors, seed=1)  # noqa: E731
    monkeypatch.setattr(build, "_build_weighted_sampler", sampler, raising=False)
    order = order_from_config(cfg, boxes())
    assert np.bincount(take(order(2, 0), 14)).tolist() == [1, 1, 1, 5, 1, 1, 1, 1, 1, 1]
    with pytest.raises(DatasetError, match="weighs the 10 images of DATASETS.TRAIN, not another dataset of 9"):
        order_from_config(cfg, boxes()[1:])
    monkeypatch.delattr(build, "_build_weighted_sampler")
    with pytest.raises(ValueError, match="got 'WeightedCategoryTrainingSampler', expected one of TrainingSampler"):
        order_from_config(cfg, boxes())


def test_a_seed_gives_one_stream_and_no_seed_a_random_one(cfg) -> None:
    cfg.SOLVER.IMS_PER_BATCH = SIZE
    same, same_again, other, random_one, another = (
        take(build_train_loader(cfg, dataset=boxes(), mapper=draw, seed=seed), 2) for seed in (1, 1, 2, None, None)
    )
    assert same == same_again
    assert len({str(batches) for batches in (same, other, random_one, another)}) == 4


def test_images_without_size_are_not_grouped_and_that_is_said(cfg, caplog) -> None:
    cfg.SOLVER.IMS_PER_BATCH = 4
    grouped = build_train_loader(cfg, dataset=boxes(), mapper=draw, seed=1)
    assert all(len({TALL[number] for number, *_ in batch}) == 1 for batch in islice(grouped, 9))
    sizeless = [{"id": entry["id"], "annotations": []} for entry in boxes()]
    assert len(next(build_train_loader(cfg, dataset=sizeless, mapper=draw, seed=1))) == 4
    assert "ASPECT_RATIO_GROUPING: images without width and height" in caplog.text


def test_batch_size_and_images_are_checked(cfg) -> None:
    cfg.SOLVER.IMS_PER_BATCH = 0
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH: got 0"):
        build_train_loader(cfg, dataset=boxes(), mapper=draw)
    with pytest.raises(DatasetError, match="no images"):
        build_train_loader(cfg, dataset=[], mapper=draw)
