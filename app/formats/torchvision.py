"""torchvision's AlexNet in our names and our order of axes."""

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


def is_torchvision(arrays: dict) -> bool:
    """Whether the arrays have names of torchvision's AlexNet ("features.0.weight")."""
    return not NAMES.keys().isdisjoint(arrays)


def from_torchvision(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """torchvision's state dict of AlexNet, or a part of it -> {"conv1.w": array, ...}.

    Convolutions (F, C, KH, KW) become (KH, KW, C, F), matrices (F, D) become (D, F); fc6 counts
    its inputs in our order. Other names are left as they are: Network.set_params lists them.
    """
    ours = {NAMES.get(name, name): turned(name, array) for name, array in arrays.items()}
    if len(ours) < len(arrays):
        twice = next(name for name in arrays if NAMES.get(name) in arrays)
        raise ValueError(f"{twice} and {NAMES[twice]} are the same, and both are there")
    return ours


def turned(name: str, array: np.ndarray) -> np.ndarray:
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


def channels_last_rows(w: np.ndarray, shape: tuple) -> np.ndarray:
    """w (D, F), its rows in the order C, H, W -> in our order H, W, C. shape: (H, W, C)."""
    H, W, C = shape
    return w.reshape(C, H, W, w.shape[1]).transpose(1, 2, 0, 3).reshape(w.shape)
