"""Nets from ONNX files: the same scores as onnxruntime's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import seeds
from tests.gradcheck import numerical_gradient, relative_error
from tests.onnx_models import EXPORTED, F32, images, imported, model, save, theirs


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


NETS = {
    "two_layers": ([None], ["sub", "conv", "relu", "fc"]),
    "lenet": ([None], ["conv1", "MaxPool", "conv2", "MaxPool_1", "fc1", "Relu", "fc2"]),
    "alexnet": (
        [None],
        [*(f"features.{i}" for i in range(8)), "classifier.1", "classifier.2", "classifier.3"],
    ),
    "alexnet_old": (
        [None],
        [*(f"features.{i}" for i in range(8)), "classifier.1", "classifier.2", "classifier.3"],
    ),
    "vgg": (
        [(16, 16, 3), (4, 5, 3), (33, 18, 3)],
        [
            "features.0",
            "features.1",
            "features.3",
            "features.4",
            "features.5",
            "features.7",
            "features.8",
            "avgpool",
            "fc",
        ],
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_pytorchs_files_give_the_scores_that_onnxruntime_gives(name):
    path = EXPORTED / f"{name}.onnx"
    sizes, names = NETS[name]
    for size in sizes:
        net = imported(path, size)
        assert list(net.layers) == names
        for N in [2] if name == "alexnet_old" else [1, 2, 5]:
            x = images(N, net.input_shape, seed=N)
            scores = net.bottom_up(x)
            expected = theirs(path, x)
            assert expected.std() > 1e-3
            ours = softmax(scores) if name == "vgg" else scores
            assert relative_error(ours, expected) < 1e-5


@pytest.mark.parametrize("name", NETS)
def test_derivatives_of_imported_nets(name):
    """Of one score in float64, along random directions: the nets have many pixels."""
    net = imported(EXPORTED / f"{name}.onnx", NETS[name][0][0]).to(dtype=np.float64)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, *net.input_shape))
    scores = net.bottom_up(x)
    dy = np.zeros_like(scores)
    dy[0, 2] = 1
    dx = net.top_down(dy)
    steps, where = np.zeros(5), rng.standard_normal((5, *x.shape))

    def score():
        return net.bottom_up(x + np.tensordot(steps, where, 1))[0, 2]

    along = (where * dx).sum(axis=(1, 2, 3, 4))
    assert relative_error(along, numerical_gradient(score, steps, 1e-7)) < 1e-5


class Chain:
    """A random chain as it is drawn: steps, constants, and the shape (C, H, W) or (D,) it gives."""

    def __init__(self, draw, opset):
        self.draw, self.opset = draw, opset
        self.rng = np.random.default_rng(draw(seeds))
        self.shape = (draw(st.integers(1, 4)), draw(st.integers(5, 9)), draw(st.integers(5, 9)))
        self.image = self.shape
        self.steps, self.constants = [], {}

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, np.float32)
        return name

    def random(self, *shape):
        return self.constant(self.rng.standard_normal(shape))

    def step(self, op, *inputs, **attributes):
        self.steps.append((op, ["", *inputs], attributes))

    def windows(self, pool):
        """Attributes of windows that onnxruntime takes; the new size is measured below."""
        draw, size = self.draw, self.shape[1:]
        kernel = [draw(st.integers(1, min(3, n))) for n in size]
        stride = [draw(st.integers(1, k if pool else 3)) for k in kernel]
        auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
        chosen = {"kernel_shape": kernel, "strides": stride, "auto_pad": auto}
        if any(s > k for s, k in zip(stride, kernel, strict=True)) and auto != "VALID":
            chosen["auto_pad"] = "NOTSET"  # onnxruntime refuses its own negative padding
        if chosen["auto_pad"] == "NOTSET":
            chosen["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
        if pool:
            chosen["ceil_mode"] = draw(st.integers(0, 1))
        return chosen

    def conv(self):
        C = self.shape[0]
        groups = self.draw(st.sampled_from([g for g in (1, 2, 3, 4) if C % g == 0]))
        F = groups * self.draw(st.integers(1, 3))
        chosen = self.windows(pool=False)
        w = self.random(F, C // groups, *chosen["kernel_shape"])
        self.step(
            "Conv", w, *[self.random(F)] * self.draw(st.integers(0, 1)), group=groups, **chosen
        )

    def pool(self):
        op = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
        chosen = self.windows(pool=True)
        if op == "AveragePool" and self.draw(st.booleans()):  # else the default: not to count
            chosen["count_include_pad"] = self.draw(st.integers(0, 1))
            if self.opset < 19:  # where older onnxruntimes count even what is past the padding
                chosen["ceil_mode"] = 0
        self.step(op, **chosen)

    def norm(self):
        C = self.shape[0]
        spread = [self.constant(self.rng.uniform(0.5, 2, C)) for _ in range(4)]
        self.step("BatchNormalization", *spread, epsilon=0.1)

    def arithmetic(self):
        op = self.draw(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
        ones = (1,) * (len(self.shape) - 1)
        shape = self.draw(
            st.sampled_from([(), (1,), (self.shape[0], *ones), (1, self.shape[0], *ones)])
        )
        inputs = ["", self.constant(self.rng.uniform(0.5, 2, shape))]
        if op != "Div" and self.draw(st.booleans()):
            inputs.reverse()
        self.steps.append((op, inputs, {}))

    def lrn(self):
        self.step("LRN", size=self.draw(st.sampled_from([1, 3, 5])), alpha=0.3, beta=0.6, bias=1.5)

    def small(self):
        for op in self.draw(st.sampled_from([["Relu"], ["Dropout"], ["Identity", "Relu"]])):
            self.step(op)

    def gemm(self):
        (D,), F, draw = self.shape, self.draw(st.integers(1, 4)), self.draw
        if draw(st.booleans()):
            self.step("MatMul", self.random(D, F))
        else:
            turned = draw(st.integers(0, 1))
            bias = [self.random(*draw(st.sampled_from([(F,), (1, F), (1,)])))] * draw(
                st.integers(0, 1)
            )
            w = self.random(F, D) if turned else self.random(D, F)
            self.step("Gemm", w, *bias, transB=turned, alpha=0.7, beta=1.3)

    def flatten(self):
        D = int(np.prod(self.shape))
        self.constants["target"] = np.array(self.draw(st.sampled_from([[0, -1], [-1, D]])))
        self.step(*self.draw(st.sampled_from([("Flatten",), ("Reshape", "target")])))


@st.composite
def chains(draw):
    """A net of images, and then perhaps of flat numbers."""
    chain = Chain(draw, draw(st.sampled_from([11, 13, 17, 20])))
    kinds = ["conv", "conv", "pool", "norm", "arithmetic", "lrn", "small"]

    def grow(kind):
        getattr(chain, kind)()
        chain.shape = measured(chain)

    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=5)):
        grow(kind)
    if draw(st.booleans()):
        chain.step("GlobalAveragePool")
        chain.shape = measured(chain)
    if draw(st.booleans()):
        grow("flatten")
        ahead = draw(st.lists(st.sampled_from(["norm", "arithmetic"]), max_size=2))
        for kind in [*ahead, "gemm"]:
            grow(kind)
        for kind in draw(st.lists(st.sampled_from(["norm", "arithmetic", "small"]), max_size=2)):
            grow(kind)
        # What scales flat numbers can only be part of a Gemm before or after it.
        grow("gemm")
    return chain


def measured(chain):
    """The shape that onnxruntime gives after the last step."""
    C, H, W = chain.image
    whole = model(chain.steps, ("N", C, "H", "W"), chain.opset, **chain.constants)
    *size, channels = theirs(whole.SerializeToString(), np.zeros((1, H, W, C), F32)).shape[1:]
    return (channels, *size)


@given(chain=chains())
def test_random_chains_give_the_scores_that_onnxruntime_gives(tmp_path_factory, chain):
    path = tmp_path_factory.getbasetemp() / "random.onnx"
    C, H, W = chain.image  # open in the file: ONNX's own inference of sizes is not exact
    save(path, chain.steps, ("N", C, "H", "W"), chain.opset, **chain.constants)
    net = imported(path, (H, W, C))
    x = images(3, net.input_shape)
    expected = theirs(path, x)
    if expected.shape[1:3] == (1, 1):  # scores are flat for us
        expected = expected.reshape(len(x), -1)
    y = net.bottom_up(x)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
