"""The kernel's side of toom_cook.py: points and tiles, when they pay, and G w.

The matrices of Toom and Cook are evaluations of polynomials at n points; more of them save more
products, but their powers grow, and with them the rounding. docs/derivations.md has the proof.
"""

from functools import cache, cached_property

import numpy as np

from fast.cpu.windows import CACHED

POINTS = (0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0)  # and infinity; with more the rounding grows
SMALL = 128  # numbers in a row of a window: then BLAS is slow, and sums are a large part
COST = 12  # of a number of G w, in multiplications of a matrix product


@cache
def transforms(m, r, dtype):
    """A^T (m, n), G (n, r), B^T (n, n) for m outputs of a kernel of r rows, n = m + r - 1.

    Row p of A and of G evaluates a polynomial at point p. Row p of B^T holds the coefficients of
    prod_{q != p} (t - q); its value at p is divided out in G. At infinity a polynomial is its
    highest coefficient.
    """
    points = POINTS[: m + r - 2]
    others = [[q for q in points if q != p] for p in points]
    factors = [np.prod(np.subtract(p, rest)) for p, rest in zip(points, others, strict=True)]
    A = np.vstack([np.vander(points, m, increasing=True), np.eye(m)[-1]])
    G = np.vstack([np.vander(points, r, increasing=True) / np.c_[factors], np.eye(r)[-1]])
    B = [np.append(np.atleast_1d(np.poly(rest))[::-1], 0) for rest in others]
    B_T = np.vstack([*B, np.poly(points)[::-1]])
    return tuple(np.ascontiguousarray(a, dtype) for a in (A.T, G, B_T))


@cache
def tiling(OH, KH):
    """(m, T): T tiles of m rows of outputs, T m >= OH, that need the fewest products."""
    choices = [(m, -(-OH // m)) for m in range(1, len(POINTS) + 3 - KH)]
    return min(choices, key=lambda tiles: (tiles[1] * (tiles[0] + KH - 1), tiles[0]))


def rows_to_add(OH, KH):
    """How many rows below an image complete its last tile."""
    m, T = tiling(OH, KH)
    return T * m - OH


@cache
def pays(N, OH, OW, kernel_shape, train):
    """Whether this saves more multiplications for N images than its sums cost.

    Those of the kernel cost most. While sampling they are not done again (see TransformedKernel);
    but G w is larger than w, and where it is not in the cache, reading it costs as much.
    """
    KH, KW, D, F = kernel_shape
    if not 1 < KH < len(POINTS) or KW * D < 32 or F < 16:
        return False
    m, T = tiling(OH, KH)
    n = m + KH - 1
    saved = N * OW * (OH * KH - T * n)  # for each of the KW D F columns of w
    reused = not train and n * KW * D * F <= CACHED
    return saved > COST * KH * (1 if reused else n)


@cache
def outputs_at_once(OW, kernel_shape, groups):
    """How many outputs beside each other give dx together: two, if their products are small.

    A product for both has a sixth of zeros, with 5 x 5 kernels, but half as many sums follow.
    """
    _, KW, D, _ = kernel_shape
    pairs = OW % 2 == 0 and KW % 2 == 1  # every (KW + 1) / 2-th window of two adjoins the last
    return 2 if groups == 1 and pairs and KW * D <= SMALL else 1


class TransformedKernel:
    """U = G w for tiles of m rows: (n, KW D, F), and its transpose for so many outputs at once.

    It may be used again for w that `is_of` knows: comparing costs less than the sums.
    """

    def __init__(self, w, groups, m, at_once=1):
        self.w, self.groups, self.m, self.at_once = w.copy(), groups, m, at_once
        _, self.G, _ = transforms(m, len(w), w.dtype)
        self.U = (self.G @ w.reshape(len(w), -1)).reshape(len(self.G), -1, w.shape[3])

    def is_of(self, w, form):
        return form == (self.m, self.at_once) and np.array_equal(w, self.w)

    @cached_property
    def turned(self):
        """U^T, shifted for each of the outputs: (groups, n, at_once f, (KW + at_once - 1) D)."""
        _, KW, D, F = self.w.shape
        U = self.U.reshape(-1, KW, D, self.groups, F // self.groups).transpose(3, 0, 4, 1, 2)
        groups, n, f, _, _ = U.shape
        turned = np.zeros((groups, n, self.at_once, f, KW + self.at_once - 1, D), U.dtype)
        for k in range(self.at_once):
            turned[:, :, k, :, k : k + KW] = U
        return turned.reshape(groups, n, self.at_once * f, -1)
