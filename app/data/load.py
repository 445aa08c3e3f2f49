"""Images from a folder, whatever the format."""

from pathlib import Path

from app.data import cifar, folder, mnist
from app.data.images import Images, Pixels

LARGER = {224: 256, 227: 256}  # images are stored larger than the net's input, to be cut at random


def load(
    path=None,
    classes=None,
    limit=None,
    input_shape=(28, 28, 1),
    pixels=None,
    prepared=None,
    threads=2,
    skip_broken=False,
):
    """(training images, test images) from a folder; by default MNIST, which is included.

    The folder holds IDX files as MNIST's, CIFAR-10's binary files, or train/CLASS/ and val/CLASS/
    with images; the last are prepared for a net of this input_shape. classes: their number, if
    the folder does not tell. limit: only so many training images. pixels: how they become a
    net's input; with the mean "image", the mean of the training images is subtracted. ValueError
    if something is not sound, FileNotFoundError if there is no such folder.
    """
    path = Path(path or mnist.MNIST)
    if not path.is_dir():
        raise FileNotFoundError(f"no such folder: {path}")
    pixels, size, mean = pixels or {}, None, None
    if (prepared or skip_broken) and not folder.is_image_folder(path):
        raise ValueError(f"--prepared and --skip-broken go with folders of images only, not {path}")
    if in_order := folder.is_image_folder(path):
        H, W, C = input_shape
        size, shape = (H, W), (LARGER.get(H, H), LARGER.get(W, W), C)
        names, train, test, mean = folder.read(path, shape, prepared, threads, skip_broken)
        if classes is not None and classes != len(names):
            raise ValueError(f"{path} has {len(names)} classes, --classes says {classes}")
        classes = len(names)
    elif cifar.is_cifar(path):
        train, test = cifar.read(path)
        if classes not in (None, cifar.CLASSES):
            raise ValueError(f"CIFAR-10 has {cifar.CLASSES} classes, --classes says {classes}")
        classes = cifar.CLASSES
    else:
        classes = classes or 10
        train, test = mnist.read(path, classes)
    if isinstance(pixels.get("mean"), str):
        mean = folder.mean_image(train[0]) if mean is None else mean
        pixels = {**pixels, "mean": mean}
    train, test = (Images(*part, classes, Pixels(**pixels), size) for part in (train, test))
    if limit is None:
        return train, test
    # Images of class folders are in order of their classes.
    return train.evenly(limit) if in_order else train.only(slice(limit)), test
