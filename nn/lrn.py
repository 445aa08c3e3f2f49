"""Local response normalisation: each number is divided by the size of its neighbours."""

from nn.backend import Array
from nn.layer import Layer


class LRN(Layer):
    """y = x s^-beta; s = k + alpha * (mean of x^2 over the neighbours), zeros beyond the border.

    across=True: the neighbours are `size` channels at the same pixel (Krizhevsky et al., 2012,
    with Caffe's alpha / size); else the size x size pixels of the same channel (Caffe's
    WITHIN_CHANNEL). x and y (N, H, W, C).
    With M the number of neighbours and sums over those j that have i as a neighbour,
    dx_i = dy_i s_i^-beta - (2 alpha beta / M) x_i sum_j dy_j y_j / s_j.
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        across: bool = True,
    ):
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"the neighbourhood must be of odd size, got {size}")
        self.size, self.alpha, self.beta, self.k, self.across = size, alpha, beta, k, across
        self.neighbours = size if across else size**2
        if not across:
            self.kernel, self.pad = (size, size), ((size // 2, size // 2),) * 2

    def forward(self, x: Array, train: bool = False) -> Array:
        self.x = x
        self.s = self.k + self.alpha / self.neighbours * self.neighbour_sum(x * x)
        self.y = x * self.s**-self.beta
        return self.y

    def backward(self, dy: Array) -> Array:
        through_s = self.x * self.neighbour_sum(dy * self.y / self.s)
        return dy * self.s**-self.beta - 2 * self.alpha * self.beta / self.neighbours * through_s

    def neighbour_sum(self, a: Array) -> Array:
        """The sum over each element's neighbours: its own transpose, as neighbours are mutual."""
        for axis in [3] if self.across else [1, 2]:
            total = a.copy()
            for distance in range(1, min(self.size // 2, a.shape[axis] - 1) + 1):
                low = (slice(None),) * axis + (slice(None, -distance),)
                high = (slice(None),) * axis + (slice(distance, None),)
                total[low] += a[high]
                total[high] += a[low]
            a = total
        return a
