from __future__ import annotations

import json
import logging
import multiprocessing
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from detectron2.data import MetadataCatalog

from fbnet_plugin.evaluation import ClassificationEvaluator


def random_case(num_images: int = 200, num_classes: int = 10) -> Tuple[torch.Tensor, np.ndarray]:
    """Probabilities (N, num_classes) without ties, and labels (N)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(num_classes, size=num_images)
    logits = torch.from_numpy(rng.normal(size=(num_images, num_classes)))
    logits[torch.arange(num_images), torch.from_numpy(labels)] += 1
    return logits.softmax(dim=1), labels


def feed(evaluator: ClassificationEvaluator, scores: torch.Tensor, labels: Any, first_id: int = 0) -> None:
    inputs = [{"image_id": first_id + i, "label": int(label)} for i, label in enumerate(labels)]
    for start in range(0, len(inputs), 32):
        part = slice(start, start + 32)
        evaluator.process(inputs[part], [{"scores": row} for row in scores[part]])


def evaluate(scores: torch.Tensor, labels: Any, name: str = "unnamed", **options: Any) -> Dict[str, float]:
    evaluator = ClassificationEvaluator(name, **options)
    evaluator.reset()
    feed(evaluator, scores, labels)
    return evaluator.evaluate()["classification"]


def test_figures_are_scikit_learns() -> None:
    # Not at the top: the processes of test_two_processes_equal_one import this file.
    from sklearn.metrics import log_loss, top_k_accuracy_score

    scores, labels = random_case()
    result = evaluate(scores, labels)
    classes = np.arange(10)
    for k in (1, 5):
        expected = top_k_accuracy_score(labels, scores.numpy(), k=k, labels=classes)
        assert result[f"top{k}"] == pytest.approx(expected * 100)
    assert result["loss"] == pytest.approx(log_loss(labels, scores.numpy(), labels=classes))
    assert 20 < result["top1"] < result["top5"] < 100


def test_fewer_than_five_classes() -> None:
    scores, labels = random_case(num_classes=3)
    result = evaluate(scores, labels)
    assert result["top5"] == 100 and result["top1"] < 100


def test_equal_scores_are_no_hits_for_everybody() -> None:
    result = evaluate(torch.full((10, 10), 0.1), range(10))
    assert (result["top1"], result["top5"]) == (10, 50)


def test_image_seen_twice_counts_once() -> None:
    scores, labels = random_case(64)
    evaluator = ClassificationEvaluator("unnamed")
    evaluator.reset()
    feed(evaluator, scores, labels)
    feed(evaluator, scores[:7], labels[:7])
    assert evaluator.evaluate()["classification"] == evaluate(scores, labels)


def test_reset_forgets() -> None:
    scores, labels = random_case(64)
    evaluator = ClassificationEvaluator("unnamed")
    evaluator.reset()
    feed(evaluator, scores, labels)
    evaluator.reset()
    assert evaluator.evaluate() == {}


def test_scores_that_are_not_finite_are_misses(caplog: pytest.LogCaptureFixture) -> None:
    scores = torch.eye(4)
    scores[0] = float("nan")
    with caplog.at_level(logging.WARNING):
        result = evaluate(scores, range(4))
    assert result["top1"] == 75 and np.isnan(result["loss"])
    assert "1 images with scores that are not finite" in caplog.text


def test_probability_of_zero_has_a_finite_loss() -> None:
    result = evaluate(torch.eye(2).flip(0), range(2))
    assert result["top1"] == 0 and result["loss"] == pytest.approx(87.3365, abs=1e-3)


def test_half_precision_scores() -> None:
    scores, labels = random_case(64)
    assert evaluate(scores.half(), labels)["top5"] == pytest.approx(evaluate(scores, labels)["top5"], abs=3)


@pytest.mark.parametrize("num_scores", [9, 11])
def test_model_for_other_classes(num_scores: int) -> None:
    MetadataCatalog.get("ten").set(thing_classes=list("0123456789"))
    with pytest.raises(ValueError, match=f"{num_scores} scores .* 'ten' has 10 classes: set MODEL.CLASSIFIER.NUM_CL"):
        evaluate(torch.zeros(1, num_scores), [0], "ten")


def test_label_beyond_the_scores_of_a_set_without_class_names() -> None:
    with pytest.raises(ValueError, match="label 3, but the model gives only 3 scores"):
        evaluate(torch.zeros(1, 3), [3])


def test_per_class_log(caplog: pytest.LogCaptureFixture) -> None:
    MetadataCatalog.get("pets").set(thing_classes=["cat", "dog"])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    with caplog.at_level(logging.INFO):
        evaluate(scores, [0, 1, 1], "pets", log_per_class=True)
    rows = [line.split() for line in caplog.text.splitlines() if line.startswith(("cat", "dog"))]
    assert rows == [["cat", "1", "100.00"], ["dog", "2", "50.00"]]


def _one_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    scores, labels = random_case()
    evaluator = ClassificationEvaluator("unnamed")
    evaluator.reset()
    # The shards have different sizes and ten images in common, as with a sampler that pads.
    first, last = ((0, 90), (80, 200))[rank]
    feed(evaluator, scores[first:last], labels[first:last], first)
    Path(folder, f"{rank}.json").write_text(json.dumps(evaluator.evaluate()))
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    # One import of Detectron2 serves both processes.
    multiprocessing.set_forkserver_preload(["fbnet_plugin.evaluation"])
    torch.multiprocessing.start_processes(_one_process, (str(tmp_path),), nprocs=2, start_method="forkserver")
    results: List[Any] = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert results[1] == {}
    assert results[0]["classification"] == pytest.approx(evaluate(*random_case()))
