"""Weights as .npz files."""

import io
import zipfile
import zlib

import numpy as np

from app.files import write_whole


def save_npz(path, arrays):
    """Write {name: array} to path."""

    def write(file):
        # As np.savez does, whose older versions leave the archive open when the disk is full.
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    write_whole(path, write)


def load_npz(path):
    """{name: array} from path. ValueError if it is not a sound .npz file."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            arrays = {
                name.removesuffix(".npy"): np.load(io.BytesIO(archive.read(name)))
                for name in archive.namelist()
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not a sound .npz file (cut off?): {error}") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError(f"{path} is not a sound .npz file: not everything in it is an array")
    return arrays


def save_weights(path, arrays, input_shape, scale, mean, order):
    """Write weights with the input they are for: (H, W, C), and how pixels 0 .. 255 become it,
    x = (pixels - mean) * scale, channels in the order "rgb" or "bgr"."""
    images = {"shape": input_shape, "scale": scale, "mean": mean, "order": order}
    save_npz(path, arrays | {f"input_{key}": np.array(value) for key, value in images.items()})


def load_weights(path):
    """({"conv1.w": array, ...}, {"shape": (H, W, C), "scale": ..., "mean": ..., "order": ...}) of
    an .npz file; the last as far as they are in it. float16 weights become float32.

    ValueError if something in the file is no real finite number.
    """
    arrays = load_npz(path)
    images = {key[6:]: arrays.pop(key) for key in list(arrays) if key.startswith("input_")}
    shape = images.get("shape")
    if shape is not None:
        if shape.shape != (3,) or shape.dtype.kind not in "iu" or not (0 < shape).all():
            raise ValueError(f"{path}: input_shape must be 3 positive whole numbers, got {shape}")
        images["shape"] = tuple(shape.tolist())
    scale = images.get("scale", np.ones(()))
    if scale.dtype.kind != "f" or not (np.isfinite(scale).all() and scale.all()):
        raise ValueError(f"{path}: input_scale must be finite and not 0, got {scale}")
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} is not made of finite real numbers")
        if array.dtype == np.float16:
            arrays[name] = array.astype(np.float32)
    return arrays, images
