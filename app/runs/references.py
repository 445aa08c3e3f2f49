"""The reference distribution that the settings name, and pictures of one's own to start from."""

from copy import copy
from pathlib import Path

import numpy as np
from PIL import Image

from app.console import by
from app.data.folder import decode
from app.data.images import Pixels
from app.data.load import load
from app.files import files_in
from app.options.visualize_settings import asked_source
from hmc.reference import RIDGE, Data, Natural, White, measured

LARGEST_DATA = 3000  # numbers of an image up to which all second moments are taken
MOST_IMAGES = 60_000


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
    images = images_of(s["reference_data"], shape, pixels)
    if s["reference"] == "natural" or np.prod(shape) > LARGEST_DATA:
        return measured(images, sigma if s["reference"] == "natural" else None)
    reach = 255 * float(np.abs(pixels.scale).mean())  # of the pixels, as the net takes them
    return Data(images, RIDGE * reach, sigma)


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


def images_of(folder: str | None, shape: tuple, pixels: Pixels) -> np.ndarray:
    """Images of a folder as a net takes them, (N, *shape) float32: those of a data set's training
    part, or every picture in a folder. By default MNIST's."""
    if folder is not None:
        pictures = [path for path in files_in(folder) if path.suffix.lower() in SUFFIXES]
        if pictures:
            return pixels(np.stack([cut(path, shape) for path in pictures[:MOST_IMAGES]]))
    train, _ = load(folder, input_shape=shape, pixels=vars(pixels))
    (H, W, C), (h, w, channels) = train.shape, shape
    if C != channels or H < h or W < w:
        raise ValueError(
            f"the reference distribution needs images of {by(shape)}, those of {folder or 'MNIST'} "
            f"are {by(train.shape)}"
        )
    x = train.evenly(MOST_IMAGES).batch(slice(None))[0]
    if (H, W) == (h, w):
        return x
    rng = np.random.default_rng(0)  # a node that sees a part of an image: parts from all places
    places = zip(
        rng.integers(0, H - h + 1, len(x)), rng.integers(0, W - w + 1, len(x)), strict=True
    )
    return np.stack([a[i : i + h, j : j + w] for a, (i, j) in zip(x, places, strict=True)])


SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def cut(path: Path, shape: tuple) -> np.ndarray:
    """The largest centred part of a picture with this aspect, as uint8 (H, W, C)."""
    H, W, C = shape
    with Image.open(path) as image:
        width, height = image.size
    scale = max(W / width, H / height)
    larger = max(H, round(height * scale)), max(W, round(width * scale)), C
    found = decode(path, larger)
    if isinstance(found, str):
        raise ValueError(found)
    top, left = (larger[0] - H) // 2, (larger[1] - W) // 2
    return found[top : top + H, left : left + W]


def read_image(path: str, shape: tuple, pixels: dict) -> np.ndarray:
    """A picture as a net takes it: (H, W, C) float32."""
    return Pixels(**pixels)(cut(Path(path), shape)[None])[0].astype(np.float32)
