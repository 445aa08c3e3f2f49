"""Which class each image is of, as the loss layers take it."""

import numpy as np

from nn.backend import Array, array_module


def own_class(scores: Array, labels: Array) -> Array:
    """1[y_i = y] for scores (n, K) and labels (n,) int of 0 .. K - 1: (n, K) bool.

    ValueError if they do not go together; on a GPU, which is not waited for, only for their number.
    """
    xp = array_module(scores)
    n, K = scores.shape
    labels = xp.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"expected a label for each of {n} images, got {labels.shape}")
    own = labels[:, None] == xp.arange(K)
    if xp is np and not own.any(axis=1).all():
        raise ValueError(f"labels from {labels.min()} to {labels.max()}: expected 0 to {K - 1}")
    return own
