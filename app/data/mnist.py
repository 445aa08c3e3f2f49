"""MNIST, and every data set in its format: four IDX files in a folder."""

from pathlib import Path

import numpy as np

from app import ASSETS
from app.data.idx import read_idx
from app.files import files_in

MNIST = ASSETS / "mnist"


def idx_files(folder: str | Path) -> list[Path]:
    """What a folder has of IDX files, as far as names tell."""
    return [path for path in files_in(folder) if "idx" in path.name]


def find_idx(folder: str | Path, words: tuple, kind: str) -> Path:
    """The one file in folder whose name has one of `words`, `kind` and "idx", gzipped or not."""
    found = [
        path
        for path in idx_files(folder)
        if kind in path.name and any(word in path.name for word in words)
    ]
    plain = {path.name.removesuffix(".gz"): path for path in found}  # with both, take the gzipped
    if len(plain) == 1:
        return plain.popitem()[1]
    problem, there = (
        ("more than one", plain) if plain else ("no", [path.name for path in idx_files(folder)])
    )
    raise ValueError(
        f"{folder}: {problem} file like {words[0]}-{kind}-idx*-ubyte[.gz]; found {', '.join(there)}"
    )


def read_part(folder: str | Path, words: tuple) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, H, W, 1) uint8, labels (N,)) of the two files with one of `words`."""
    image_file, label_file = (find_idx(folder, words, kind) for kind in ("images", "labels"))
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{folder}: {len(images)} images in {image_file.name}, "
            f"but {len(labels)} labels in {label_file.name}"
        )
    if not len(images):
        raise ValueError(f"{image_file}: no images in it")
    return images[..., None], labels.astype(np.int64)


def from_zero(
    folder: str | Path, train: np.ndarray, test: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both parts as 0 .. classes - 1; in the files they may also be 1 .. classes."""
    first = int(train.min() == 1 and train.max() == classes)  # as in EMNIST's letters
    for part, labels in (("training", train), ("test", test)):
        for number in (labels.argmax(), labels.argmin()):
            if not first <= labels[number] < first + classes:
                raise ValueError(
                    f"{folder}: label {labels[number]} of {part} image {number} is out of range, "
                    f"expected {first} .. {first + classes - 1} (--classes sets the number)"
                )
    return train - first, test - first


def read(folder: str | Path, classes: int) -> tuple[tuple, tuple]:
    """((training images, labels), (test images, labels)) from a folder of IDX files.

    ValueError if the files are not sound or do not fit together.
    """
    train, test = read_part(folder, ("train",)), read_part(folder, ("t10k", "test"))
    labels = from_zero(folder, train[1], test[1], classes)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"{folder}: training images are {train[0].shape[1:3]} pixels, "
            f"test images {test[0].shape[1:3]}"
        )
    return (train[0], labels[0]), (test[0], labels[1])
