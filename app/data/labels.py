"""Which images keep their labels, where only some of them are to be used."""

import numpy as np


def labelled_and_not(
    labels: np.ndarray, count: int, classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of `count` images as many of each class as can be, numbers of all others).

    ValueError if there are fewer images than that, or fewer than one for each class.
    """
    if count > len(labels):
        raise ValueError(f"--labels {count}: there are only {len(labels)} training images")
    if count < classes:
        raise ValueError(f"--labels {count}: at least one for each of the {classes} classes")
    rng = np.random.default_rng((seed, 0))
    shuffled = rng.permutation(len(labels))
    turn = np.empty(len(labels), int)  # an image's place among those of its class
    for y in range(classes):
        own = shuffled[labels[shuffled] == y]
        turn[own] = np.arange(len(own))
    chosen = shuffled[np.argsort(turn[shuffled], kind="stable")[:count]]
    return np.sort(chosen), np.setdiff1d(np.arange(len(labels)), chosen)


def rounds(index: np.ndarray, length: int, *seed: int) -> np.ndarray:
    """`length` of the numbers in index: all in random order, again and again in another one."""
    rng = np.random.default_rng(seed)
    times = -(-length // len(index))
    return np.concatenate([rng.permutation(index) for _ in range(times)])[:length]
