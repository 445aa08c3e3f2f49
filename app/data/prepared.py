"""Images of a folder, decoded once for training: each is squeezed to one size, its aspect not kept.

    FOLDER/prepared-256x256x3/train.pixels, val.pixels     the images: (N, 256, 256, 3) uint8
    FOLDER/prepared-256x256x3/train.broken, val.broken     which of them cannot be decoded
    FOLDER/prepared-256x256x3/mean.floats                  the mean image: (256, 256, 3) float32

Training reads the arrays through the operating system's memory map, without decoding again.
"""

import hashlib
import itertools
import json
import math
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.data.folder import PARTS, decode_all, list_images
from app.files import hold, naming, parse_json, read_text, write_whole


def read_broken(file: Path, count: int) -> dict[int, str]:
    """{number: why} of the images that cannot be decoded, out of so many."""
    if not file.exists():
        return {}
    found = {}
    for line in read_text(file).splitlines():
        try:
            number, why = parse_json(line, file)
            if not (type(number) is int and 0 <= number < count and type(why) is str):
                raise ValueError
        except (ValueError, TypeError):
            raise ValueError(f"{file} is not sound: remove {file.parent}") from None
        found[number] = why
    return found


def write_part(file: Path, images: list, shape: tuple, threads: int, title: str) -> None:
    """Fill file with the pixels of the images that can be decoded, from where a last try was left.

    Those that cannot be are in file.broken.
    """
    partial, broken_file = file.with_suffix(".partial"), file.with_suffix(".broken")
    found, size = read_broken(broken_file, len(images)), math.prod(shape)
    with naming(partial), open(partial, "ab") as out, open(broken_file, "a") as broken:
        written = out.tell() // size
        out.truncate(written * size)  # the last image may be there in part
        sound = (number for number in range(len(images)) if number not in found)
        begin = next(itertools.islice(sound, written, None), len(images))
        decoded = decode_all([path for path, _ in images[begin:]], shape, threads)
        bar = tqdm(decoded, title, len(images), initial=begin, unit="image", mininterval=1)
        for number, image in enumerate(bar, begin):
            if isinstance(image, str):
                if number not in found:
                    broken.write(json.dumps([number, image]) + "\n")
                    broken.flush()
            else:
                out.write(image.tobytes())
        out.flush()
        os.fsync(out.fileno())
    partial.rename(file)


def open_pixels(file: Path, count: int, shape: tuple) -> np.ndarray:
    """The images in a prepared file, (count, *shape), mapped into memory."""
    check_size(file, count * math.prod(shape))
    return np.memmap(file, np.uint8, "r", shape=(count, *shape))


def check_size(file: Path, expected: int) -> None:
    """ValueError if a prepared file is not as long as it was when it was made."""
    found = file.stat().st_size
    if found != expected:
        raise ValueError(f"{file}: {found} bytes, expected {expected}: remove it to make it anew")


def mean_image(array: np.ndarray) -> np.ndarray:
    """The mean of all images, (H, W, C) float32."""
    total = np.zeros(array.shape[1:])
    for start in range(0, len(array), 100):
        total += array[start : start + 100].sum(axis=0, dtype=np.uint64)
    return (total / len(array)).astype(np.float32)


def check_room(place: Path, images: int, shape: tuple) -> None:
    """ValueError if the disk has no room for what is still to be written."""
    present = sum(path.stat().st_size for path in place.iterdir())
    needed, free = images * math.prod(shape) - present, shutil.disk_usage(place).free
    if needed > free:
        raise ValueError(
            f"{place}: {images} decoded images need {needed / 1e9:.1f} GB more, but only "
            f"{free / 1e9:.1f} GB are free (--prepared chooses another place)"
        )


def fingerprint(listed: dict[str, list]) -> str:
    """A checksum that changes when an image is added, left out or replaced."""
    checksum = hashlib.sha256()
    for path, _ in itertools.chain(*listed.values()):
        status = path.stat()
        line = f"{path.parent.name}/{path.name} {status.st_size} {status.st_mtime_ns}\n"
        checksum.update(os.fsencode(line))
    return checksum.hexdigest()


class Prepared:
    """The images of a folder, decoded to one shape, in files under `place`.

    What is there already is only read: it may be on a disk that cannot be written.
    """

    def __init__(self, place: Path, folder: Path, listed: dict[str, list], shape: tuple):
        self.place, self.folder, self.listed, self.shape = place, folder, listed, shape
        self.pixels = {part: place / f"{part}.pixels" for part in PARTS}
        self.mean, self.made_from = place / "mean.floats", place / "files.sha256"
        self.checksum = fingerprint(listed)

    def check(self) -> None:
        """ValueError if these files were made from other images."""
        if read_text(self.made_from) != self.checksum:
            raise ValueError(
                f"{self.place} was made from other images than are now in {self.folder}: remove it"
            )

    def complete(self) -> bool:
        return all(file.exists() for file in (self.made_from, self.mean, *self.pixels.values()))

    def make(self, threads: int) -> None:
        """Make the files that are not there yet. ValueError if another process does."""
        self.place.mkdir(parents=True, exist_ok=True)
        busy = f"another process is at work in {self.place}"
        with os.fdopen(hold(self.place / ".lock", busy), "rb"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever else Pillow thinks of an image
            if not self.made_from.exists():
                write_whole(self.made_from, lambda file: file.write(self.checksum.encode()))
            self.check()
            missing = [part for part in PARTS if not self.pixels[part].exists()]
            if missing:
                check_room(self.place, sum(map(len, self.listed.values())), self.shape)
            for part in missing:
                images, title = self.listed[part], f"preparing {part}"
                write_part(self.pixels[part], images, self.shape, threads, title)
            if not self.mean.exists():
                mean = mean_image(self.part("train")[0])
                write_whole(self.mean, lambda file: file.write(mean.tobytes()))

    def broken(self, part: str) -> dict[int, str]:
        """{number: why} of the images of a part that cannot be decoded."""
        file = self.pixels[part].with_suffix(".broken")
        return read_broken(file, len(self.listed[part]))

    def part(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """(images (N, *shape), labels) of those that can be decoded. ValueError if none can."""
        bad = self.broken(part)
        labels = [label for i, (_, label) in enumerate(self.listed[part]) if i not in bad]
        if not labels:
            why = next(iter(bad.values()))
            raise ValueError(f"{self.folder / part}: no image can be decoded: {why}")
        return open_pixels(self.pixels[part], len(labels), self.shape), np.array(labels)

    def mean_image(self) -> np.ndarray:
        check_size(self.mean, 4 * math.prod(self.shape))
        return np.fromfile(self.mean, np.float32).reshape(self.shape)


def read(
    folder: str | Path,
    shape: tuple,
    place: str | Path | None = None,
    threads: int = 2,
    skip_broken: bool = False,
) -> tuple:
    """Class names, (training images, labels), (validation ...), mean image; images (N, *shape).

    Prepares what is not yet prepared, under `place` (default: inside folder). ValueError names
    images that cannot be decoded, unless they are to be skipped.
    """
    folder = Path(folder)
    names, listed = list_images(folder)
    place = Path(place or folder) / "prepared-{}x{}x{}".format(*shape)
    prepared = Prepared(place, folder, listed, shape)
    if not prepared.complete():
        prepared.make(threads)
    prepared.check()
    parts = [prepared.part(part) for part in PARTS]
    broken = [why for part in PARTS for why in prepared.broken(part).values()]
    if broken and not skip_broken:
        more = f" and {len(broken) - 3} more, see {place}/*.broken" if len(broken) > 3 else ""
        raise ValueError(
            f"{len(broken)} of the images cannot be decoded: {'; '.join(broken[:3])}{more} "
            "(train.py --skip-broken leaves them out)"
        )
    return names, *parts, prepared.mean_image()
