"""Networks in runtimes: what runs, under which conditions, and where its time goes."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from fbnet_plugin.arch import get_arch, load_space
from fbnet_plugin.latency import LatencyError, arch_operators
from fbnet_plugin.latency.measure import runners
from fbnet_plugin.latency.measure.network import Classifier, build_network, single_layers
from fbnet_plugin.latency.measure.options import Options
from fbnet_plugin.latency.measure.runners import TorchRunner, make_runner, wall_times

SPACE = load_space("fbnet_cifar")
# Every kind of operator of the two papers: stem, strides, groups and shuffle, skip, SE, pooling head.
ARCHS = {
    "fbnet": (SPACE.arch([index % 9 for index in range(22)]), 32),
    "fbnet_v3": (get_arch("fbnet_v3_a"), 64),
}


def network_of(name: str, options: Options):
    arch, resolution = ARCHS[name]
    return build_network(arch, options, resolution)


@pytest.mark.parametrize("name", ARCHS)
def test_network_has_the_operators_of_its_architecture(name) -> None:
    arch, resolution = ARCHS[name]
    network = network_of(name, Options(batch_size=2))
    assert network.operators == tuple(operator for _, operator in arch_operators(arch, resolution))
    assert network.input.shape == (2, 3, resolution, resolution)
    x = network.input
    for operator, layer in zip(network.operators, network.layers):
        assert x.shape[1:] == operator.input, operator
        x = layer(x)
    assert x.shape == (2, arch.head.num_classes)


def test_network_is_in_eval_mode_without_gradients_in_the_options_dtype_and_format() -> None:
    network = network_of("fbnet", Options(dtype="bfloat16", channels_last=True))
    assert not any(module.training for module in network.layers.modules())
    assert not any(parameter.requires_grad for parameter in network.layers.parameters())
    assert {p.dtype for p in network.layers.parameters()} == {network.input.dtype} == {torch.bfloat16}
    assert network.input.is_contiguous(memory_format=torch.channels_last)


def test_no_layer_is_the_identity_because_its_last_norm_starts_at_zero() -> None:
    network = network_of("fbnet_v3", Options())
    norms = [module for module in network.layers.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all((norm.weight != 0).all() for norm in norms)


class Spy(nn.Module):
    """Doubles its input, and notes under which conditions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append((self.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return 2 * x


def test_layers_run_warm_in_inference_mode_and_only_timed_runs_are_given() -> None:
    network = network_of("fbnet", Options())
    spies = nn.ModuleList([Spy(), Spy()]).eval()
    network = network._replace(layers=spies, operators=network.operators[:2])
    times = TorchRunner(network, Options()).layer_times(runs=4, warmup=3)
    assert times.shape == (4, 2) and (times > 0).all()
    assert spies[0].calls == [(False, False, True)] * 7


def test_layer_times_follow_the_clock(monkeypatch) -> None:
    clock = [0.0]

    class Slow(nn.Module):
        def __init__(self, seconds: float):
            super().__init__()
            self.seconds = seconds

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            clock[0] += self.seconds
            return x

    monkeypatch.setattr(runners, "timer", lambda: clock[0])
    network = network_of("fbnet", Options())
    layers = nn.ModuleList([Slow(3e-6), Slow(5e-6), Slow(0.0)])
    runner = TorchRunner(network._replace(layers=layers, operators=network.operators[:3]), Options())
    np.testing.assert_allclose(runner.layer_times(2, 1), [[3, 5, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(wall_times(runner, 3, 1), [8, 8, 8], atol=1e-6)


def test_whole_time_is_near_the_sum_of_the_layers() -> None:
    runner = TorchRunner(network_of("fbnet_v3", Options()), Options())
    us, runs = runner.whole_time(0.05, warmup=3)
    total = np.median(runner.layer_times(15, 3).sum(axis=1))
    assert runs >= 1 and 0.5 < us / total < 2, (us, total)


def test_single_layers_take_the_right_inputs() -> None:
    options = Options()
    network = network_of("fbnet_v3", options)
    singles = single_layers(network, options)
    assert [single.operators for single in singles] == [(operator,) for operator in network.operators]
    for single in singles:
        make_runner(single, options).run()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gpu_layer_times_add_up(dtype) -> None:
    options = Options(device="cuda", dtype=dtype).check()
    runner = make_runner(network_of("fbnet_v3", options), options)
    total = np.median(runner.layer_times(20, 10).sum(axis=1))
    us, _ = runner.whole_time(0.1, warmup=5)
    assert 0.5 < us / total < 2, (us, total)


def test_compiled_layers_have_code_of_their_own(monkeypatch) -> None:
    """Else PyTorch would look for each in a list of all blocks of its class."""
    seen = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: seen.append((function, options)) or function)
    network = network_of("fbnet", Options())
    TorchRunner(network, Options(runtime="compile")).layer_times(1, 0)
    codes = [function.__code__ for function, _ in seen]
    assert len({id(code) for code in codes}) == len(codes) == len(network.layers)
    assert all(options == {"fullgraph": True, "dynamic": False} for _, options in seen)
    x = torch.ones(1, 16, 32, 32)
    for (function, _), layer in zip(seen[1:2], network.layers[1:2]):
        assert torch.equal(function(x), layer(x))


class TestOnnxRuntime:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")

    @pytest.mark.parametrize("name", ARCHS)
    def test_exported_network_computes_the_same(self, name) -> None:
        import onnxruntime

        from fbnet_plugin.latency.measure.onnx_runner import export

        network = network_of(name, Options())
        session = onnxruntime.InferenceSession(export(network), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"image": network.input.numpy()})
        with torch.inference_mode():
            expected = nn.Sequential(*network.layers)(network.input).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())

    @pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime-int8"])
    @pytest.mark.parametrize("name", ARCHS)
    def test_every_layer_that_computes_has_its_time(self, name, runtime) -> None:
        options = Options(runtime=runtime)
        network = network_of(name, options)
        runner = make_runner(network, options)
        try:
            times = runner.layer_times(15, 3)
        except LatencyError as error:
            if runtime == "onnxruntime":
                raise
            pytest.skip(str(error))  # an old version
        assert times.shape == (15, len(network.operators))
        medians = np.median(times, axis=0)
        idle = [index for index, operator in enumerate(network.operators) if operator.is_identity]
        busy = [index for index in range(len(medians)) if index not in idle]
        assert (medians[busy] > 0).all(), [str(network.operators[index]) for index in busy if medians[index] <= 0]
        shares = []
        for _ in range(3):  # of which the machine may have changed its speed within one
            sums = runner.layer_times(15, 3).sum(axis=1)
            shares.append(np.median(sums) / np.median(wall_times(runner, 15, 3)))
        assert 0.6 < np.median(shares) < 1.6

    def test_sessions_do_not_run_beside_each_other(self, monkeypatch, tmp_path) -> None:
        """Their idle threads spin for a while; beside the profiled session they double the times of two threads."""
        from fbnet_plugin.latency.measure.onnx_runner import OnnxRunner

        network = network_of("fbnet", Options())
        alive: "weakref.WeakSet[Session]" = weakref.WeakSet()

        class Session:
            def run(self, outputs, feed) -> None:
                pass

            def end_profiling(self) -> str:
                layers = [event(f"/layers.{index}/Conv_kernel_time", 5.0) for index in range(len(network.operators))]
                path = tmp_path / "profile.json"
                path.write_text(json.dumps([*layers, event("model_run", 5, "Session")] * 4))
                return str(path)

        def open_session(self, profile: str = "") -> Session:
            assert not alive
            session = Session()
            alive.add(session)
            return session

        monkeypatch.setattr(OnnxRunner, "_open", open_session)
        runner = OnnxRunner(network, Options(runtime="onnxruntime"))
        for _ in range(2):
            assert runner.layer_times(3, 1).shape == (3, len(network.operators))
            runner.run()

    def test_a_convolution_without_a_name_is_refused(self) -> None:
        from fbnet_plugin.latency.measure.onnx_runner import check_named

        named = {**event("/layers.4/conv/Conv_kernel_time", 5.0), "args": {"op_name": "Conv"}}
        moved = {**event("ReorderInput_token_3_kernel_time", 2.0), "args": {"op_name": "ReorderInput"}}
        check_named([named, moved, event("model_run", 60.0, "Session")])
        with pytest.raises(LatencyError, match="which layer QLinearConv_token_9.* --method isolated"):
            check_named([{**event("QLinearConv_token_9_kernel_time", 9.0), "args": {"op_name": "QLinearConv"}}])

    def test_int8_network_runs_in_int8(self) -> None:
        import onnxruntime

        from fbnet_plugin.latency.measure.onnx_runner import export, quantize

        network = network_of("fbnet", Options())
        plain = export(network)
        model = quantize(plain, network)
        assert len(model) < 0.5 * len(plain)
        sessions = [onnxruntime.InferenceSession(one, providers=["CPUExecutionProvider"]) for one in (plain, model)]
        first, second = (session.run(None, {"image": network.input.numpy()})[0] for session in sessions)
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.5
        assert not np.array_equal(first, second)


def event(name: str, us: float, kind: str = "Node") -> dict:
    return {"cat": kind, "name": name, "dur": us}


def test_profile_is_added_up_by_layer() -> None:
    from fbnet_plugin.latency.measure.onnx_runner import layer_times

    run = [
        event("/layers.0/conv/Conv_output_0_nchwc_kernel_time", 10),
        event("/layers.0/conv/Conv_fence_before", 99),
        event("ReorderOutput_token_3_kernel_time", 2),  # asked for by layer 2
        event("/layers.2/expand/conv/Conv_kernel_time", 20),
        event("/layers.12/Add_kernel_time", 5),
        event("layers.2.bias_DequantizeLinear_kernel_time", 1),
        event("Transpose_token_9_kernel_time", 3),  # behind the last: of the last
        event("model_run", 60, "Session"),
    ]
    times, nodes = layer_times([event("session_initialization", 500, "Session"), *run, *run], 13)
    assert times.shape == (2, 13)
    assert {index: us for index, us in enumerate(times[1]) if us} == {0: 10, 2: 26, 12: 5}
    assert nodes.tolist() == [1, 0, 4, *[0] * 9, 1]


def test_profile_without_layer_names_is_an_error() -> None:
    from fbnet_plugin.latency.measure.onnx_runner import layer_times

    with pytest.raises(LatencyError, match="names no layer"):
        layer_times([event("Conv_0_kernel_time", 1), event("model_run", 1, "Session")], 2)


def test_the_profilers_own_cost_is_taken_off_by_node() -> None:
    from fbnet_plugin.latency.measure.onnx_runner import without_profiler

    nodes = np.array([1.0, 3.0, 0.0])
    np.testing.assert_allclose(without_profiler(np.array([[14.0, 62.0, 0.0]] * 3), nodes, 60.0), [[10, 50, 0]] * 3)
    slower = without_profiler(np.array([[4.0, 96.0, 0.0]]), nodes, 40.0)  # 15 µs per node: more than the first took
    assert (slower[0, :2] > 0).all() and slower.sum() == pytest.approx(40)


def test_classifier_pools_and_projects() -> None:
    layer = Classifier(3, 2)
    x = torch.randn(4, 3, 5, 7)
    expected = x.mean((2, 3)) @ layer.fc.weight.T + layer.fc.bias
    torch.testing.assert_close(layer(x), expected)
