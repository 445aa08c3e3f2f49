"""Tiny nets as people have them, by both exporters of PyTorch: PyTorch's scores and df/dx."""

import numpy as np
import onnx
import pytest

from fast import engine
from fast.cpu import CPU
from fast.cpu.team import Team
from fast.engine import Engine
from nn.sgd import SGD
from tests.gradcheck import relative_error
from tests.onnx_models import EXPORTED, imported

FILES = sorted((EXPORTED / "zoo").glob("*.onnx"))
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
X = np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "engine"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scores_and_derivatives_are_pytorchs(path, plain):
    with np.load(EXPORTED / "zoo.npz") as arrays:
        name = path.stem.removesuffix("_old")
        expected, dx = arrays[f"{name}.scores"], arrays[f"{name}.dx"].transpose(0, 2, 3, 1)
    assert expected.std(axis=0).mean() > 1e-3
    run = engine(imported(path), plain=plain)
    assert relative_error(run.bottom_up(X), expected) < 1e-5
    dy = np.random.default_rng(1).standard_normal(expected.shape, np.float32)
    assert relative_error(run.top_down(dy), dx) < 1e-5


@pytest.mark.parametrize("name", ["preluresnet", "densenet", "mobilenet", "dilated", "gelu"])
def test_processes_and_the_engine_learn_what_the_textbook_learns(name):
    nets = [imported(EXPORTED / "zoo" / f"{name}.onnx").to(np, np.float64) for _ in range(3)]
    runs = [nets[0], Engine(nets[1], CPU), Team(nets[2], CPU, 2)]
    rules, rng = [SGD(net) for net in nets], np.random.default_rng(0)
    for count in (20, 3, 33):
        x, dy = rng.standard_normal((count, 16, 16, 3)), rng.standard_normal((count, 5)) / count
        for run, sgd in zip(runs, rules, strict=True):
            run.bottom_up(x, train=True)
            run.learn(dy, sgd, 0.01)
    for key, w in nets[0].params().items():
        for net in nets[1:]:
            np.testing.assert_allclose(net.params()[key], w, rtol=1e-9, atol=1e-12)


def test_the_zoo_has_each_operator_three_times():
    wanted = {
        *("Conv", "Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "Softplus", "Clip"),
        *("Gelu", "HardSwish", "Add", "Mul", "Concat", "BatchNormalization", "Gemm", "MaxPool"),
        *("GlobalAveragePool", "ReduceMean", "ReduceMax", "Reshape", "Flatten"),
    }
    found = [{node.op_type for node in onnx.load(path).graph.node} for path in FILES]
    for op in wanted:
        assert sum(op in ops for ops in found) >= 3, op
