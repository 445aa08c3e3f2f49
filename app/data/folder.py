"""Folders of images in the layout of ImageNet: which images there are, and how one is decoded.

FOLDER/train/CLASS/*.JPEG, FOLDER/val/CLASS/*.JPEG     in a format of FORMATS
"""

import io
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from app.files import files_in, folders_in, naming, open_regular

PARTS = ("train", "val")
LAYOUT = "expected train/CLASS/*.JPEG and val/CLASS/*.JPEG"
IN_FLIGHT = 64  # images decoded ahead of the one that is written
# Pillow's decoders that run no other program and do not guess: EPS, for one, starts Ghostscript.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000")
MOST_BYTES = 2**29  # of an image's file


def is_image_folder(folder: str | Path) -> bool:
    return any((Path(folder) / part).is_dir() for part in PARTS)


def class_names(root: str | Path) -> list[str]:
    return [path.name for path in folders_in(root)]


def list_images(folder: str | Path) -> tuple[list[str], dict[str, list]]:
    """(class names, {"train": [(path, label), ...], "val": ...}), labels in order of the names."""
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    names, listed = None, {}
    for part in PARTS:
        root = Path(folder) / part
        if not root.is_dir():
            there = ", ".join(class_names(folder)[:6])
            raise ValueError(f"{folder}: no folder {part}, but {there}; {LAYOUT}")
        found = class_names(root)
        names = names or found
        unknown = sorted(set(found) - set(names))
        if unknown:
            raise ValueError(f"{root / unknown[0]}: no such class under {Path(folder) / PARTS[0]}")
        listed[part] = [
            (path, label)
            for label, name in enumerate(names)
            if name in found
            for path in files_in(root / name)
            if path.suffix.lower() in suffixes
        ]
        if not listed[part]:
            raise ValueError(f"{root}: no images; {LAYOUT}")
        empty = set(range(len(names))) - {label for _, label in listed[part]}
        if part == PARTS[0] and (empty or len(names) < 2):
            where = f"{root / names[min(empty)]}: no images" if empty else f"{root}: only one class"
            raise ValueError(f"{where}; {LAYOUT}, at least two classes")
    return names, listed


def decode(path: Path, shape: tuple, squeezed: bool = True) -> np.ndarray | str:
    """The image as uint8 (H, W, C), grey if C = 1; or the reason why not, as a string.

    All of it, squeezed to this size; or else the largest centred part with this aspect. Where it is
    transparent it lies on white. What the file is not to blame for, as a failing disk or too little
    memory, is raised.
    """
    H, W, C = shape
    with open_regular(path) as file, naming(path):
        contents = file.read(MOST_BYTES + 1)
    if len(contents) > MOST_BYTES:
        return f"{path}: more than {MOST_BYTES:,} bytes"
    try:
        with Image.open(io.BytesIO(contents), formats=FORMATS) as image:
            image.draft("RGB" if C == 3 else "L", (W, H))  # a large JPEG is decoded at half size
            if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
                image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
            elif image.mode in ("I", "F"):
                return f"{path}: pixels of 32 bits, whose range is not known"
            image = on_white(image).convert("RGB" if C == 3 else "L")
            fit = image.resize if squeezed else partial(ImageOps.fit, image)
            small = fit((W, H), Image.BILINEAR)
    except UnidentifiedImageError:
        return f"{path}: not an image of the formats {', '.join(FORMATS)}"
    except Exception as error:  # noqa: BLE001  decoders fail in many ways; each is told by name
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            raise MemoryError(f"{path} could not be decoded") from None
        if isinstance(error, OSError) and error.errno:  # the system's, not the decoder's
            raise
        return f"{path}: {error}"
    return np.asarray(small).reshape(shape)


def on_white(image: Image.Image) -> Image.Image:
    """The picture, and white where it is transparent."""
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def decode_all(paths: Iterable[Path], shape: tuple, threads: int) -> Iterator[np.ndarray | str]:
    """decode(path) for each path, in order, by threads that work ahead of what is asked for."""
    paths = iter(paths)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(decode, p, shape) for p in itertools.islice(paths, IN_FLIGHT))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(decode, p, shape) for p in itertools.islice(paths, 1))
