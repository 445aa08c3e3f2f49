"""Local response normalisation: each number is divided by the size of its neighbours."""

import numpy as np

from nn import kernels
from nn.backend import array_module
from nn.layer import Layer


class LRN(Layer):
    """y = x s^-beta; s = k + alpha * (mean of x^2 over the neighbours), zeros beyond the border.

    across=True: the neighbours are `size` channels at the same pixel (Krizhevsky et al., 2012,
    with Caffe's alpha / size); else the size x size pixels of the same channel (Caffe's
    WITHIN_CHANNEL). x and y (N, H, W, C).
    With M the number of neighbours and sums over those j that have i as a neighbour,
    dx_i = dy_i s_i^-beta - (2 alpha beta / M) x_i sum_j dy_j y_j / s_j.
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=1.0, across=True):
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"the neighbourhood must be of odd size, got {size}")
        self.size, self.alpha, self.beta, self.k, self.across = size, alpha, beta, k, across
        self.neighbours = size if across else size**2

    def forward(self, x, train=False):
        xp = array_module(x)
        get = self.buffers.get
        if xp is not np:
            self.x = xp.ascontiguousarray(x)
            self.scale, self.power, self.y = (get(n, x.shape, x.dtype, xp) for n in "spy")
            share = self.alpha / self.neighbours
            kernels.lrn(
                self.x,
                self.scale,
                self.power,
                self.y,
                self.size,
                self.across,
                share,
                self.beta,
                self.k,
            )
            return self.y
        squares = xp.multiply(x, x, out=get("squares", x.shape, x.dtype, xp))
        scale = self.neighbour_sum(squares, "scale")
        scale *= self.alpha / self.neighbours
        scale += self.k
        power = xp.power(scale, -self.beta, out=get("power", x.shape, x.dtype, xp))
        y = xp.multiply(x, power, out=get("y", x.shape, x.dtype, xp))
        self.x, self.scale, self.power, self.y = x, scale, power, y
        return y

    def backward(self, dy, param_grads=True, input_grad=True):
        xp = array_module(dy)
        get = self.buffers.get
        if xp is not np:
            dx = get("dx", dy.shape, dy.dtype, xp)
            share = 2 * self.alpha * self.beta / self.neighbours
            kernels.lrn_backward(
                xp.ascontiguousarray(dy),
                self.x,
                self.scale,
                self.power,
                self.y,
                dx,
                self.size,
                self.across,
                share,
            )
            return dx
        ratio = xp.multiply(dy, self.y, out=get("squares", dy.shape, dy.dtype, xp))
        ratio /= self.scale
        spread = self.neighbour_sum(ratio, "spread")
        spread *= self.x
        spread *= 2 * self.alpha * self.beta / self.neighbours
        dx = xp.multiply(dy, self.power, out=get("dx", dy.shape, dy.dtype, xp))
        dx -= spread
        return dx

    def neighbour_sum(self, a, name):
        """The sum over each element's neighbours: its own transpose, as neighbours are mutual."""
        axes = [3] if self.across else [1, 2]
        for axis in axes:
            a = self.sum_along(a, axis, f"{name}{axis}")
        return a

    def sum_along(self, a, axis, name):
        total = self.buffers.get(name, a.shape, a.dtype, array_module(a))
        total[...] = a
        for distance in range(1, min(self.size // 2, a.shape[axis] - 1) + 1):
            low = (slice(None),) * axis + (slice(None, -distance),)
            high = (slice(None),) * axis + (slice(distance, None),)
            total[low] += a[high]
            total[high] += a[low]
        return total
