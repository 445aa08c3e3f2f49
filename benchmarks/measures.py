"""Measures of sets of images: how alike they are, what is nearest, and the Frechet distance."""

import numpy as np

FEATURES = "fc1"
AT_ONCE = 1000


def normalised(images):
    """Images (n, ...) as rows of mean 0 and norm 1, so that a product of two is a correlation."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def mean_distance(rows):
    """Mean Euclidean distance between two different rows of norm 1."""
    squared = np.maximum(2 - 2 * (rows @ rows.T).astype(np.float64), 0)
    n = len(rows)
    return np.sqrt(squared).sum() / (n * (n - 1)) if n > 1 else float("nan")


def nearest(samples, rows):
    """(number of the nearest training image, distance to it) of images, by correlation.

    rows: `normalised` of the training images.
    """
    found = []
    for some in np.array_split(normalised(samples), -(-len(samples) // AT_ONCE)):
        correlation = some @ rows.T
        found.append((correlation.argmax(axis=1), correlation.max(axis=1)))
    number, largest = (np.concatenate(a) for a in zip(*found, strict=True))
    return number, np.sqrt(np.maximum(2 - 2 * largest, 0))


def features(images, network):
    """(n, 500) float64: what a LeNet's fc1 makes of images as the net takes them."""
    parts = np.array_split(images, -(-len(images) // AT_ONCE))
    return np.concatenate([network.bottom_up(part, FEATURES) for part in parts]).astype(float)


def frechet(a, b):
    """The Frechet distance between two Gaussians with the moments of rows a and b.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); see Heusel et al., 2017, whose rows are another
    net's features.
    """
    means, covariances = zip(*((x.mean(axis=0), np.cov(x.T)) for x in (a, b)), strict=True)
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # The eigenvalues of C1 C2 are those of the symmetric C1^(1/2) C2 C1^(1/2).
    product = np.linalg.eigvalsh(root @ covariances[1] @ root)
    trace = np.trace(covariances[0]) + np.trace(covariances[1])
    trace -= 2 * np.sqrt(np.maximum(product, 0)).sum()
    return float(((means[0] - means[1]) ** 2).sum() + trace)
