"""CIFAR-10 in its binary form: data_batch_1.bin ... data_batch_5.bin and test_batch.bin.

Each image is a byte for its label, then 1,024 bytes each of red, green and blue, row by row.
"""

import os
from pathlib import Path

import numpy as np

from app.files import files_in, naming, open_regular

RECORD = 1 + 3 * 32 * 32
CLASSES = 10
FILES = "data_batch_1.bin ... data_batch_5.bin and test_batch.bin"


def batches_in(folder: str | Path) -> list[Path]:
    """CIFAR-10's files in a folder."""
    return [path for path in files_in(folder) if path.match("*_batch*.bin")]


def is_cifar(folder: str | Path) -> bool:
    return bool(batches_in(folder))


def read_batch(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, 32, 32, 3) uint8, labels (N,)) of one file."""
    with open_regular(path) as file, naming(path):
        size = os.fstat(file.fileno()).st_size
        if not size or size % RECORD:
            raise ValueError(
                f"{path}: {size} bytes, expected a multiple of {RECORD}: "
                "a label and 32 x 32 x 3 pixels for each image"
            )
        records = np.frombuffer(file.read(size), np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= CLASSES:
        raise ValueError(
            f"{path}: label {labels.max()} of image {labels.argmax()} is out of range, "
            f"expected 0 .. {CLASSES - 1}"
        )
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def read(folder: str | Path) -> tuple[tuple, tuple]:
    """((training images, labels), (test images, labels)); ValueError if a file is not sound."""
    found = batches_in(folder)
    batches = [path for path in found if path.name.startswith("data_batch_")]
    test = Path(folder) / "test_batch.bin"
    if not batches or test not in found:
        raise ValueError(
            f"{folder}: CIFAR-10 is {FILES}; found {', '.join(path.name for path in found)}"
        )
    parts = [read_batch(path) for path in batches]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return (images, labels), read_batch(test)
