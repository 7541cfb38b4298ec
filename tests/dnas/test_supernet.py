"""The supernet against the networks it is made of, and its loss against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tiny_search import search_cfg, table_of, tiny_space

from fbnet_plugin.arch import save_arch
from fbnet_plugin.dnas.errors import SearchError
from fbnet_plugin.dnas.gumbel import gumbel_noise, gumbel_softmax
from fbnet_plugin.dnas.schedule import THETA, WEIGHTS

POINTS = [[0, 0, 0], [1, 1, 3], [2, 0, 2], [2, 1, 1]]


def images(count: int = 4, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.integers(0, 256, (count, 3, 16, 16)).astype(np.uint8))
    return [{"image": one, "label": number % 10} for number, one in enumerate(pixels)]


def supernet(folder, *opts):
    torch.manual_seed(0)
    return build_model(search_cfg(folder, *opts))


def one_hot(net, point) -> torch.Tensor:
    """Theta so extreme that every sample is this point."""
    theta = torch.full(net.theta.shape, -1e4)
    theta[range(len(point)), point] = 1e4
    return theta


class TestDerivedNetwork:
    """Promise 11: the same function as the supernet under one-hot theta, maximum difference 0."""

    def derived(self, folder, net, point):
        path = folder / "derived.yaml"
        save_arch(net.space.arch(point), path)
        opts = ["MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.FBNET.ARCH", str(path)]
        model = build_model(search_cfg(folder, *opts))
        model.load_state_dict(net.derived_state_dict(point), strict=True)
        return model.to(memory_format=torch.channels_last)

    @pytest.mark.parametrize("point", POINTS)
    def test_evaluation(self, tmp_path, point):
        net = supernet(tmp_path)
        net(images())  # running statistics that are not the first ones
        net.theta.data.copy_(one_hot(net, point))
        model = self.derived(tmp_path, net, point)
        with torch.no_grad():
            expected = [one["scores"] for one in model.eval()(images(seed=1))]
            found = [one["scores"] for one in net.eval()(images(seed=1))]
        assert max(float((a - b).abs().max()) for a, b in zip(expected, found)) == 0.0

    @pytest.mark.parametrize("point", POINTS)
    def test_training(self, tmp_path, point):
        """With the mixture of eq. 5, not a shortcut: loss and gradients of the chosen candidates."""
        net = supernet(tmp_path)
        model = self.derived(tmp_path, net, point).train()
        net.theta.data.copy_(one_hot(net, point))
        net.temperature = 0.1
        net.train_only(WEIGHTS)
        losses = net.train()(images())
        expected = model(images())
        assert float((losses["loss_cls"] - expected["loss_cls"]).abs()) == 0.0
        losses["loss_cls"].backward()
        expected["loss_cls"].backward()
        grads = {name: p.grad for name, p in net.inner.named_parameters()}
        own = {name.replace("inner.", ""): g for name, g in grads.items()}
        for name, parameter in model.named_parameters():
            places = [key for key in own if own[key] is not None and undone(key, net, point) == name]
            assert len(places) == 1
            torch.testing.assert_close(own[places[0]], parameter.grad, rtol=1e-3, atol=1e-6)


def undone(key: str, net, point) -> str:
    """The derived model's name of one of the supernet's parameters; "" for candidates that were not chosen."""
    parts = key.split(".")
    if "candidates" not in parts:
        return key
    at = parts.index("candidates")
    block = net.inner.get_submodule(".".join(parts[:at]))
    layer = [variable.name for variable in net.space.variables].index(block.variable)
    return ".".join(parts[:at] + parts[at + 2 :]) if int(parts[at + 1]) == point[layer] else ""


class TestLoss:
    def test_equation_2(self, tmp_path):
        """CE * alpha * log(LAT)^beta with natural logarithm and µs; the same sample in the layers and in LAT."""
        net = supernet(tmp_path)
        net.temperature = 2.0
        net.theta.data.normal_()
        net.seed_noise(7)
        losses = net(images())
        noise = gumbel_noise(tuple(net.theta.shape), torch.Generator().manual_seed(7))
        m = gumbel_softmax(net.theta, noise, 2.0, net.valid)
        table = table_of(tiny_space(tmp_path), tmp_path / "table.json").matrix(net.space)
        latency = table.fixed_us + float(np.nansum(table.us * m.detach().numpy()))
        expected = float(losses["loss_cls"]) * 0.2 * math.log(latency) ** 0.6
        assert float(sum(losses.values())) == pytest.approx(expected, rel=1e-5)
        with net._gated([row[: len(v.choices)] for row, v in zip(m, net.space.variables)]):
            again = net.inner(images())
        assert float(again["loss_cls"]) == pytest.approx(float(losses["loss_cls"]), rel=1e-6)

    def gradient_of_latency(self, net, seed: int) -> torch.Tensor:
        """d(loss)/d(theta) through the latency alone: with the task's loss held constant."""
        net.zero_grad()
        net.seed_noise(seed)
        m, _ = net._sample(1)
        net.loss(torch.tensor(2.3), net.latency_of(m)).backward()
        return net.theta.grad.clone()

    def test_the_latency_term_has_a_gradient(self, tmp_path):
        """Promise 8: not zero, and equal to finite differences."""
        net = supernet(tmp_path).double()
        net.theta.data.normal_()

        def loss(theta) -> float:
            net.theta.data.copy_(theta)
            net.seed_noise(3)
            m, _ = net._sample(1)
            return float(net.loss(torch.tensor(2.3, dtype=torch.double), net.latency_of(m)))

        theta = net.theta.data.clone()
        found = self.gradient_of_latency(net, 3)
        assert (found[net.valid].abs() > 1e-6).all()
        for i, j in net.valid.nonzero().tolist():
            step = torch.zeros_like(theta)
            step[i, j] = 1e-2
            difference = (loss(theta + step) - loss(theta - step)) / 2e-2
            assert difference == pytest.approx(float(found[i, j]), rel=2e-3, abs=1e-4)

    def test_whole_gradient_equals_finite_differences(self, tmp_path):
        """Of the loss in a theta step, both factors together."""
        net = supernet(tmp_path)
        net.train_only(THETA)
        net.theta.data.normal_()
        theta = net.theta.data.clone()

        def loss(value) -> torch.Tensor:
            net.theta.data.copy_(value)
            net.seed_noise(5)
            return torch.stack(list(net(images(8)).values())).sum()

        loss(theta).backward()
        found = net.theta.grad.clone()
        for i, j in ((0, 1), (1, 0), (2, 2)):
            step = torch.zeros_like(theta)
            step[i, j] = 2e-2
            with torch.no_grad():
                difference = float(loss(theta + step) - loss(theta - step)) / 4e-2
            assert difference == pytest.approx(float(found[i, j]), rel=0.05, abs=2e-4)

    def test_a_stronger_weight_pulls_harder(self, tmp_path):
        gentle, strong = (supernet(tmp_path, "LATENCY.BETA", beta) for beta in (0.3, 1.2))
        slow = int(gentle.latency_us[2].argmax())
        pulls = []
        for net in (gentle, strong):
            net.theta.data.zero_()
            gradient = self.gradient_of_latency(net, 1)
            pulls.append(float(gradient[2, slow]) / float(net.loss(torch.tensor(2.3), torch.tensor(1000.0))))
        assert 0 < pulls[0] < pulls[1]

    def test_without_a_table_the_loss_is_the_task_s(self, tmp_path):
        losses = supernet(tmp_path, "LATENCY.TABLE", "")(images())
        assert float(losses["loss_latency"]) == 0.0


class TestSteps:
    def test_a_phase_moves_its_own_group_alone(self, tmp_path):
        net = supernet(tmp_path)
        for phase in (WEIGHTS, THETA):
            net.zero_grad()
            net.train_only(phase)
            torch.stack(list(net(images()).values())).sum().backward()
            has_grad = {name for name, p in net.named_parameters() if p.grad is not None}
            if phase == THETA:
                assert has_grad == {"theta"}
            else:
                assert "theta" not in has_grad and len(has_grad) == len(list(net.inner.parameters()))

    def test_frozen_stages_stay_frozen(self, tmp_path):
        net = supernet(tmp_path, "MODEL.FBNET.FREEZE_AT", 1)
        net.train_only(THETA)
        net.train_only(WEIGHTS)
        frozen = {name.split(".")[3] for name, p in net.inner.named_parameters() if not p.requires_grad}
        assert len(frozen) >= 1 and all(
            name.startswith("backbone.stages.0.") for name, p in net.inner.named_parameters() if not p.requires_grad
        )

    def test_single_path_runs_one_candidate_per_layer(self, tmp_path):
        net = supernet(tmp_path)
        net.single_path = True
        net.train_only(WEIGHTS)
        torch.stack(list(net(images()).values())).sum().backward()
        for block in net.mixed_blocks():
            used = [
                any(p.grad is not None for p in one.parameters()) for one in block.candidates if list(one.parameters())
            ]
            assert sum(used) <= 1
        net.train_only(THETA)  # theta's steps keep the mixture
        net.zero_grad()
        torch.stack(list(net(images()).values())).sum().backward()
        assert (net.theta.grad[net.valid] != 0).all()

    def test_noise_is_a_function_of_its_seed(self, tmp_path):
        net = supernet(tmp_path)
        found = []
        for seed in (1, 2, 1):
            net.seed_noise(seed)
            found.append(net._sample(3)[0])
        assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])

    def test_noise_per_image(self, tmp_path):
        net = supernet(tmp_path, "MODEL.SUPERNET.NOISE", "image")
        m, gates = net._sample(5)
        assert m.shape == (5, 3, 4) and gates[1].shape == (5, 2)
        assert len({tuple(row) for row in m[:, 0].tolist()}) == 5
        torch.stack(list(net(images(5)).values())).sum().backward()
        assert torch.isfinite(net.theta.grad).all() and (net.theta.grad[net.valid] != 0).all()

    @pytest.mark.parametrize("tau", [1e-3, 5.0])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_finite(self, tmp_path, tau, dtype):
        net = supernet(tmp_path)
        net.temperature = tau
        net.theta.data.normal_(std=30.0)
        net.train_only(THETA)
        with torch.autocast("cpu", dtype=dtype):
            losses = net(images(8))
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        total.backward()
        assert torch.isfinite(total) and torch.isfinite(net.theta.grad).all()

    def test_theta_that_is_not_finite_is_named(self, tmp_path):
        net = supernet(tmp_path)
        net.theta.data[1, 0] = math.nan
        with pytest.raises(FloatingPointError, match="sample of layer2 is not finite"):
            net(images())


def test_evaluation_runs_the_most_probable_architecture(tmp_path):
    net = supernet(tmp_path)
    net.theta.data.copy_(torch.tensor([[0.0, 3, 0, 9], [0, 1, 9, 9], [0, 0, 0, 2]]))  # 9: beyond the candidates
    assert net.argmax() == [1, 1, 3]
    with torch.no_grad(), net.eval().running([1, 1, 3]):
        expected = net.inner(images())
    found = net(images())
    assert all(torch.equal(a["scores"], b["scores"]) for a, b in zip(expected, found))


def test_checkpointing_changes_nothing_but_memory(tmp_path):
    results = []
    for keep in (False, True):
        net = supernet(tmp_path, "MODEL.SUPERNET.CHECKPOINT", keep)
        net.seed_noise(1)
        torch.stack(list(net(images()).values())).sum().backward()
        state = {name: p.grad.clone() for name, p in net.named_parameters()}
        results.append({**state, **{name: b.clone() for name, b in net.named_buffers()}})
    assert results[0].keys() == results[1].keys()
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-5, atol=1e-6)


def test_layers_that_the_model_lacks_are_an_error(tmp_path):
    with pytest.raises(SearchError, match="no place for layer3"):
        supernet(tmp_path, "MODEL.FBNET.OUT_FEATURES", "['trunk1']")


def test_channel_scaling(tmp_path):
    net = supernet(tmp_path, "MODEL.FBNET.WIDTH_MULT", 0.5, "LATENCY.TABLE", "")
    assert net.inner.backbone.output_shape()["trunk2"].channels == 8
    assert [row.out for row in net.space.arch([0, 0, 0]).stages[2].blocks] == [8]


def test_expected_latency_is_the_mean_over_architectures(tmp_path):
    net = supernet(tmp_path)
    net.theta.data.normal_()
    p = net.probabilities().detach()
    table = table_of(tiny_space(tmp_path), tmp_path / "table.json")
    total = 0.0
    for i in range(3):
        for j in range(2):
            for k in range(4):
                total += float(p[0, i] * p[1, j] * p[2, k]) * table.latency(net.space.arch([i, j, k])).total_us
    with EventStorage():
        assert float(net.expected_latency_us()) == pytest.approx(total, rel=1e-5)
