"""How parameters start: functions of (shape, rng) that return a float32 array.

Weights are (KH, KW, C, F) or (D, F), so fan-in, the inputs of one unit, is all axes but the last.
"""

import math

import numpy as np


def xavier(shape, rng):
    """U(-a, a) with a = sqrt(3 / fan_in): Caffe's `xavier`. Variance 1 / fan_in."""
    return uniform(math.sqrt(3 / math.prod(shape[:-1])), shape, rng)


def xavier_caffe2014(shape, rng):
    """`xavier` as Caffe computed it until March 2015 (BVLC/caffe #1575), when the paper was run.

    It took the whole weight count of a fully connected layer for its fan-in, so these layers
    started far too small: LeNet's fc1 at 0.0027 instead of 0.061.
    """
    fan_in = math.prod(shape) if len(shape) == 2 else math.prod(shape[:-1])
    return uniform(math.sqrt(3 / fan_in), shape, rng)


def uniform(bound, shape, rng):
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def constant(value):
    """A filler that ignores rng."""
    return lambda shape, rng: np.full(shape, value, np.float32)


zeros = constant(0.0)

FILLERS = {"xavier": xavier, "xavier-caffe2014": xavier_caffe2014}
