"""Local response normalisation against loops and finite differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.lrn import LRN
from tests import naive
from tests.cases import seeds
from tests.gradcheck import SMOOTH, layer_errors, relative_error
from tests.on_device import OnDevice


@given(
    seed=seeds,
    shape=st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 5), st.integers(1, 7)),
    size=st.sampled_from([1, 3, 5, 7]),
    across=st.booleans(),
    alpha=st.sampled_from([1e-4, 0.5, 2.0]),
    beta=st.sampled_from([0.5, 0.75, 1.0]),
    k=st.sampled_from([1.0, 2.0]),
)
def test_lrn_equals_loops_and_finite_differences(xp, seed, shape, size, across, alpha, beta, k):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    layer = OnDevice(LRN(size, alpha, beta, k, across), xp)
    assert relative_error(layer.forward(x), naive.lrn(x, size, alpha, beta, k, across)) < 1e-13
    assert layer_errors(layer, x, rng, SMOOTH)["x"] < 1e-7


def test_lrn_by_hand(xp):
    x = np.array([1.0, 2, 3]).reshape(1, 1, 1, 3)
    across = OnDevice(LRN(3, alpha=3.0, beta=1.0), xp).forward(x)
    np.testing.assert_allclose(across.ravel(), [1 / 6, 2 / 15, 3 / 14])
    within = OnDevice(LRN(3, alpha=9.0, beta=1.0, across=False), xp)
    np.testing.assert_allclose(
        within.forward(x.reshape(1, 3, 1, 1)).ravel(), [1 / 6, 2 / 15, 3 / 14]
    )


def test_a_neighbourhood_has_a_middle():
    with pytest.raises(ValueError, match="odd size, got 4"):
        LRN(4)
