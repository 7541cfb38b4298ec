"""The split of the training set: sizes, disjointness, and what it depends on."""

from __future__ import annotations

import pytest
from tiny_search import search_cfg

from fbnet_plugin.data import DatasetError
from fbnet_plugin.data.subset import some_classes
from fbnet_plugin.dnas.data import search_data, share_split
from fbnet_plugin.dnas.errors import SearchError


def dicts(count: int) -> list[dict]:
    return [{"image_id": i, "label": i % 7} for i in range(count)]


def test_four_fifths_train_the_weights(tmp_path):
    data = search_data(search_cfg(tmp_path))
    rows = [{one["image_id"] for one in half} for half in data[:2]]
    assert (len(rows[0]), len(rows[1])) == (287, 72)  # of 359
    assert not rows[0] & rows[1] and len(rows[0] | rows[1]) == 359
    assert data.of("weights") is data.weights and data.of("theta") is data.theta


def test_depends_on_the_split_seed_alone(tmp_path):
    def theta(*opts):
        return [one["image_id"] for one in search_data(search_cfg(tmp_path, *opts)).theta]

    assert theta() == theta("SEED", 9, "SOLVER.IMS_PER_BATCH", 8)
    assert theta() != theta("DNAS.SPLIT_SEED", 1)


@pytest.mark.parametrize("share", [0.0, 1.0, 0.001])
def test_both_halves_must_have_images(share):
    with pytest.raises(SearchError, match="DNAS.WEIGHT_SHARE is"):
        share_split(dicts(100), share, 0)


def test_some_classes():
    classes, kept = some_classes(dicts(70), 3, 0, "KEY")
    assert len(classes) == 3 and classes == sorted(classes)
    assert len(kept) == 30
    assert {(classes[one["label"]], one["image_id"] % 7) for one in kept} == {(c, c) for c in classes}
    assert classes != some_classes(dicts(70), 3, 1, "KEY")[0] or classes != some_classes(dicts(70), 3, 2, "KEY")[0]


@pytest.mark.parametrize("count", [1, 8])
def test_more_classes_than_there_are(count):
    with pytest.raises(DatasetError, match="DNAS.CLASSES is ., expected 2 to 7"):
        some_classes(dicts(70), count, 0, "DNAS.CLASSES")
