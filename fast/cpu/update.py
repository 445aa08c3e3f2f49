"""The step of SGD, a few rows of a parameter at a time, so that they stay in the cache."""

import numpy as np

from fast.cpu.linear import Factors
from fast.room import Room

CHUNK = 2**15  # numbers of a parameter at a time
PRODUCT = 2**17  # the same where the gradient comes as Factors

room = Room()  # for the rows of a product


def sgd_step(sgd, grads, lr):
    """sgd.step(grads, lr); the arrays of grads are used up, and may be Factors."""
    for name, g in grads.items():
        update_rows(sgd, name, slice(None), [g], lr)


def update_rows(sgd, name, rows, grads, lr):
    """Update some rows of a parameter, such as "conv1.w".

    grads: arrays of the parameter's shape, whose sum is its gradient (the first is used up), or a
    single Factors.
    """
    w, V, lr_mult, decay = sgd.parts_of(name)
    w, V, rate = w[rows], V[rows], lr * lr_mult
    factors = grads[0].rows(rows) if isinstance(grads[0], Factors) else None
    grads = [] if factors else [g[rows] for g in grads]
    numbers = PRODUCT if factors else CHUNK
    at_once = max(1, numbers * len(w) // max(1, w.size))
    for start in range(0, len(w), at_once):
        some = slice(start, start + at_once)
        if factors:
            g = factors.rows(some).product(room)
        else:
            g, *others = (g[some] for g in grads)
            for other in others:
                g += other
        some_w, some_V = w[some], V[some]
        some_V *= sgd.momentum
        g *= rate
        some_V += g
        some_V += np.multiply(some_w, rate * decay, out=g)
        some_w -= some_V


def sum_rows(total, rows, grads):
    """Put some rows of the gradient that `grads`, as of update_rows, add up to into total."""
    if isinstance(grads[0], Factors):
        some = grads[0].rows(rows)
        np.matmul(some.x.T, some.dy, out=total[rows])
        return
    total[rows] = grads[0][rows]
    for other in grads[1:]:
        total[rows] += other[rows]
