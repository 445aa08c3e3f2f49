"""Labelled images, and how their pixels become the input of a net."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nn.backend import array_module, to_device


@dataclass
class Pixels:
    """x = (pixels - mean) * scale for pixels 0 .. 255, channels red, green, blue or reversed.

    scale and mean: a number, or one for each of red, green and blue; the mean may also be an
    image (H, W, C) as large as those that are read, the mean image.
    """

    scale: float | np.ndarray = 1 / 256
    mean: float | np.ndarray = 0.0
    order: str = "rgb"

    def __post_init__(self):
        with np.errstate(over="ignore"):
            self.scale, self.mean = np.float32(self.scale), np.float32(self.mean)
        if not (np.isfinite(self.scale).all() and self.scale.all()):
            raise ValueError(f"--pixel-scale {self.scale}: not finite, or 0, as a float32 number")
        if not np.isfinite(self.mean).all():
            raise ValueError(f"--pixel-mean {self.mean}: not finite as a float32 number")

    def __call__(self, images: np.ndarray, top: int = 0, left: int = 0) -> np.ndarray:
        """uint8 images (N, h, w, C), cut out at top, left -> x float32, of the same shape."""
        h, w = images.shape[1:3]
        xp = array_module(images)
        mean = self.mean[top : top + h, left : left + w] if self.mean.ndim == 3 else self.mean
        x = images - to_device(mean, xp) if mean.any() else images
        x = x * to_device(self.scale, xp)
        return x[..., ::-1] if self.order == "bgr" else x


@dataclass
class Images:
    """images (N, H, W, C) uint8, labels (N,) in 0 .. classes - 1; size (h, w) is what a net takes.

    Images larger than that are cut: at a random place and mirrored at random in training, at the
    centre and the four corners in testing. index says which of `images`, which may be a file mapped
    into memory, are in use: by default all. labels are those of the images in use. source: where
    they are from, for messages.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    pixels: Pixels = field(default_factory=Pixels)
    size: tuple | None = None  # as stored
    index: np.ndarray | None = None
    source: str = "the data"

    def __post_init__(self):
        self.index = np.arange(len(self.images)) if self.index is None else self.index
        self.size = tuple(self.size or self.images.shape[1:3])
        H, W, C = self.images.shape[1:]
        h, w = self.size
        for name, value in (("scale", self.pixels.scale), ("mean", self.pixels.mean)):
            if value.ndim == 1 and len(value) != C:
                raise ValueError(
                    f"the images have {C} channel, the --pixel-{name} of this net or run "
                    f"{len(value)} numbers: --data names other images"
                )
        if C == 1 and self.pixels.order == "bgr":
            raise ValueError(
                "the images are grey, the --pixel-order bgr of this net or run is for colours: "
                "--data names other images"
            )
        if h > H or w > W:
            raise ValueError(f"the net takes images of {h} x {w}, these are only {H} x {W}")
        middle = ((H - h) // 2, (W - w) // 2)
        corners = [(0, 0), (0, W - w), (H - h, 0), (H - h, W - w)]
        self.places = [middle] if (h, w) == (H, W) else [middle, *corners]

    def __len__(self):
        return len(self.index)

    def to(self, xp: Any) -> "Images":
        """The same with the images on xp's device, where they are cut too; not those on disk."""
        return self if self.on_disk else replace(self, images=to_device(self.images, xp))

    @property
    def on_disk(self) -> bool:
        """Whether they are read from a file when they are asked for."""
        return isinstance(self.images, np.memmap)

    @property
    def views(self) -> int:
        """How many places an image is cut at in testing: 1 or 5."""
        return len(self.places)

    @property
    def shape(self) -> tuple:
        """Of one image as a net takes it: (h, w, C)."""
        return *self.size, self.images.shape[3]

    def input_settings(self) -> tuple:
        """(scale, mean, order) of `pixels`, the mean as it is at the centre."""
        (top, left), (h, w) = self.places[0], self.size
        mean = self.pixels.mean
        mean = mean[top : top + h, left : left + w] if mean.ndim == 3 else mean
        return self.pixels.scale, mean, self.pixels.order

    def need_every_class(self) -> None:
        """ValueError if a class has no image: GG needs log rho_y, the prior of each (Eq. 6)."""
        missing = np.setdiff1d(np.arange(self.classes), self.labels)
        if len(missing):
            some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise ValueError(
                f"{self.source}: no training image of class {some} among {len(self)}: the "
                "generative gradient needs one of each class (--classes sets their number)"
            )

    def batch(self, index: Any, place: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Images `index` (a slice or integers), cut at a place of `places`: x float32, labels."""
        (top, left), (h, w) = self.places[place], self.size
        cut = self.images[self.index[index], top : top + h, left : left + w]
        return self.pixels(cut, top, left), self.labels[index]

    def training_batch(
        self, index: np.ndarray, rng: np.random.Generator, part: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """`batch`, but cut at random places and half of them mirrored, if there is room to cut.

        Only a part of the images is read, as it would be among all; the labels are those of all.
        """
        if len(self.places) == 1:
            return self.batch(index[part])[0], self.labels[index]
        (H, W), (h, w) = self.images.shape[1:3], self.size
        n = len(index)
        tops, lefts = rng.integers(0, H - h + 1, n), rng.integers(0, W - w + 1, n)
        mirrored = rng.random(n) < 0.5
        mine = range(n)[part]
        x = array_module(self.images).empty((len(mine), *self.shape), np.float32)
        for place, k in enumerate(mine):
            i, top, left = self.index[index[k]], tops[k], lefts[k]
            cut = self.pixels(self.images[i : i + 1, top : top + h, left : left + w], top, left)[0]
            x[place] = cut[:, ::-1] if mirrored[k] else cut
        return x, self.labels[index]

    def evenly(self, count: int) -> "Images":
        """`count` of the images, evenly spaced, or all if there are no more."""
        return self.only(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))

    def apart(self, count: int) -> tuple["Images", "Images"]:
        """(all others, `count` drawn at random), to be tested on instead of test images.

        The same ones at any time. ValueError if no others would be left.
        """
        if count >= len(self):
            raise ValueError(f"--held-out {count}: there are only {len(self)} training images")
        shuffled = np.random.default_rng(0).permutation(len(self))
        return self.only(np.sort(shuffled[count:])), self.only(np.sort(shuffled[:count]))

    def only(self, index: Any) -> "Images":
        """These of the images, without a copy of them."""
        return replace(self, labels=self.labels[index], index=self.index[index])
