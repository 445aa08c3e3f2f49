"""Arrays kept from call to call.

A fresh large array costs a page fault for every 4 KiB of it, on every call; a kept one does not.
"""

import math

import numpy as np


class Buffers:
    """A set of named scratch arrays that grow to the largest size asked for."""

    def __init__(self):
        self._flat = {}

    def get(self, name, shape, dtype, xp=np):
        """An array of this shape with arbitrary contents: what the last user of `name` left.

        A smaller request (the last batch of an epoch) reuses the front of the same memory.
        """
        size = math.prod(shape)
        flat = self._flat.get(name)
        if (
            flat is None
            or flat.size < size
            or flat.dtype != dtype
            or not isinstance(flat, xp.ndarray)
        ):
            flat = self._flat[name] = xp.empty(size, dtype)
        return flat[:size].reshape(shape)
