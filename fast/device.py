"""Which device there is to compute on."""

import os
from types import ModuleType

import numpy as np

from nn.backend import cupy, cupy_problem

DEVICES = ["auto", "cpu", "gpu", "gpu-tf32"]


def gpus() -> int:
    """How many GPUs CuPy can see, without using one."""
    if cupy is None:
        return 0
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


def gpu_problem() -> str | None:
    """Why no GPU can be used, in a few words; None if one can."""
    if cupy is None:
        return cupy_problem
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            return "CUDA finds no GPU"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA finds no GPU ({error})"
    try:  # a product needs cuBLAS, a sum a compiler: CUDA's libraries may be missing or too old
        ones = cupy.ones((2, 2))  # float64: the first float32 product settles what CUPY_TF32 does
        (ones @ ones).sum().item()
    except Exception as error:  # noqa: BLE001  CuPy raises what its libraries raise
        return f"CuPy cannot use the GPU ({' '.join(str(error).split())})"
    return None


def choose_device(name: str = "auto", place: int = 0) -> tuple[ModuleType, str]:
    """The array library for a device name, and one line that says which and why.

    name: "cpu", "gpu", or "auto" (a GPU if there is one); "gpu-tf32" lets matrix products of
    float32 numbers round these to 10 bits. place: of this process among those of a job on this
    machine, which take its GPUs in turn. ValueError if a GPU is named and cannot be had.
    """
    if name not in DEVICES:
        raise ValueError(f"unknown device {name!r}: expected {', '.join(DEVICES)}")
    if name == "cpu":
        return np, "NumPy on the CPU"
    if gpus():
        cupy.cuda.Device(place % gpus()).use()
    problem = gpu_problem()
    if problem is None:
        if name == "gpu-tf32":
            os.environ["CUPY_TF32"] = "1"  # CuPy reads it at its first product
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        rounded = ", products in TF32" if os.environ.get("CUPY_TF32") == "1" else ""
        return cupy, f"CuPy on {properties['name'].decode()}{rounded}"
    if name != "auto":
        raise ValueError(f"--device {name}: {problem}; use --device cpu, or auto")
    return np, f"NumPy on the CPU: {problem}"
