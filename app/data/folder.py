"""Folders of images in the layout of ImageNet, prepared once for training.

    FOLDER/train/CLASS/*.JPEG, FOLDER/val/CLASS/*.JPEG     any format that Pillow reads
    FOLDER/prepared-256x256x3/train.pixels, val.pixels     the same, decoded: (N, 256, 256, 3)

Each image is decoded and squeezed to one size (its aspect is not kept) once; training then reads
the arrays through the operating system's memory map, without decoding again.
"""

import hashlib
import itertools
import json
import math
import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from app.files import hold, write_whole
from app.formats.npz import load_npy

PARTS = ("train", "val")
LAYOUT = "expected train/CLASS/*.JPEG and val/CLASS/*.JPEG"
IN_FLIGHT = 64  # images decoded ahead of the one that is written


def is_image_folder(folder):
    return any((Path(folder) / part).is_dir() for part in PARTS)


def class_names(root):
    return sorted(path.name for path in Path(root).iterdir() if path.is_dir())


def list_images(folder):
    """(class names, {"train": [(path, label), ...], "val": ...}), labels in order of the names."""
    suffixes = set(Image.registered_extensions())
    names, listed = None, {}
    for part in PARTS:
        root = Path(folder) / part
        if not root.is_dir():
            raise ValueError(f"{folder}: no folder {part}; {LAYOUT}")
        found = class_names(root)
        names = names or found
        unknown = sorted(set(found) - set(names))
        if unknown:
            raise ValueError(f"{root / unknown[0]}: no such class under {Path(folder) / PARTS[0]}")
        listed[part] = [
            (path, label)
            for label, name in enumerate(names)
            if name in found
            for path in sorted((root / name).iterdir())
            if path.suffix.lower() in suffixes and not path.name.startswith(".")
        ]
        if not listed[part]:
            raise ValueError(f"{root}: no images; {LAYOUT}")
        empty = set(range(len(names))) - {label for _, label in listed[part]}
        if part == PARTS[0] and (empty or len(names) < 2):
            where = f"{root / names[min(empty)]}: no images" if empty else f"{root}: only one class"
            raise ValueError(f"{where}; {LAYOUT}, at least two classes")
    return names, listed


def decode(path, shape):
    """The image as uint8 (H, W, C), grey if C = 1; or the reason why not, as a string."""
    H, W, C = shape
    try:
        with Image.open(path) as image:
            image.draft("RGB" if C == 3 else "L", (W, H))  # a large JPEG is decoded at half size
            if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
                image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
            elif image.mode in ("I", "F"):
                return f"{path}: pixels of 32 bits, whose range is not known"
            small = image.convert("RGB" if C == 3 else "L").resize((W, H), Image.BILINEAR)
    except Exception as error:  # noqa: BLE001  decoders fail in many ways; each is told by name
        return f"{path}: {error}"
    return np.asarray(small).reshape(shape)


def decode_all(paths, shape, threads):
    """decode(path) for each path, in order, by threads that work ahead of what is asked for."""
    paths = iter(paths)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(decode, p, shape) for p in itertools.islice(paths, IN_FLIGHT))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(decode, p, shape) for p in itertools.islice(paths, 1))


def write_part(file, images, shape, threads, title):
    """Fill file with the pixels of the images that can be decoded, from where a last try was left.

    Returns {number: why} of the images that cannot: they are in file.broken, not in the file.
    """
    partial, broken_file = file.with_suffix(".partial"), file.with_suffix(".broken")
    size = math.prod(shape)
    with open(broken_file, "a+") as broken:
        broken.seek(0)
        try:
            found = dict(json.loads(line) for line in broken)
        except (ValueError, TypeError):
            raise ValueError(f"{broken_file} is not sound: remove {file.parent}") from None
        if file.exists():
            return found
        with open(partial, "ab") as out:
            hold(out, f"another process is at work in {file.parent}")
            written = out.tell() // size
            out.truncate(written * size)  # the last image may be there in part
            sound = (number for number in range(len(images)) if number not in found)
            begin = next(itertools.islice(sound, written, None), len(images))
            decoded = decode_all([path for path, _ in images[begin:]], shape, threads)
            bar = tqdm(decoded, title, len(images), initial=begin, unit="image", mininterval=1)
            for number, image in enumerate(bar, begin):
                if isinstance(image, str):
                    found[number] = image
                    broken.write(json.dumps([number, image]) + "\n")
                    broken.flush()
                else:
                    out.write(image.tobytes())
            out.flush()
            os.fsync(out.fileno())
    partial.rename(file)
    return found


def open_pixels(file, count, shape):
    """The images in a prepared file, (count, *shape), mapped into memory."""
    found, expected = file.stat().st_size, count * math.prod(shape)
    if found != expected:
        raise ValueError(f"{file}: {found} bytes, expected {expected}: remove it to make it anew")
    return np.memmap(file, np.uint8, "r", shape=(count, *shape))


def mean_image(array):
    """The mean of all images, (H, W, C) float32."""
    total = np.zeros(array.shape[1:])
    for start in range(0, len(array), 100):
        total += array[start : start + 100].sum(axis=0, dtype=np.uint64)
    return (total / len(array)).astype(np.float32)


def check_room(place, images, shape):
    """ValueError if the disk has no room for what is still to be written."""
    present = sum(path.stat().st_size for path in place.iterdir())
    needed, free = images * math.prod(shape) - present, shutil.disk_usage(place).free
    if needed > free:
        raise ValueError(
            f"{place}: {images} decoded images need {needed / 1e9:.1f} GB more, but only "
            f"{free / 1e9:.1f} GB are free (--prepared chooses another place)"
        )


def fingerprint(path):
    """What changes when an image is replaced."""
    status = path.stat()
    return f"{path.parent.name}/{path.name} {status.st_size} {status.st_mtime_ns}"


def read(folder, shape, place=None, threads=2, skip_broken=False):
    """Class names, (training images, labels), (validation ...), mean image; images (N, *shape).

    Prepares what is not yet prepared, under `place` (default: inside folder). ValueError names
    images that cannot be decoded, unless they are to be skipped.
    """
    folder = Path(folder)
    place = Path(place or folder) / "prepared-{}x{}x{}".format(*shape)
    names, listed = list_images(folder)
    place.mkdir(parents=True, exist_ok=True)
    files = "\n".join(fingerprint(path) for part in PARTS for path, _ in listed[part])
    checksum, checksum_file = hashlib.sha256(files.encode()).hexdigest(), place / "files.sha256"
    if not checksum_file.exists():
        write_whole(checksum_file, lambda file: file.write(checksum.encode()))
    if checksum_file.read_text() != checksum:
        raise ValueError(f"{place} was made from other images than are now in {folder}: remove it")
    if not all((place / f"{part}.pixels").exists() for part in PARTS):
        check_room(place, sum(map(len, listed.values())), shape)
    parts, broken = [], []
    for part in PARTS:
        file = place / f"{part}.pixels"
        bad = write_part(file, listed[part], shape, threads, f"preparing {part}")
        broken += bad.values()
        labels = [label for i, (_, label) in enumerate(listed[part]) if i not in bad]
        if not labels:
            raise ValueError(f"{folder / part}: no image can be decoded: {broken[0]}")
        parts.append((open_pixels(file, len(labels), shape), np.array(labels)))
    if broken and not skip_broken:
        more = f" and {len(broken) - 3} more, see {place}/*.broken" if len(broken) > 3 else ""
        raise ValueError(
            f"{len(broken)} of the images cannot be decoded: {'; '.join(broken[:3])}{more} "
            "(--skip-broken leaves them out)"
        )
    mean_file = place / "mean.npy"
    if not mean_file.exists():
        mean = mean_image(parts[0][0])
        write_whole(mean_file, lambda file: np.save(file, mean))
    try:
        return names, *parts, load_npy(mean_file)
    except ValueError as error:
        raise ValueError(f"{error}; remove it to make it anew") from None
