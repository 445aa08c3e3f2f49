"""PyTorch's weights: the .safetensors format, and torchvision's AlexNet in our names and order."""

import json
import math
import os

import numpy as np

ALEXNET = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}
KEYS = {"weight": "w", "bias": "b"}
NAMES = {f"{a}.{key}": f"{b}.{KEYS[key]}" for a, b in ALEXNET.items() for key in KEYS}


def is_torchvision(arrays):
    """Whether the arrays have names of torchvision's AlexNet ("features.0.weight")."""
    return not NAMES.keys().isdisjoint(arrays)


def from_torchvision(arrays):
    """torchvision's state dict of AlexNet, or a part of it -> {"conv1.w": array, ...}.

    Convolutions (F, C, KH, KW) become (KH, KW, C, F), matrices (F, D) become (D, F); fc6 counts
    its inputs in our order. Other names are left as they are: Network.set_params lists them.
    """
    return {NAMES.get(name, name): turned(name, array) for name, array in arrays.items()}


def turned(name, array):
    """A weight with its axes in our order; anything else as it is."""
    ours = NAMES.get(name, "")
    if not ours.endswith(".w"):
        return array
    axes = "F, C, KH, KW" if ours.startswith("conv") else "F, D"
    if array.ndim != len(axes.split(", ")):
        raise ValueError(f"{name} is {array.shape}, expected ({axes})")
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if ours != "fc6.w":
        return array.T
    C, rest = divmod(array.shape[1], 6 * 6)
    if rest:
        raise ValueError(f"{name} is {array.shape}, expected (F, C * 6 * 6)")
    return channels_last_rows(array.T, (6, 6, C))


def channels_last_rows(w, shape):
    """w (D, F), its rows in the order C, H, W -> in our order H, W, C. shape: (H, W, C)."""
    H, W, C = shape
    return w.reshape(C, H, W, -1).transpose(1, 2, 0, 3).reshape(len(w), -1)


DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def load_safetensors(path):
    """{name: float32 array} from a .safetensors file.

    The file: 8 bytes with the length of the header; the header, JSON that says of each tensor its
    dtype, shape and place; the numbers. ValueError if it is not sound or not of finite reals.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > os.path.getsize(path) - 8:
                raise ValueError(f"it says that its header has {length} bytes")
            header = json.loads(file.read(length).decode())
            data = file.read()
        header.pop("__metadata__", None)
        return {name: tensor(name, data, **entry) for name, entry in header.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a sound .safetensors file: {error}") from None


def tensor(name, data, dtype, shape, data_offsets):
    """One tensor out of the data; nothing that the header says of it is believed unchecked."""
    begin, end = data_offsets
    if not all(type(n) is int and n >= 0 for n in (begin, end, *shape)):
        raise ValueError(f"{name} has the shape {shape} at {data_offsets}")
    if dtype not in DTYPES:
        raise ValueError(f"{name} is made of {dtype}, not of one of {', '.join(DTYPES)}")
    numbers = np.dtype(DTYPES[dtype])
    if not end <= len(data) or end - begin != math.prod(shape) * numbers.itemsize:
        raise ValueError(
            f"{name}, {dtype} of {shape}, is said to be at {data_offsets} of {len(data)} bytes"
        )
    array = np.frombuffer(data, numbers, math.prod(shape), begin)
    if dtype == "BF16":  # the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not made of finite numbers")
    return array
