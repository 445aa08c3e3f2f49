"""A network run by several processes, each on its part of the batch, over the same parameters.

Processes and not threads: an interpreter's threads hand its lock back and forth between NumPy's
short calls, which costs a sixth of a LeNet step, and a third with 16 images. The processes are
forked. Parameters, images and derivatives are in memory that is mapped before the fork and seen by
all of them; what goes through a pipe is what to do, and that it is done.
"""

import math

import numpy as np

from fast.cpu import for_one_image
from fast.cpu.processes import Workers
from fast.cpu.shared_arrays import SharedArrays, front
from fast.cpu.update import sum_rows, update_rows
from fast.cpu.windows import slices
from fast.engine import Device, Engine
from nn.backend import Array
from nn.network import Network
from nn.sgd import SGD

WHOLE = 2**13  # numbers in a parameter: a smaller one is updated by a single process
SMALLEST_PART = 6272  # numbers in images; for fewer, handing over costs more than it saves


class Team:
    """The calls of Engine with the batch split over `count` processes, this one among them.

    The result is that of one process up to the rounding of the gradients' sum (with dropout, whose
    numbers each part draws for itself: of another draw), and is the same on every run with the same
    count. Results are valid until the next call.

    The other processes start with the first batch that is large enough, and anew (which takes some
    milliseconds) with one of more than `images` images or of another dtype, after learning by
    another SGD, or when the network has been given other arrays for its parameters. Other changes,
    such as of a momentum, do not reach processes that are running: call `stop` first.
    """

    def __init__(self, network: Network, device: Device, count: int, images: int = 1):
        self.network, self.engine = network, Engine(network, device)
        self.alone = Engine(network, for_one_image(device, count))  # for what is not split
        self.input_shape, self.shapes = network.input_shape, network.shapes
        self.count, self.images = count, images
        self.smallest_part = max(1, SMALLEST_PART // math.prod(self.input_shape))  # images
        self.workers, self.parts, self.seeds, self.dtype = None, [slice(0, 0)], (), None
        self.arrays = self.sgd = None
        self.total = None  # where `gradients` puts sums: memory that processes to come share

    def bottom_up(self, x: Array, to: str | None = None, train: bool = False) -> Array:
        """Images x (N, H, W, C) -> the activations of layer `to` (by default the last: scores)."""
        self.network.check_images(x)
        self.parts = self.split(len(x))
        if len(self.parts) == 1:
            return self.alone.bottom_up(x, to, train)
        params = self.network.params()
        self.start(len(x), params, np.result_type(x, *params.values()))
        self.own_x, others = x[self.parts[0]], slice(self.parts[1].start, len(x))
        self.arrays.x[others] = x[others]
        seeds, self.seeds = self.seeds, ()
        shapes = self.each(self.forward_part, to, train, seeds)
        return front(self.arrays.y, len(x), shapes[0])

    def top_down(self, dy: Array, grads: dict[str, Array] | None = None) -> Array:
        """dy at the layer where the last bottom_up ended -> dx at the images; see Engine."""
        if len(self.parts) == 1:
            return self.alone.top_down(dy, grads)
        self.hand_over(dy)
        self.each(self.backward_part, dy.shape[1:], grads is not None)
        for name, w in self.engine.params_below() if grads is not None else ():
            total = grads.setdefault(name, np.empty(w.shape, self.dtype))
            np.sum([g[name] for g in self.arrays.grads[: len(self.parts)]], axis=0, out=total)
        return self.arrays.dx[: len(dy)]

    def learn(self, dy: Array, sgd: SGD, lr: float) -> None:
        """top_down for the gradients, then the update; the processes share both."""
        if len(self.parts) == 1:
            self.alone.learn(dy, sgd, lr)
            return
        self.hand_over(dy)
        self.each(self.gradients_part, dy.shape[1:])
        self.step(sgd, self.update_part, lr, len(dy), len(self.parts))

    def gradients(self, dy: Array, total: dict[str, Array]) -> None:
        """The gradients into `total`, which was self.total at the last bottom_up; see Engine."""
        if len(self.parts) == 1:
            self.alone.gradients(dy, total)
            return
        self.hand_over(dy)
        self.each(self.gradients_part, dy.shape[1:])
        self.each(self.sum_part, len(dy), len(self.parts))

    def update(self, sgd: SGD, total: dict[str, Array], lr: float) -> None:
        """A step of `sgd` by the gradients in `total`, after `gradients`; see Engine."""
        if len(self.parts) == 1:
            self.alone.update(sgd, total, lr)
        else:
            self.step(sgd, self.total_part, lr, len(self.parts))

    def step(self, sgd, work, *arguments):
        """Let all processes update their shares of the parameters."""
        if sgd is self.sgd:
            self.each(work, *arguments)
        else:  # only processes to come can know this SGD; row by row the work is the same
            self.sgd = sgd
            for place, part in enumerate(self.parts):
                work(place, part, *arguments)
            self.stop()

    def hand_over(self, dy):
        """Put dy where all processes see it. ValueError if there was no bottom_up before it."""
        if self.workers is None:
            why = "there was none, or its processes have ended"
            raise ValueError(f"top_down needs the bottom_up that it belongs to: {why}")
        if len(dy) != self.parts[-1].stop:
            raise ValueError(
                f"top_down got dy of {len(dy)} images, but bottom_up had {self.parts[-1].stop}"
            )
        front(self.arrays.dy, len(dy), dy.shape[1:])[...] = dy

    def seed(self, *numbers: int) -> None:
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
        y = self.engine.bottom_up(self.arrays.x[part] if place else self.own_x, to, train)
        front(self.arrays.y, part.stop, y.shape[1:])[part] = y
        return y.shape[1:]

    def backward_part(self, place, part, shape, with_grads):
        """In any of the processes: top-down for images `part`, from dy of this shape."""
        dy = front(self.arrays.dy, part.stop, shape)[part]
        grads = self.arrays.grads[place] if with_grads else None
        self.arrays.dx[part] = self.engine.backward(dy, grads, input_grad=True)

    def gradients_part(self, place, part, shape):
        """In any of the processes: the gradients alone, those of matrices as factors."""
        dy = front(self.arrays.dy, part.stop, shape)[part]
        for factors in self.arrays.factors.values():
            factors.part = part
        self.engine.backward(dy, self.arrays.grads[place] | self.arrays.factors, input_grad=False)

    def update_part(self, place, part, lr, images, shares):
        """In any of the processes: update its share of the parameters, rows of the large ones."""
        for name, rows, grads in self.shares(place, images, shares):
            update_rows(self.sgd, name, rows, grads, lr)

    def sum_part(self, place, part, images, shares):
        """In any of the processes: add up its share of the gradients, in `total`."""
        for name, rows, grads in self.shares(place, images, shares):
            sum_rows(self.total[name], rows, grads)

    def total_part(self, place, part, lr, shares):
        """In any of the processes: update its share of the parameters by the sums in `total`."""
        for number, (name, w) in enumerate(self.engine.params_below()):
            rows = share(number, w, place, shares)
            if rows.start < rows.stop:
                update_rows(self.sgd, name, rows, [self.total[name]], lr)

    def shares(self, place, images, shares):
        """(name, rows, gradients to add up) of what one process updates of each parameter."""
        shared = self.arrays
        others = [g for p, g in enumerate(shared.grads[: len(self.split(images))]) if p != place]
        for number, (name, w) in enumerate(self.engine.params_below()):
            rows = share(number, w, place, shares)
            if name in shared.factors:  # of all images: there is nothing to add up
                grads = [shared.factors[name].of(images)]
            else:
                grads = [shared.grads[place][name], *(g[name] for g in others)]
            if rows.start < rows.stop:
                yield name, rows, grads

    def start(self, images, params, dtype):
        """Map the memory and fork the processes, unless those that there are will do."""
        enough = self.workers and images <= self.images and dtype == self.dtype
        enough = enough and self.total is self.arrays.total
        if enough and all(w is self.arrays.params.get(name) for name, w in params.items()):
            return
        self.stop()
        self.images, self.dtype = max(images, self.images), dtype
        parts = len(self.split(self.images))
        self.arrays = SharedArrays(self.network, self.sgd, self.images, parts, dtype)
        self.arrays.total = self.total
        self.workers = Workers(self, parts - 1)

    def stop(self) -> None:
        """End the other processes, if there are any; the next batch starts new ones."""
        self.alone.device.crew.stop()
        workers, self.workers = self.workers, None
        if workers:
            workers.end()


def share(number, w, place, shares):
    """The rows of parameter `number` that one of so many processes updates; all of a small one."""
    if w.size < WHOLE:
        return slice(0, len(w) if number % shares == place else 0)
    return slices(len(w), shares)[place]
