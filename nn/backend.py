"""NumPy or CuPy. This is the only file that imports CuPy.

All other code asks `array_module(x)` which library x belongs to, and calls that library xp.
"""

import math
from types import ModuleType

import numpy as np

Array = np.ndarray  # or cupy.ndarray

cupy: ModuleType | None
try:
    import cupy

    _ = cupy.ndarray  # an empty folder called cupy can be imported, too
    cupy_problem = None
except ModuleNotFoundError as error:
    cupy, cupy_problem = None, "CuPy is not installed (pip install cupy-cuda12x)"
    if error.name != "cupy":
        cupy_problem = f"CuPy cannot be imported: {error}"
except Exception as error:  # noqa: BLE001  a broken installation can raise anything
    first_line = f"{error}".strip().partition("\n")[0]
    cupy, cupy_problem = None, f"CuPy cannot be imported: {type(error).__name__}: {first_line}"


def array_module(x: Array) -> ModuleType:
    """The library of x: cupy for an array on the GPU, else numpy."""
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def to_host(x: Array) -> np.ndarray:
    """x as a NumPy array. It is copied only if it was on the GPU."""
    return x if array_module(x) is np else cupy.asnumpy(x)


def to_device(x: Array, xp: ModuleType) -> Array:
    """x as an array of the library xp."""
    return to_host(x) if xp is np else xp.asarray(x)


def erf(x: Array) -> Array:
    """The error function of each number. NumPy has none; Python's is exact, but slow."""
    if array_module(x) is np:
        return np.vectorize(math.erf, otypes=[x.dtype])(x)
    from cupyx.scipy import special

    return special.erf(x)
