"""ReLU, SiLU and local response normalisation in kept memory."""

import numpy as np

from fast.engine import Form
from nn.activations import SiLU
from nn.lrn import LRN
from nn.relu import ReLU

CHUNK = 2**14  # numbers of a SiLU at a time
LARGEST = 80.0  # exp of it is finite in float32, and 1 / (1 + exp of it) is 0 beside 1


class KeptReLU(Form):
    takes = (ReLU,)

    def __init__(self, names, layers, shapes, job, room):
        self.y, self.dx = (room.get(name, shapes[0], job[0]) for name in ("y", "dx"))
        self.positive = room.get("positive", shapes[0], bool)

    def forward(self, x):
        np.greater(x, 0, out=self.positive)
        return np.maximum(x, 0, out=self.y)

    def backward(self, dy, grads, input_grad):
        return np.multiply(dy, self.positive, out=self.dx) if input_grad else None


class KeptSiLU(Form):
    """y = x s and dy/dx = s + y - y s, s = 1 / (1 + exp(-x)), for so many numbers at a time that
    they stay in the cache. NumPy's exp is faster than its tanh."""

    takes = (SiLU,)

    def __init__(self, names, layers, shapes, job, room):
        self.shape = shapes[0]
        arrays = [room.get(name, self.shape, job[0]) for name in ("y", "dx", "slope")]
        self.y, self.dx, self.slope = arrays
        size = self.y.size
        self.parts = [slice(i, min(i + CHUNK, size)) for i in range(0, size, CHUNK)]
        self.ys = room.get("ys", (min(CHUNK, size),), job[0])

    def forward(self, x):
        x, y, slope = (a.reshape(-1) for a in (x, self.y, self.slope))
        for part in self.parts:
            s, product = slope[part], y[part]
            np.negative(x[part], out=s)
            np.minimum(s, LARGEST, out=s)
            np.exp(s, out=s)
            s += 1
            np.reciprocal(s, out=s)
            np.multiply(x[part], s, out=product)
            ys = np.multiply(product, s, out=self.ys[: len(s)])
            s += product
            s -= ys
        return self.y

    def backward(self, dy, grads, input_grad):
        return np.multiply(dy, self.slope, out=self.dx) if input_grad else None


class KeptLRN(Form):
    """The sums of nn/lrn.py; s^-beta is kept for the backward pass."""

    takes = (LRN,)

    def __init__(self, names, layers, shapes, job, room):
        self.lrn = layers[0]
        names = "squares", "s", "power", "y", "dx", "spread", "along"
        arrays = [room.get(name, shapes[0], job[0]) for name in names]
        self.squares, self.s, self.power, self.y, self.dx, self.spread, self.along = arrays

    def forward(self, x):
        lrn, self.x = self.lrn, x
        s = self.neighbour_sum(np.multiply(x, x, out=self.squares), self.s)
        s *= lrn.alpha / lrn.neighbours
        s += lrn.k
        np.power(s, -lrn.beta, out=self.power)
        return np.multiply(x, self.power, out=self.y)

    def backward(self, dy, grads, input_grad):
        if not input_grad:
            return None
        lrn = self.lrn
        ratio = np.multiply(dy, self.y, out=self.squares)
        ratio /= self.s
        spread = self.neighbour_sum(ratio, self.spread)
        spread *= self.x
        spread *= 2 * lrn.alpha * lrn.beta / lrn.neighbours
        dx = np.multiply(dy, self.power, out=self.dx)
        dx -= spread
        return dx

    def neighbour_sum(self, a, out):
        if self.lrn.across:
            return self.sum_along(a, 3, out)
        return self.sum_along(self.sum_along(a, 1, self.along), 2, out)

    def sum_along(self, a, axis, out):
        out[...] = a
        for distance in range(1, min(self.lrn.size // 2, a.shape[axis] - 1) + 1):
            low = (slice(None),) * axis + (slice(None, -distance),)
            high = (slice(None),) * axis + (slice(distance, None),)
            out[low] += a[high]
            out[high] += a[low]
        return out
