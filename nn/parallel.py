"""A network run by several processes, each on its part of the batch, over the same parameters.

Processes and not threads: an interpreter's threads hand its lock back and forth between NumPy's
short calls, which costs a sixth of a LeNet step, and a third with 16 images. The processes are
forked. Parameters, images and derivatives are in memory that is mapped before the fork and seen by
all of them; what goes through a pipe is what to do, and that it is done.
"""

import math
import weakref
from itertools import pairwise

import numpy as np

from nn.processes import answer, ask, end, fork, shared
from nn.threads import CAN_FORK

SMALLEST_PART = 6272  # numbers in images; for fewer, handing over costs more than it saves


class ParallelNetwork:
    """The calls of Network with the batch split over processes, this one among them.

    The result is that of `network` up to the rounding of the gradients' sum, and is the same on
    every run with the same number of processes. Gradients are left in the layers of `network`.
    The processes start with the first batch, and anew with one of more than `images` images, of
    another dtype, or after `network` was given other arrays for its parameters.
    """

    def __init__(self, network, processes, images=1):
        self.network, self.shapes = network, network.shapes
        self.processes, self.images = processes, images
        self.smallest_part = max(1, SMALLEST_PART // math.prod(network.input_shape))  # images
        self.seeds, self.params, self.dtype = (), {}, None
        self.others, self.pids = [], []  # pipes to the other processes, and their numbers

    def bottom_up(self, x, to=None, train=False):
        """Images x (N, H, W, C) -> the activations of layer `to` (by default the last: scores)."""
        return self.forward(x, to, train).copy()

    def top_down(self, dy, param_grads=True, input_grad=True):
        """dy at the layer where the last bottom_up ended -> dx at the images; see Network."""
        dx = self.backward(dy, param_grads, input_grad)
        return dx.copy() if input_grad else None

    def forward(self, x, to=None, train=False):
        """bottom_up without the copy: the result is overwritten by the next call."""
        if x.shape[1:] != self.network.input_shape:
            raise ValueError(f"expected images of {self.network.input_shape}, got {x.shape[1:]}")
        self.parts = self.split(len(x))
        if len(self.parts) == 1:
            return self.network.forward(x, to, train)
        self.start(len(x), np.result_type(x, *self.network.named().values()))
        after = self.parts[0].stop  # this process's own images need not be shared
        self.x[after : len(x)] = x[after:]
        seeds, self.seeds = self.seeds, ()
        shapes = self.each(self.forward_part, x, to, train, seeds)
        return self.like(self.y, len(x), shapes[0])

    def backward(self, dy, param_grads=True, input_grad=True):
        """top_down without the copy: the result is overwritten by the next call."""
        if len(self.parts) == 1:
            return self.network.backward(dy, param_grads, input_grad)
        self.like(self.dy, len(dy), dy.shape[1:])[...] = dy
        self.each(self.backward_part, dy.shape[1:], param_grads, input_grad)
        if param_grads:
            total = self.network.named("grads")
            for place in range(1, len(self.parts)):
                for name, grad in total.items():
                    grad += self.grads[place][name]
        return self.dx[: len(dy)] if input_grad else None

    def seed(self, *numbers):
        """Renew the dropout generators, differently for each part of the batch."""
        self.network.seed(*numbers, 0)
        self.seeds = numbers  # for the others, with their next part

    def split(self, count):
        """Slices of a batch of `count` images, one for each process that takes part."""
        parts = max(1, min(self.processes, count // self.smallest_part))
        return [slice(*ends) for ends in pairwise(count * i // parts for i in range(parts + 1))]

    def each(self, work, *arguments):
        """[work(place, part, *arguments)] of each part: the first done here, the others elsewhere.

        x does not go through a pipe: the others find theirs in self.x.
        """
        others = self.others[: len(self.parts) - 1]
        sent = [None if isinstance(a, np.ndarray) else a for a in arguments]
        for place, (part, other) in enumerate(zip(self.parts[1:], others, strict=True), 1):
            ask(other, work.__name__, place, part, *sent)
        try:
            results = [work(0, self.parts[0], *arguments)]
        finally:
            replies = [answer(other) for other in others]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return results + replies

    def forward_part(self, place, part, x, to, train, seeds):
        """In any of the processes: bottom-up for images `part`; the shape of what comes out."""
        if seeds and place:
            self.network.seed(*seeds, place)
        y = self.network.forward((self.x if x is None else x)[part], to, train)
        self.like(self.y, part.stop, y.shape[1:])[part] = y
        return y.shape[1:]

    def backward_part(self, place, part, shape, param_grads, input_grad):
        """In any of the processes: top-down for images `part`, from dy of this shape."""
        dy = self.like(self.dy, part.stop, shape)[part]
        dx = self.network.backward(dy, param_grads, input_grad)
        if input_grad:
            self.dx[part] = dx
        if param_grads and place:
            for name, grad in self.network.named("grads").items():
                self.grads[place][name][...] = grad

    def like(self, flat, count, shape):
        """The front of shared memory as an array of `count` times this shape."""
        return flat[: count * math.prod(shape)].reshape(count, *shape)

    def start(self, count, dtype):
        """Map the memory and fork the processes, unless those that there are will do."""
        params = self.network.named()
        same = all(params[name] is self.params.get(name) for name in params)
        if same and count <= self.images and dtype == self.dtype:
            return
        self.stop()
        self.images, self.dtype = max(count, self.images), dtype
        for layer in self.network.layers.values():
            for key, array in layer.params.items():
                layer.params[key] = shared(array.shape, array.dtype)
                layer.params[key][...] = array
        self.params = self.network.named()
        largest = max(math.prod(shape) for shape in self.shapes.values())
        self.x, self.dx = (shared((self.images, *self.network.input_shape), dtype) for _ in "xd")
        self.y, self.dy = (shared((self.images * largest,), dtype) for _ in "yd")
        self.grads = [
            {name: shared(array.shape, array.dtype) for name, array in self.params.items()}
            for _ in range(self.processes)
        ]
        for _ in range(self.processes - 1):
            other, pid = fork(self)
            self.others.append(other)
            self.pids.append(pid)
        self.stop = weakref.finalize(self, end, self.others, self.pids)

    def stop(self):
        """End the other processes: `start` puts another function here, called at the end, too."""


def parallel(network, processes, images=1):
    """network itself for one process, else a ParallelNetwork for batches of so many images."""
    alone = processes == 1 or not CAN_FORK
    return network if alone else ParallelNetwork(network, processes, images)
