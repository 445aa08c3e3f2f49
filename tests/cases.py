"""Geometries for layers, drawn so that all are valid, with parameters; a small net of all kinds."""

import numpy as np
from hypothesis import strategies as st

from nn.conv import Conv
from nn.dropout import Dropout
from nn.join import Add, Concat
from nn.linear import Linear
from nn.network import Network
from nn.pool import MaxPool
from nn.relu import ReLU
from nn.sgd import SGD

seeds = st.integers(0, 2**32 - 1)


@st.composite
def axis(draw, pool=False, dilation=1):
    """(size, kernel, stride, (before, after)) built from the output size, so that all are valid."""
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    most = kernel - 1 if pool else 2
    pads = (draw(st.integers(0, most)), draw(st.integers(0, most)))
    reach = (kernel - 1) * dilation + 1
    size = (draw(st.integers(1, 4)) - 1) * stride + reach - sum(pads)
    size += draw(st.integers(0, stride - 1))  # pixels that no window reaches
    return (
        max(size, 1 if sum(pads) + 1 >= reach else reach - sum(pads)),
        kernel,
        stride,
        pads,
    )


@st.composite
def pool_case(draw, make=MaxPool):
    (H, KH, SH, ph), (W, KW, SW, pw) = draw(axis(pool=True)), draw(axis(pool=True))
    layer = make((KH, KW), (SH, SW), (ph, pw), ceil=draw(st.booleans()))
    shape = (draw(st.integers(1, 2)), H, W, draw(st.integers(1, 3)))
    return layer, shape, np.random.default_rng(draw(seeds))


def set_params(layer, shape, rng):
    layer.initialize(shape[1:], rng)
    for name, w in layer.params.items():
        layer.params[name] = rng.standard_normal(w.shape)


def small_net(seed=0, dropout=None):
    layers = [
        ("conv1", Conv(4, 3, pad=1)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(2, 2)),
        ("conv2", Conv(6, 3, groups=2)),
        ("pool2", MaxPool(3, 2)),
        ("fc1", Linear(12)),
        ("relu2", ReLU()),
        ("fc2", Linear(5)),
    ]
    if dropout:
        layers.insert(7, ("drop", Dropout(dropout)))
    return Network(layers, (12, 14, 2), np.random.default_rng(seed))


def branched_net(seed=0):
    """A residual block, a fire module, and two convolutions of the image itself."""
    layers = [
        ("left", Conv(4, 3, pad=1)),
        ("right", Conv(4, 1), "image"),
        ("start", Add(), "left", "right"),
        ("relu1", ReLU()),
        ("conv2", Conv(4, 3, pad=1)),
        ("relu2", ReLU()),
        ("conv3", Conv(4, 3, pad=1)),
        ("sum", Add(), "conv3", "relu1"),
        ("relu3", ReLU()),
        ("pool3", MaxPool(2, 2)),
        ("squeeze", Conv(2, 1)),
        ("relu4", ReLU()),
        ("wide", Conv(3, 1), "relu4"),
        ("wider", Conv(3, 3, pad=1), "relu4"),
        ("both", Concat(), "wide", "wider"),
        ("relu5", ReLU()),
        ("conv6", Conv(4, 2)),
        ("pool6", MaxPool((3, 2), 1)),
        ("fc", Linear(5)),
    ]
    rng = np.random.default_rng(seed)
    net = Network(layers, (8, 9, 2), rng)
    for name, w in net.params().items():
        if name.endswith(".b"):  # not 0: a dead pixel would be at the kink of the next ReLU
            w[...] = rng.standard_normal(w.shape)
    return net


def check_learning_from_fc1(engine):
    """What runs small_net() learns from its layer fc1 as the net itself does, and fc2 stays."""
    net = small_net()
    sgds = [SGD(each, weight_decay=0.1) for each in (net, engine.network)]
    x = np.random.default_rng(3).standard_normal((40, 12, 14, 2)).astype(np.float32)
    before = net.params()["fc2.w"].copy()
    for _ in range(3):
        for each, sgd in zip((net, engine), sgds, strict=True):
            y = each.bottom_up(x, to="fc1", train=True)
            each.learn(np.ones_like(y), sgd, 0.1)
    for name, w in net.params().items():
        np.testing.assert_allclose(engine.network.params()[name], w, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(engine.network.params()["fc2.w"], before)
