"""Arrays kept from call to call.

A fresh large array costs a page fault for every 4 KiB of it, on every call; a kept one does not.
"""

import math
from contextlib import contextmanager

import numpy as np


class Buffers:
    """A set of named scratch arrays that grow to the largest size asked for."""

    kept = None  # a list for all memory handed out, while a CUDA graph is recorded

    @classmethod
    @contextmanager
    def kept_in(cls, kept):
        """In this block, put the memory that is handed out by any Buffers into the list `kept`."""
        cls.kept = kept
        try:
            yield
        finally:
            cls.kept = None

    def __init__(self):
        self._flat = {}  # name: the memory
        self._views = {}  # (name, shape, dtype, library): the array handed out

    def get(self, name, shape, dtype, xp=np):
        """An array of this shape with arbitrary contents: what the last user of `name` left.

        A smaller request (the last batch of an epoch) reuses the front of the same memory.
        """
        key = name, shape, dtype, xp
        view = self._views.get(key)
        if view is None:
            size, dtype = math.prod(shape), np.dtype(dtype)
            flat = self._flat.get(name)
            fits = isinstance(flat, xp.ndarray) and flat.dtype == dtype and flat.size >= size
            if not fits:
                flat = xp.empty(size, dtype)
                self.put(name, flat)
            view = self._views[key] = flat[:size].reshape(shape)
        if Buffers.kept is not None:
            Buffers.kept.append(view)  # which keeps the memory that it is a view of
        return view

    def put(self, name, array):
        """Hand out this array's memory under `name` from now on."""
        self._flat[name] = array.reshape(-1)
        self._views = {key: view for key, view in self._views.items() if key[0] != name}
