"""A network run by several processes, each on its part of the batch, over the same parameters.

Processes and not threads: an interpreter's threads hand its lock back and forth between NumPy's
short calls, which costs a sixth of a LeNet step, and a third with 16 images. The processes are
forked. Parameters, images and derivatives are in memory that is mapped before the fork and seen by
all of them; what goes through a pipe is what to do, and that it is done.
"""

import math

import numpy as np

from nn.linear import FACTORS, Factors
from nn.processes import Workers
from nn.shared_arrays import SharedArrays, front
from nn.threads import CAN_FORK
from nn.windows import slices

WHOLE = 2**13  # numbers in a parameter: a smaller one is updated by a single process
SMALLEST_PART = 6272  # numbers in images; for fewer, handing over costs more than it saves


class ParallelNetwork:
    """The calls of Network with the batch split over `count` processes, this one among them.

    The result is that of `network` up to the rounding of the gradients' sum (with dropout, whose
    numbers each part draws for itself: of another draw), and is the same on every run with the same
    count. top_down leaves the gradients in the layers of `network`.

    The other processes start with the first batch that is large enough, and anew (which takes some
    milliseconds) with one of more than `images` images or of another dtype, after learning by
    another SGD, or when `network` has been given other arrays for its parameters. Other changes,
    such as of a momentum, do not reach processes that are running: call `stop` first. top_down
    belongs to the network's last bottom_up, whoever asked for that.
    """

    def __init__(self, network, count, images=1):
        self.network, self.shapes = network, network.shapes
        self.input_shape = network.input_shape
        self.count, self.images = count, images
        self.smallest_part = max(1, SMALLEST_PART // math.prod(self.input_shape))  # images
        self.workers, self.parts, self.seeds, self.dtype = None, [], (), None
        self.arrays = self.own_grads = self.sgd = None

    def bottom_up(self, x, to=None, train=False):
        """Images x (N, H, W, C) -> the activations of layer `to` (by default the last: scores)."""
        return self.forward(x, to, train).copy()

    def top_down(self, dy, param_grads=True, input_grad=True):
        """dy at the layer where the last bottom_up ended -> dx at the images; see Network."""
        dx = self.backward(dy, param_grads, input_grad)
        return dx.copy() if input_grad else None

    def forward(self, x, to=None, train=False):
        """bottom_up without the copy: the result is overwritten by the next call."""
        if x.shape[1:] != self.input_shape:
            raise ValueError(f"expected images of {self.input_shape}, got {x.shape[1:]}")
        self.parts = self.split(len(x))
        if len(self.parts) == 1:
            return self.network.forward(x, to, train)
        params = self.network.named()
        self.start(len(x), params, np.result_type(x, *params.values()))
        self.own_x, others = x[self.parts[0]], slice(self.parts[1].start, len(x))
        self.arrays.x[others] = x[others]
        seeds, self.seeds = self.seeds, ()
        shapes = self.each(self.forward_part, to, train, seeds)
        return front(self.arrays.y, len(x), shapes[0])

    def backward(self, dy, param_grads=True, input_grad=True):
        """top_down without the copy: the result is overwritten by the next call."""
        if len(self.parts) == 1:
            return self.network.backward(dy, param_grads, input_grad)
        self.hand_over(dy)
        self.each(self.backward_part, dy.shape[1:], param_grads, input_grad)
        if param_grads:
            for name, total in self.network.named("grads").items():
                for place in range(1, len(self.parts)):
                    total += self.arrays.grads[place][name]
        return self.arrays.dx[: len(dy)] if input_grad else None

    def learn(self, dy, sgd, lr):
        """top_down for the parameters' gradients, then their update, shared by the processes."""
        if len(self.parts) == 1:
            self.network.learn(dy, sgd, lr)
            return
        self.hand_over(dy)
        self.each(self.backward_part, dy.shape[1:], FACTORS, False)
        if sgd is self.sgd:
            self.each(self.update_part, lr, len(dy), len(self.parts))
        else:  # of which only processes to come can know
            self.sgd = sgd
            self.update_part(0, self.parts[0], lr, len(dy), shares=1)
            self.stop()

    def hand_over(self, dy):
        """Put dy where all processes see it. ValueError if there was no bottom_up before it."""
        if self.workers is None:
            told = "there was none, or its processes have ended"
            raise ValueError(f"top_down needs the bottom_up that it belongs to: {told}")
        if len(dy) != self.parts[-1].stop:
            raise ValueError(f"dy of {len(dy)} images after {self.parts[-1].stop} in bottom_up")
        front(self.arrays.dy, len(dy), dy.shape[1:])[...] = dy

    def seed(self, *numbers):
        """Renew the dropout generators, differently for each part of the batch."""
        self.network.seed(*numbers, 0)
        self.seeds = numbers  # for the others, with their next part

    def split(self, images):
        """Slices of a batch, one for each process that takes part: the first is for this one."""
        return slices(images, max(1, min(self.count, images // self.smallest_part)))

    def each(self, work, *arguments):
        """[work(place, part, *arguments)] of all parts, each done by a process of its own."""
        others = range(1, len(self.parts))
        try:
            for place in others:
                part = self.parts[place]
                self.workers.ask(place - 1, work.__name__, place, part, *arguments)
            mine = work(0, self.parts[0], *arguments)
            return [mine, *(self.workers.answer(place - 1) for place in others)]
        except BaseException:  # no answer must be left over for the next question
            self.stop()
            raise

    def forward_part(self, place, part, to, train, seeds):
        """In any of the processes: bottom-up for images `part`; the shape of what comes out."""
        if seeds and place:
            self.network.seed(*seeds, place)
        y = self.network.forward(self.arrays.x[part] if place else self.own_x, to, train)
        front(self.arrays.y, part.stop, y.shape[1:])[part] = y
        return y.shape[1:]

    def backward_part(self, place, part, shape, param_grads, input_grad):
        """In any of the processes: top-down for images `part`, from dy of this shape."""
        dy = front(self.arrays.dy, part.stop, shape)[part]
        if self.own_grads is not self.arrays.grads[place]:  # let layers write where all can read
            self.own_grads = self.arrays.grads[place]
            for name, layer in self.network.layers.items():
                if "w" in layer.params:
                    layer.buffers.put("dw", self.own_grads[f"{name}.w"])
        dx = self.network.backward(dy, param_grads, input_grad)
        if input_grad:
            self.arrays.dx[part] = dx
        if param_grads:
            for name, grad in self.network.named("grads").items():
                if isinstance(grad, Factors):
                    self.arrays.factors[name].x[part] = grad.x
                    self.arrays.factors[name].dy[part] = grad.dy
                elif not np.may_share_memory(grad, self.arrays.grads[place][name]):
                    self.arrays.grads[place][name][...] = grad

    def update_part(self, place, part, lr, images, shares):
        """In any of the processes: update its share of the parameters, rows of the large ones."""
        shared = self.arrays
        others = [g for p, g in enumerate(shared.grads[: len(self.split(images))]) if p != place]
        for number, name in enumerate(self.network.named("grads")):
            rows = share(number, shared.params[name], place, shares)
            grads = [shared.grads[place][name], *(g[name] for g in others)]
            if name in shared.factors:  # of all images: there is nothing to add up
                factors = shared.factors[name]
                grads = [Factors(factors.x[:images], factors.dy[:images])]
            if rows.start < rows.stop:
                self.sgd.update_rows(name, rows, grads, lr)
        self.network.forget_grads()

    def start(self, images, params, dtype):
        """Map the memory and fork the processes, unless those that there are will do."""
        enough = self.workers and images <= self.images and dtype == self.dtype
        if enough and all(w is self.arrays.params.get(name) for name, w in params.items()):
            return
        self.stop()
        self.images, self.dtype = max(images, self.images), dtype
        parts = len(self.split(self.images))
        self.arrays = SharedArrays(self.network, self.sgd, self.images, parts, dtype)
        self.workers = Workers(self, parts - 1)

    def stop(self):
        """End the other processes, if there are any; the next batch starts new ones."""
        workers, self.workers = self.workers, None
        if workers:
            workers.end()

    def release(self):
        """Give up the memory of all that the last run left; the parameters stay."""
        self.stop()
        self.images, self.arrays, self.own_x, self.own_grads = 1, None, None, None
        self.network.release()


def share(number, w, place, shares):
    """The rows of parameter `number` that one of so many processes updates; all of a small one."""
    if w.size < WHOLE:
        return slice(0, len(w) if number % shares == place else 0)
    return slices(len(w), shares)[place]


def parallel(network, count, images=1):
    """network itself for one process, else a ParallelNetwork for batches of so many images."""
    alone = count == 1 or not CAN_FORK
    return network if alone else ParallelNetwork(network, count, images)
