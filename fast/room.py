"""Memory kept from call to call: a fresh large array costs a page fault for every 4 KiB of it."""

import math
from types import ModuleType

import numpy as np

from nn.backend import Array


class Room:
    """Named scratch arrays of a layer, which grow to the largest size asked for.

    grown: whether an array was replaced by a larger one. What was made for smaller images still
    works in the old memory. A GPU keeps all of it, since recorded kernels write to its addresses.
    crew: the processes that share the work on one image (see cpu/bands.py).
    """

    def __init__(self, xp: ModuleType = np, crew=None):
        self.xp, self.crew, self.grown = xp, crew, False
        self.flat: dict = {}  # name: the memory
        self.views: dict = {}  # (name, shape, dtype): the array handed out
        self.replaced: list = []
        self.shared: dict = {}  # what the forms of a layer make for one another

    def get(self, name: str, shape: tuple, dtype: type) -> Array:
        """An array of this shape with arbitrary contents: what the last user of `name` left.

        A smaller request, such as the last batch of an epoch, takes the front of the same memory.
        """
        key = name, shape, dtype
        view = self.views.get(key)
        if view is None:
            size = math.prod(shape)
            flat = self.flat.get((name, dtype))
            if flat is None or flat.size < size:
                if flat is not None:
                    self.grown = True
                    self.views = {k: v for k, v in self.views.items() if k[::2] != key[::2]}
                    if self.xp is not np:
                        self.replaced.append(flat)
                flat = self.flat[name, dtype] = self.xp.empty(size, dtype)
            view = self.views[key] = flat[:size].reshape(shape)
        return view
