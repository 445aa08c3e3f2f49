"""CIFAR-10 in its binary form: data_batch_1.bin ... data_batch_5.bin and test_batch.bin.

Each image is a byte for its label, then 1,024 bytes each of red, green and blue, row by row.
"""

from pathlib import Path

import numpy as np

RECORD = 1 + 3 * 32 * 32
CLASSES = 10


def is_cifar(folder):
    return any(Path(folder).glob("*_batch*.bin"))


def read_batch(path):
    """(images (N, 32, 32, 3) uint8, labels (N,)) of one file."""
    contents = np.fromfile(path, np.uint8)
    if not len(contents) or len(contents) % RECORD:
        raise ValueError(
            f"{path}: {len(contents)} bytes, expected a multiple of {RECORD}: "
            "a label and 32 x 32 x 3 pixels for each image"
        )
    records = contents.reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= CLASSES:
        raise ValueError(
            f"{path}: label {labels.max()} of image {labels.argmax()} is out of range, "
            f"expected 0 .. {CLASSES - 1}"
        )
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def read(folder):
    """((training images, labels), (test images, labels)); ValueError if a file is not sound."""
    batches = sorted(Path(folder).glob("data_batch_*.bin"))
    test = Path(folder) / "test_batch.bin"
    if not batches or not test.exists():
        raise ValueError(
            f"{folder}: CIFAR-10 is data_batch_1.bin ... data_batch_5.bin and test_batch.bin; "
            f"found {', '.join(path.name for path in sorted(Path(folder).glob('*.bin')))}"
        )
    parts = [read_batch(path) for path in batches]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return (images, labels), read_batch(test)
