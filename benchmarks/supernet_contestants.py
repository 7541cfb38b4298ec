#!/usr/bin/env python3
"""One contestant of supernet_step.py, in its own process; prints one JSON object.

supernet_contestants.py CONTESTANT DEVICE RESOLUTION BATCH STEPS THREADS
"""

from __future__ import annotations

import copy
import json
import resource
import statistics
import sys
import time
from typing import Any, Dict, List, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from fbnet_plugin.arch import load_space
from fbnet_plugin.arch.supernet import supernet_arch
from fbnet_plugin.dnas import Supernet
from fbnet_plugin.layers import MixedBlock
from fbnet_plugin.layers.cpu_memory import keep_freed_memory
from fbnet_plugin.layers.fast_conv import DepthwiseConv2d, PointwiseConv2d
from fbnet_plugin.modeling import FBNetBackbone, ImageClassifier
from fbnet_plugin.modeling.classifier import ClassifierHead

SPACE, CLASSES, LAST = "fbnet", 1000, 1984
Batch = List[Dict[str, Any]]


class PlainSum(MixedBlock):
    """Eq. 5 as it is written."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates = self.gate.unbind(-1)
        return torch.stack([gate * candidate(x) for gate, candidate in zip(gates, self.candidates)]).sum(0)


def as_plain(module: nn.Module) -> nn.Module:
    """Takes this project's faster modules out of a network; parameters stay the same."""
    for name, child in module.named_children():
        if isinstance(child, MixedBlock):
            child = PlainSum(child.variable, list(child.candidates))
        elif isinstance(child, (DepthwiseConv2d, PointwiseConv2d)):
            child = copy.copy(child)
            child.__class__ = nn.Conv2d
        setattr(module, name, as_plain(child))
    return module


def inner_model() -> ImageClassifier:
    """The classifier with all candidates."""
    torch.manual_seed(0)
    arch = supernet_arch(load_space(SPACE))
    rows = [row.replaced(out=LAST) for row in arch.head.blocks]
    head = ClassifierHead(rows, arch.stages[-1].out, CLASSES)
    return ImageClassifier(
        backbone=FBNetBackbone(arch), head=head, pixel_mean=(127.5,) * 3, pixel_std=(64.0,) * 3
    ).train()


def supernet(contestant: str) -> Supernet:
    plain = contestant == "plain"
    inner = as_plain(inner_model()) if plain else inner_model()
    model = Supernet(
        inner=inner, space=load_space(SPACE), checkpoint=contestant == "checkpoint", channels_last=not plain
    )
    model.single_path = contestant == "single_path"
    return model.train()


def random_batch(count: int, resolution: int) -> Batch:
    images = torch.randint(0, 256, (count, 3, resolution, resolution), dtype=torch.uint8)
    return [{"image": image, "label": number % CLASSES} for number, image in enumerate(images)]


def weight_optimizer(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=1e-4)


def theta_optimizer(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)  # as in NNI's GumbelDARTS


class Iteration:
    """One iteration of a Supernet.

    Args:
        freeze: whether a step computes the gradients of its own parameters only.
    """

    def __init__(self, model: Supernet, freeze: bool):
        self.model, self.freeze = model, freeze
        weights = [parameter for parameter in model.parameters() if parameter is not model.theta]
        self.optimizers = {"weights": weight_optimizer(weights), "theta": theta_optimizer([model.theta])}

    def step(self, phase: str, batch: Batch) -> float:
        """Returns the loss."""
        if self.freeze:
            self.model.train_only(phase)
        self.optimizers[phase].zero_grad()
        loss = torch.stack([one.sum() for one in self.model(batch).values()]).sum()
        loss.backward()
        self.optimizers[phase].step()
        return loss.item()


def measured(iteration: Iteration, phase: str, batch: Batch, device: str) -> Tuple[float, float]:
    """(wall, CPU) ms of a step."""
    wall, cpu = now(device)
    iteration.step(phase, batch)
    end = now(device)
    return end[0] - wall, end[1] - cpu


def run_ours(contestant: str, device: str, batch: Batch, steps: int) -> Dict[str, Any]:
    if device == "cpu" and contestant != "plain":
        keep_freed_memory()  # as DNASTrainer does
    model = supernet(contestant).to(device)
    iteration = Iteration(model, freeze=contestant != "plain")
    found = []
    for number in range(steps + warm_up(steps)):
        one = [measured(iteration, phase, batch, device) for phase in ("weights", "theta")]
        if number >= warm_up(steps):
            found.append(one)
    return {
        "iteration_ms": statistics.median(weight[0] + theta[0] for weight, theta in found),
        "cpu_ms": statistics.median(weight[1] + theta[1] for weight, theta in found),
        "weight_ms": statistics.median(weight[0] for weight, _ in found),
        "theta_ms": statistics.median(theta[0] for _, theta in found),
    }


def run_nni(contestant: str, device: str, batch: Batch, steps: int) -> Dict[str, Any]:
    import pytorch_lightning as pl
    from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
    from nni.nas.execution import SequentialExecutionEngine
    from nni.nas.nn.pytorch import LayerChoice, ModelSpace
    from nni.nas.space import RawFormatModelSpace
    from nni.nas.strategy import GumbelDARTS

    def with_choices(module: nn.Module) -> nn.Module:
        for name, child in module.named_children():
            is_place = isinstance(child, MixedBlock)
            new = LayerChoice(list(child.candidates), label=child.variable) if is_place else with_choices(child)
            setattr(module, name, new)
        return module

    class Space(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            inner = with_choices(as_plain(inner_model()))
            self.stages = nn.Sequential(*inner.backbone.stages)
            self.head = inner.head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.stages(x))

    class Classification(LightningModule):
        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch: Any, number: int) -> None:
            pass

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return weight_optimizer(self.parameters())

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.found: List[Tuple[float, float]] = []

        def on_train_batch_start(self, *args: Any) -> None:
            self.start = now(device)

        def on_train_batch_end(self, *args: Any) -> None:
            end = now(device)
            self.found.append((end[0] - self.start[0], end[1] - self.start[1]))

    images = torch.stack([one["image"] for one in batch]).float().sub(127.5).div(64.0)
    labels = torch.tensor([one["label"] for one in batch])
    count = steps + warm_up(steps)
    data = [(image, label) for image, label in zip(images, labels)] * count
    loader = torch.utils.data.DataLoader(data, batch_size=len(batch))
    clock = Clock()
    trainer = Trainer(
        max_epochs=1,
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[clock],
    )
    evaluator = Lightning(Classification(), trainer, train_dataloaders=loader, val_dataloaders=loader)
    GumbelDARTS()(RawFormatModelSpace(Space(), evaluator), SequentialExecutionEngine())
    assert len(clock.found) == count, f"{len(clock.found)} iterations instead of {count}"
    found = clock.found[warm_up(steps) :]
    return {"iteration_ms": statistics.median(w for w, _ in found), "cpu_ms": statistics.median(c for _, c in found)}


def now(device: str) -> Tuple[float, float]:
    """(wall, CPU) ms."""
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * time.perf_counter(), 1e3 * time.process_time()


def warm_up(steps: int) -> int:
    """Iterations that are not counted."""
    return 1 if steps <= 4 else 3


def peak_mb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def difference(resolution: int, count: int) -> Dict[str, float]:
    """How far ours is from the plain sum over one iteration in float64: norms relative to the plain one's.

    Gradients are taken together, since those of shifts that the next norm takes back are zero but for rounding.
    """
    batch = random_batch(count, resolution)
    found = []
    for contestant in ("plain", "ours", "checkpoint"):
        model = supernet(contestant).double()
        iteration = Iteration(model, freeze=contestant != "plain")
        one: Dict[str, torch.Tensor] = {}
        for seed, phase in enumerate(("weights", "theta")):
            model.seed_noise(seed)
            one[f"loss_{phase}"] = torch.tensor(iteration.step(phase, batch), dtype=torch.float64)
            learned = [model.theta] if phase == "theta" else [p for _, p in sorted(model.inner.named_parameters())]
            one[f"gradients_{phase}"] = torch.cat([p.grad.double().flatten() for p in learned])
        one["statistics"] = torch.cat([b.double().flatten() for _, b in sorted(model.inner.named_buffers())])
        found.append(one)
    return {
        f"{name}_{key}": float((other[key] - plain).norm() / plain.norm())
        for name, other in zip(("ours", "checkpoint"), found[1:])
        for key, plain in found[0].items()
    }


def main() -> None:
    contestant, device = sys.argv[1:3]
    resolution, count, steps, threads = map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    if contestant == "difference":
        print(json.dumps(difference(resolution, count)))
        return
    batch = random_batch(count, resolution)
    if contestant == "nni":
        import nni.nas.strategy  # noqa: F401
    F.conv2d(torch.zeros(1, 3, 8, 8, device=device), torch.zeros(3, 3, 3, 3, device=device))  # loads what it needs
    before = peak_mb(device)
    run = run_nni if contestant == "nni" else run_ours
    found = run(contestant, device, batch, steps)
    peak = peak_mb(device)
    print(json.dumps({**found, "peak_mb": peak, "added_mb": peak - before}))


if __name__ == "__main__":
    main()
