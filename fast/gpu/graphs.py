"""CUDA graphs: on a GPU a function of arrays is recorded once, and from then on is a single launch.

A LeNet step is a hundred kernels of a few microseconds each; Python takes longer to ask for them
than the GPU to run them.
"""

import warnings

import numpy as np

from fast.gpu import products
from nn.backend import array_module, to_device


class Recorded:
    """function(*arrays, **fixed) -> arrays, recorded.

    On a GPU the second call of the same shapes and the same `fixed` (hashable) records the kernels
    that function launches, with the addresses of all they touch, and later calls replay them. So
    what function does may depend on nothing else, and it must not look at results on the host. It
    may change arrays of its own, such as parameters. Numbers among `arrays`, which may change from
    call to call, reach it as float64 arrays. On a GPU the result is overwritten by the next call.
    """

    def __init__(self, function):
        self.function = function
        self.rehearsed, self.recordings = set(), {}  # by shapes and fixed
        self.possible = True

    def __call__(self, *arrays, **fixed):
        xp = array_module(arrays[0])
        arrays = [np.asarray(a, np.float64) if isinstance(a, float) else a for a in arrays]
        key = (*((a.shape, a.dtype.str) for a in arrays), *fixed.items())
        recording = self.recordings.get(key)
        if recording is None:
            arrays = [to_device(a, xp) for a in arrays]
            if not self.possible:
                return self.function(*arrays, **fixed)
            try:
                products.open_cublas(xp).use(xp.cuda.get_current_stream())
                if key in self.rehearsed:  # nothing is computed while it is recorded
                    recording = Recording(self.function, arrays, fixed, xp)
            except (
                AttributeError,
                ImportError,
                NotImplementedError,
                OSError,
                RuntimeError,
            ) as error:
                self.possible = False
                warnings.warn(f"no CUDA graph, which costs time: {error}", stacklevel=2)
                return self.function(*arrays, **fixed)
            if recording is None:  # the first time: all kernels are compiled, all memory is there
                self.rehearsed.add(key)
                with products.on(xp.cuda.get_current_stream(), xp):
                    return self.function(*arrays, **fixed)
            self.recordings[key] = recording
        return recording.replay(arrays, xp)


class Recording:
    """A graph, its inputs and outputs, and all memory that it touches."""

    def __init__(self, function, arrays, fixed, xp):
        self.inputs = [a.copy() for a in arrays]
        # A replay writes to the same addresses: nobody else may get memory that is freed meanwhile.
        # What the engine's forms write to stays in their rooms.
        self.pool = xp.cuda.MemoryPool()
        stream = xp.cuda.Stream(non_blocking=True)
        with (
            products.on(stream, xp),
            xp.cuda.using_allocator(self.pool.malloc),
            stream,
        ):
            stream.begin_capture()
            try:
                self.outputs = function(*self.inputs, **fixed)
            finally:
                self.graph = stream.end_capture()

    def replay(self, arrays, xp):
        for own, array in zip(self.inputs, arrays, strict=True):
            own[...] = to_device(array, xp)
        self.graph.launch()
        return self.outputs
