"""The reference distribution that the settings name, and pictures of one's own to start from."""

import math
import zlib
from copy import copy
from pathlib import Path

import numpy as np

from app.console import by
from app.data.folder import decode, is_image_folder
from app.data.images import Pixels
from app.data.load import layout, load
from app.files import files_in, folders_in
from app.options.visualize_settings import asked_source, latest
from hmc.reference import RIDGE, Data, Natural, White, measured

LARGEST_DATA = 3000  # numbers of an image up to which all second moments are taken
MOST_IMAGES, MOST_NUMBERS = 60_000, 2**28  # to measure q from; of all of them, 1 GiB


def reference_of(settings: dict, shape: tuple) -> White:
    """q for images (H, W, C). ValueError if there are no images to measure it from."""
    s, sigma = settings, settings["sigma"]
    if s["reference"] == "file":
        source = asked_source(s)
        q = copy(source.reference[0])
        for name in vars(q).keys() & {"A", "D", "sigma"}:
            setattr(q, name, sigma * getattr(q, name))
        as_learned = s["layer"] == source.network.last and sigma == 1
        if not (as_learned and s["temperature"] == source.reference[1]):
            q.noise = 0.0  # this p is not the one that learned images with noise
        return q
    if s["reference"] == "white":
        return White(shape, sigma)
    if s["reference"] == "natural" and s["reference_data"] is None:
        return Natural(shape, sigma)
    pixels = Pixels(**s["pixels"])
    images = images_of(s["reference_data"], shape, pixels, asked_source(s).network.input_shape)
    latest.clear()  # its weights take no memory
    if s["reference"] == "natural" or np.prod(shape) > LARGEST_DATA:
        q = measured(images, sigma if s["reference"] == "natural" else None)
    else:
        reach = 255 * float(np.abs(pixels.scale).mean())  # of the pixels, as the net takes them
        q = Data(images, RIDGE * reach, sigma)
    if s["reference_data"] is not None:
        q.checksum = zlib.crc32(np.ascontiguousarray(images))  # A is not alike everywhere
    return q


def reference_of_training(settings: dict, train, noise: float) -> White:
    """q of --mode samples, for --reference data or natural.

    noise: that of the images, a standard deviation in the net's units. It is a part of q: without
    it q would not cover the images, whose borders are constant.
    """
    x = train.evenly(MOST_IMAGES).batch(slice(None))[0]
    if settings["reference"] == "natural":
        mean = x.mean(axis=(0, 1, 2), dtype=np.float64)
        q = Natural(train.shape, float(x.std()), mean)
    else:
        q = Data(x, noise) if np.prod(train.shape) <= LARGEST_DATA else measured(x)
    q.noise = noise
    return q


def images_of(folder: str | None, shape: tuple, pixels: Pixels, whole: tuple) -> np.ndarray:
    """Images of a folder as a net takes them, (N, *shape) float32: every picture in it, or those of
    a data set's training part. By default MNIST's.

    whole: the images of the net. Where a node sees only a part of them, shape, these are parts from
    all places.
    """
    most = min(MOST_IMAGES, max(1, MOST_NUMBERS // math.prod(whole)))
    pictures = [] if folder is None else pictures_in(Path(folder))
    if pictures:
        chosen = pictures[:: -(-len(pictures) // most)]
        x = pixels(np.stack([cut(path, whole) for path in chosen]))
    else:
        classes = 256 if folder and layout(Path(folder)) == "idx" else None  # labels do not matter
        train, _ = load(folder, classes, pixels=vars(pixels))
        (H, W, C), (h, w, channels) = train.shape, shape
        if C != channels or H < h or W < w:
            raise ValueError(
                f"the reference distribution needs images of {by(shape)}, those of "
                f"{folder or 'MNIST'} are {by(train.shape)}"
            )
        x = train.evenly(most).batch(slice(None))[0]
    (H, W), (h, w) = x.shape[1:3], shape[:2]
    if (H, W) == (h, w):
        return x
    rng = np.random.default_rng(0)
    places = zip(
        rng.integers(0, H - h + 1, len(x)), rng.integers(0, W - w + 1, len(x)), strict=True
    )
    return np.stack([a[i : i + h, j : j + w] for a, (i, j) in zip(x, places, strict=True)])


SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, or those in its train/CLASS/."""
    places = folders_in(folder / "train") if is_image_folder(folder) else [folder]
    return [path for place in places for path in files_in(place) if path.suffix.lower() in SUFFIXES]


def cut(path: Path, shape: tuple) -> np.ndarray:
    """The largest centred part of a picture with this aspect, as uint8 (H, W, C)."""
    if shape[2] not in (1, 3):
        raise ValueError(f"the net takes images of {shape[2]} channels, a picture has 1 or 3")
    found = decode(path, shape, squeezed=False)
    if isinstance(found, str):
        raise ValueError(found)
    return found


def read_image(path: str, shape: tuple, pixels: dict) -> np.ndarray:
    """A picture as a net takes it: (H, W, C) float32."""
    return Pixels(**pixels)(cut(Path(path), shape)[None])[0].astype(np.float32)
