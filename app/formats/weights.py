"""Weights in a file, with what the file tells of the images that they are for."""

from pathlib import Path

import numpy as np

from app.formats.npz import load_npz, save_npz
from app.formats.onnx.reader import is_onnx, read_onnx
from app.formats.reference import PREFIX, reference_from
from app.formats.safetensors import load_safetensors
from app.formats.torchvision import from_torchvision, is_torchvision

IMAGES = ("shape", "scale", "mean", "order")  # "input_" and one of these: names in an .npz file
COUNTER = "num_batches_tracked"  # PyTorch's, of batches that a normalisation has seen: no weight


def save_weights(
    path: str | Path,
    arrays: dict[str, np.ndarray],
    input_shape: tuple,
    scale: float | np.ndarray,
    mean: float | np.ndarray,
    order: str,
) -> None:
    """Write weights with the input they are for: (H, W, C), and how pixels 0 .. 255 become it,
    x = (pixels - mean) * scale, channels in the order "rgb" or "bgr".

    FloatingPointError if a weight is not finite: such a file could not be loaded again.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FloatingPointError(f"{name} is not finite: {path} was not written")
    images = dict(zip(IMAGES, (input_shape, scale, mean, order), strict=True))
    save_npz(path, arrays | {f"input_{key}": np.array(value) for key, value in images.items()})


def load_weights(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """({"conv1.w": float32 array, ...}, what the file tells of its images), from a file that is
    .npz, .safetensors or .onnx.

    The latter is {"shape": (H, W, C), "scale": ..., "mean": ..., "order": ...}, as far as the file
    tells, and "q": the arrays of the reference that f goes with, if there is one (reference.py).
    ValueError if there are no weights, or not of finite real numbers, or settings of images that
    make no sense.
    """
    images, q = {}, {}
    if is_onnx(path):
        _, arrays, images["shape"] = read_onnx(path)
    elif str(path).lower().endswith(".safetensors"):
        arrays = load_safetensors(path)
    else:
        arrays = load_npz(path)
        images = {key: arrays.pop(f"input_{key}") for key in IMAGES if f"input_{key}" in arrays}
        names = [name for name in arrays if name.startswith(PREFIX) and "." not in name]
        q = {name: arrays.pop(name) for name in names}
    try:
        if "state" in arrays:
            raise ValueError("a checkpoint of a run: its weights are in model.npz once it is done")
        if is_torchvision(arrays):
            arrays = from_torchvision(arrays)
        arrays = {name: w for name, w in arrays.items() if not name.endswith(COUNTER)}
        if not arrays:
            raise ValueError("there are no weights in it")
        images = images if is_onnx(path) else image_settings(images)
        if q:
            if "shape" not in images:
                raise ValueError("it has a reference q, but no input_shape")
            reference_from(q, images["shape"])
            images["q"] = q
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return real_numbers(path, arrays), images


def real_numbers(path: str | Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file in float32. ValueError if one is not of finite real numbers."""
    try:
        return {name: real_array(name, array) for name, array in arrays.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def real_array(name: str, array: np.ndarray) -> np.ndarray:
    """The array in float32. ValueError if it is not of finite real numbers, or not in float32."""
    if array.dtype.kind != "f":
        raise ValueError(f"{name} is made of {array.dtype}, not of real numbers")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not made of finite numbers")
    return array


def image_settings(images: dict[str, np.ndarray]) -> dict:
    """What an .npz file tells of its images. ValueError if it makes no sense."""
    settings = {}
    if "shape" in images:
        shape = images["shape"]
        if shape.shape != (3,) or shape.dtype.kind not in "iu" or not (0 < shape).all():
            raise ValueError(f"input_shape must be 3 positive whole numbers, got {shape}")
        settings["shape"] = tuple(shape.tolist())
    C = settings["shape"][2] if "shape" in settings else 3
    for key, image in (("scale", ()), ("mean", settings.get("shape", ()))):
        if key in images:
            settings[key] = real_array(f"input_{key}", images[key])
            if settings[key].shape not in ((), (C,), image):
                raise ValueError(
                    f"input_{key} must be one number, or one for each channel, got an array of "
                    f"{settings[key].shape}"
                )
    scale = np.abs(settings.get("scale", 1))
    if not ((1e-12 <= scale) & (scale <= 1e12)).all():
        raise ValueError(f"input_scale must be from 1e-12 to 1e12, got {settings['scale']}")
    if "order" in images:
        order = settings["order"] = str(images["order"])
        if order not in ("rgb", "bgr") or (order == "bgr" and C == 1):
            raise ValueError(f"input_order must be rgb, or bgr for colours, got {order!r}")
    return settings
