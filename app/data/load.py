"""Images from a folder, whatever the format."""

from pathlib import Path

from app.data import cifar, folder, mnist
from app.data.images import Images, Pixels
from app.data.prepared import mean_image
from app.data.prepared import read as read_prepared
from app.files import files_in, folders_in

LARGER = {224: 256, 227: 256}  # images are stored larger than the net's input, to be cut at random
EXPECTED = (
    f"expected MNIST's four IDX files, or CIFAR-10's binary files ({cifar.FILES}), or images in "
    "train/CLASS/ and val/CLASS/"
)
SPELLINGS = {"training", "train", "val", "valid", "validation", "test", "testing"}
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar")
MOST_NAMED, MOST_TRIED = 6, 20  # entries of a folder: in a message, looked into


def layout(path: Path) -> str:
    """How the images in a folder are kept: "images", "cifar" or "idx".

    ValueError says what the folder seems to be instead, FileNotFoundError that there is none.
    """
    if path.is_file():
        raise ValueError(f"{path} is a file, not a folder: {EXPECTED}")
    if not path.is_dir():
        raise FileNotFoundError(f"no such folder: {path}")
    kind = kind_of(path)
    if kind is None:
        raise ValueError(f"{path}: {seems(path)}; {EXPECTED}")
    return kind


def kind_of(path: Path) -> str | None:
    """`layout`, or None for any other folder."""
    if folder.is_image_folder(path):
        return "images"
    if cifar.is_cifar(path):
        return "cifar"
    return "idx" if mnist.idx_files(path) else None


def seems(path: Path) -> str:
    """What a folder seems to be whose layout is none of ours, in words."""
    files, folders = files_in(path), folders_in(path)
    for place in (path, *folders[:MOST_TRIED]):
        if other := other_data(place):
            return f"{place} is {other}"
    for place in folders[:MOST_TRIED]:
        kind = kind_of(place)
        if kind in ("images", "cifar") or (kind == "idx" and len(mnist.idx_files(place)) >= 4):
            return f"the images seem to be in {place}"
    if spelled := [place.name for place in folders if place.name.lower() in SPELLINGS]:
        return f"found {', '.join(spelled)}: the folders must be named train and val"
    if packed := [file.name for file in files if file.name.lower().endswith(ARCHIVES)]:
        return f"found {packed[0]}, which must be unpacked"
    found = [f"{place.name}/" for place in folders] + [file.name for file in files]
    more = ", ..." if len(found) > MOST_NAMED else ""
    return f"found {', '.join(found[:MOST_NAMED])}{more}" if found else "the folder is empty"


def other_data(path: Path) -> str | None:
    """Data that are known but not read, in words."""
    names = {file.name for file in files_in(path)}
    if {"data_batch_1", "test_batch"} & names:
        return "CIFAR-10 for Python, whose files can run any program: take its binary files"
    if {"data_batch_1.mat", "test_batch.mat"} & names:
        return "CIFAR-10 for Matlab: take its binary files"
    if {"fine_label_names.txt", "meta.mat"} & names or {"train", "test", "meta"} <= names:
        return "CIFAR-100, which is not read"
    return None


def load(
    path: str | Path | None = None,
    classes: int | None = None,
    limit: int | None = None,
    input_shape: tuple = (28, 28, 1),
    pixels: dict | None = None,
    prepared: str | Path | None = None,
    threads: int = 2,
    skip_broken: bool = False,
) -> tuple[Images, Images]:
    """(training images, test images) from a folder; by default MNIST, which is included.

    The folder holds IDX files as MNIST's, CIFAR-10's binary files, or train/CLASS/ and val/CLASS/
    with images; the last are prepared for a net of this input_shape. classes: their number, if
    the folder does not tell. limit: only so many training images. pixels: how they become a
    net's input; with the mean "image", the mean of the training images is subtracted. ValueError
    if something is not sound, FileNotFoundError if there is no such folder.
    """
    path = Path(path or mnist.MNIST)
    kind = layout(path)
    pixels, size, mean = pixels or {}, None, None
    if (prepared or skip_broken) and kind != "images":
        raise ValueError(f"--prepared and --skip-broken go with folders of images only, not {path}")
    if kind == "images":
        H, W, C = input_shape
        if C not in (1, 3):
            raise ValueError(
                f"{path}: the net takes images of {C} channels, these have 1 (grey) or 3 (colours)"
            )
        size, shape = (H, W), (LARGER.get(H, H), LARGER.get(W, W), C)
        names, train, test, mean = read_prepared(path, shape, prepared, threads, skip_broken)
        if classes is not None and classes != len(names):
            raise ValueError(f"{path} has {len(names)} classes, --classes says {classes}")
        classes = len(names)
    elif kind == "cifar":
        train, test = cifar.read(path)
        if classes not in (None, cifar.CLASSES):
            raise ValueError(f"CIFAR-10 has {cifar.CLASSES} classes, --classes says {classes}")
        classes = cifar.CLASSES
    else:
        classes = classes or 10
        train, test = mnist.read(path, classes)
    if isinstance(pixels.get("mean"), str):
        mean = mean_image(train[0]) if mean is None else mean
        pixels = {**pixels, "mean": mean}
    try:
        train, test = (
            Images(*part, classes, Pixels(**pixels), size, source=str(path))
            for part in (train, test)
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if limit is None:
        return train, test
    # Images of class folders are in order of their classes.
    return train.evenly(limit) if kind == "images" else train.only(slice(limit)), test
