"""Geometries for layers, drawn so that all are valid, and parameters to go with them."""

import numpy as np
from hypothesis import strategies as st

from nn.pool import MaxPool

seeds = st.integers(0, 2**32 - 1)


@st.composite
def axis(draw, pool=False):
    """(size, kernel, stride, (before, after)) built from the output size, so that all are valid."""
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    most = kernel - 1 if pool else 2
    pads = (draw(st.integers(0, most)), draw(st.integers(0, most)))
    size = (draw(st.integers(1, 4)) - 1) * stride + kernel - sum(pads)
    size += draw(st.integers(0, stride - 1))  # pixels that no window reaches
    return (
        max(size, 1 if sum(pads) + 1 >= kernel else kernel - sum(pads)),
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
