"""Every activation against its formula for single numbers, and against finite differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fast.cpu import CPU
from fast.cpu.pointwise import KeptSiLU
from fast.engine import Engine, Plain
from nn.activations import (
    ELU,
    GELU,
    Clip,
    HardSwish,
    LeakyReLU,
    PReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    TanhGELU,
)
from nn.backend import erf, to_host
from nn.join import Concat
from nn.network import Network
from tests import naive
from tests.cases import seeds, set_params
from tests.gradcheck import SMOOTH, away_from_kinks, layer_errors
from tests.on_device import OnDevice

MAKE = {
    "leaky": lambda: LeakyReLU(0.2),
    "elu": lambda: ELU(0.7),
    "relu6": lambda: Clip(0, 6),
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "softplus": Softplus,
    "silu": SiLU,
    "hard swish": HardSwish,
    "gelu": GELU,
    "tanh gelu": TanhGELU,
}
SHAPES = st.tuples(*[st.integers(1, 4)] * 4)


@pytest.mark.parametrize("name", MAKE)
@given(seed=seeds, shape=SHAPES)
def test_activation(xp, name, seed, shape):
    rng = np.random.default_rng(seed)
    x = away_from_kinks(shape, rng)  # kinks are at multiples of 1/8
    layer = OnDevice(MAKE[name](), xp)
    expected = np.vectorize(naive.ACTIVATIONS[name], otypes=[float])(x)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-13, atol=1e-15)
    assert layer_errors(layer, x, rng, SMOOTH)["x"] < 1e-7


@given(seed=seeds, shape=SHAPES, shared=st.booleans(), flat=st.booleans())
def test_prelu(xp, seed, shape, shared, flat):
    rng = np.random.default_rng(seed)
    x = away_from_kinks(shape, rng)
    x = x.reshape(len(x), -1) if flat else x
    layer = PReLU(shared)
    set_params(layer, x.shape, rng)
    layer = OnDevice(layer, xp)
    a = np.broadcast_to(layer.params["a"], x.shape)
    expected = np.vectorize(naive.ACTIVATIONS["prelu"], otypes=[float])(x, a)
    np.testing.assert_array_equal(layer.forward(x), expected)
    assert max(layer_errors(layer, x, rng).values()) < 1e-10


@pytest.mark.parametrize("name", [*MAKE, "prelu"])
def test_large_numbers_overflow_nowhere(xp, name):
    """A sampler can lead a net's numbers anywhere."""
    layer = PReLU() if name == "prelu" else MAKE[name]()
    layer.initialize((1,), np.random.default_rng(0))
    layer.params = {key: xp.asarray(a) for key, a in layer.params.items()}
    x = xp.asarray([[-1e4], [-100], [0], [100], [1e4]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        y, dx = layer.forward(x), layer.backward(xp.ones_like(x))
    assert y.dtype == dx.dtype == np.float32
    assert np.isfinite(to_host(y)).all()
    assert np.isfinite(to_host(dx)).all()


def test_erf(xp):
    """Values of Abramowitz and Stegun, table 7.1."""
    x = xp.asarray([-0.5, 0, 0.5, 1, 2])
    table = [-0.5204998778, 0, 0.5204998778, 0.8427007929, 0.9953222650]
    np.testing.assert_allclose(to_host(erf(x)), table, rtol=1e-10)


def test_clip_of_one_side_and_of_none():
    x = np.array([-7.0, 0, 9])
    np.testing.assert_array_equal(Clip(low=-1).forward(x), [-1, 0, 9])
    np.testing.assert_array_equal(Clip(high=1).forward(x), [-7, 0, 1])
    with pytest.raises(ValueError, match="at least 2 and at most 1"):
        Clip(2, 1)


def test_nothing_passes_at_the_ends_of_a_clip():
    layer = Clip(0, 6)
    layer.forward(np.array([0.0, 3, 6]))
    np.testing.assert_array_equal(layer.backward(np.ones(3)), [0, 1, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_engine_runs_them_as_the_textbook(dtype):
    """All of them side by side, above a PReLU of either kind, with gradients."""
    table = [(name, make(), "one") for name, make in MAKE.items()]
    layers = [("each", PReLU()), ("one", PReLU(shared=True)), *table, ("all", Concat(), *MAKE)]
    rng = np.random.default_rng(0)
    net = Network(layers, (3, 4, 2), rng).to(np, dtype)
    run = Engine(net.up_to(net.last), CPU)
    x = rng.standard_normal((2, 3, 4, 2)).astype(dtype)
    dy = rng.standard_normal((2, *net.shapes["all"])).astype(dtype)
    grads, expected = {}, {}
    close = {"rtol": 4 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}  # of KeptSiLU
    np.testing.assert_allclose(run.bottom_up(x), net.bottom_up(x), **close)
    np.testing.assert_allclose(run.top_down(dy, grads), net.top_down(dy, expected), **close)
    assert {type(step.form) for step in run.steps} == {Plain, KeptSiLU}
    assert grads.keys() == expected.keys() == {"each.a", "one.a"}
    for name, grad in expected.items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-5 if dtype == np.float32 else 1e-13)
