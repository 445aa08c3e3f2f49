"""MNIST, and every data set in its format: four IDX files in a folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.idx import read_idx

MNIST = Path(__file__).resolve().parent.parent / "assets" / "mnist"


@dataclass
class Images:
    """images (N, H, W, C) uint8, labels (N,) in 0 .. classes - 1."""

    images: np.ndarray
    labels: np.ndarray
    classes: int

    def __len__(self):
        return len(self.images)

    def need_every_class(self):
        """ValueError if a class has no image: GG needs log rho_y, the prior of each (Eq. 6)."""
        missing = np.setdiff1d(np.arange(self.classes), self.labels)
        if len(missing):
            some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise ValueError(
                f"no training image of class {some} among {len(self)}: the generative gradient "
                "needs one of each class (--classes sets their number)"
            )

    def batch(self, index):
        """The images `index` (a slice or integers) as float32, pixels times 1/256, and labels."""
        return self.images[index] * np.float32(1 / 256), self.labels[index]


def find_idx(folder, words, kind):
    """The one file in folder whose name has one of `words`, `kind` and "idx", gzipped or not."""
    found = [
        path
        for path in sorted(Path(folder).iterdir())
        if "idx" in path.name and kind in path.name and any(word in path.name for word in words)
    ]
    plain = {path.name.removesuffix(".gz"): path for path in found}  # with both, take the gzipped
    if len(plain) == 1:
        return plain.popitem()[1]
    problem = "more than one" if plain else "no"
    raise ValueError(
        f"{folder}: {problem} file like {words[0]}-{kind}-idx*-ubyte[.gz]"
        + (f": {', '.join(plain)}" if plain else "; MNIST's four files are expected there")
    )


def read_images(folder, words, classes):
    image_file, label_file = (
        find_idx(folder, words, "images"),
        find_idx(folder, words, "labels"),
    )
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{folder}: {len(images)} images in {image_file.name}, "
            f"but {len(labels)} labels in {label_file.name}"
        )
    if not len(images):
        raise ValueError(f"{image_file}: no images in it")
    if labels.max() >= classes:
        raise ValueError(
            f"{label_file}: label {labels.max()} of image {labels.argmax()} is out of range, "
            f"expected 0 .. {classes - 1} (--classes sets the number)"
        )
    return Images(images[..., None], labels.astype(np.int64), classes)


def load(folder=None, classes=10, limit=None):
    """(training images, test images) from a folder of IDX files; by default MNIST itself.

    limit: only the first so many training images. ValueError if the files are not sound or do not
    fit together, FileNotFoundError if there is no such folder.
    """
    folder = Path(folder or MNIST)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    train = read_images(folder, ("train",), classes)
    test = read_images(folder, ("t10k", "test"), classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{folder}: training images are {train.images.shape[1:3]} pixels, "
            f"test images {test.images.shape[1:3]}"
        )
    train = Images(train.images[:limit], train.labels[:limit], classes)
    return train, test


def epoch_order(count, seed, epoch):
    """The order of the images in an epoch: the same for the same seed, on every machine."""
    return np.random.default_rng((seed, epoch)).permutation(count)
