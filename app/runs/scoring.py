"""A net's scores of many images, and where its numbers went wrong."""

import math

import numpy as np

from nn.backend import to_device, to_host

TEST_NUMBERS, TEST_BATCH = 2**22, 100  # at once: numbers in the images, images


def scores_of(engine, images, xp) -> np.ndarray:
    """f_y(x) of all images by a Network or engine, a batch at a time: (N, K) on the host.

    Of images larger than the net's input, the mean over the centre and the four corners.
    """
    if not len(images):
        return np.empty((0, *list(engine.shapes.values())[-1]), np.float32)
    size = min(TEST_BATCH, max(1, TEST_NUMBERS // math.prod(images.shape)))
    scores = []
    for i in range(0, len(images), size):
        total = 0
        for place in range(images.views):
            x, _ = images.batch(slice(i, i + size), place)
            total = total + to_host(engine.bottom_up(to_device(x, xp)))
        scores.append(total / images.views)
    return np.concatenate(scores)


def not_finite(network, x) -> str:
    """Where the numbers of images x go wrong first, from the bottom up."""
    for name, layer in network.layers.items():
        if not all(np.isfinite(to_host(w)).all() for w in layer.params.values()):
            return f"the weights of layer {name} are not finite"
        if not np.isfinite(to_host(network.bottom_up(x, name))).all():
            return f"the output of layer {name} is not finite"
    return "every layer's output is finite, but too large for the loss"
