"""A large layer's work on a single image, shared by processes.

Each computes a band of y's rows. The windows of a band see a band of x: the image's border belongs
to the first and the last band alone, and the rows that two bands see are in both. Where y has few
rows, or is fully connected, each has some of the filters instead, and sees all of x. On the way
down, dx is the sum of what the parts have.
"""

from copy import copy
from typing import NamedTuple

import numpy as np

from fast.cpu.linear import Factors
from fast.cpu.processes import Workers, shared
from fast.cpu.shared_arrays import moved
from fast.cpu.windows import slices
from fast.engine import Form
from fast.room import Room
from nn.conv import Conv
from nn.layer import Layer
from nn.linear import Linear

LARGE = 2**21  # multiplications of a layer: with fewer, asking costs more than it saves
FEWEST = 8  # rows in a band: with fewer, all of w is read for little work


class Part(NamedTuple):
    """What one process does of a layer: its part of x, of y, and of parameters' last axes."""

    layer: Layer
    seen: tuple
    out: tuple
    params: slice


def rows_of(conv: Conv, image: tuple, count: int) -> list[Part]:
    """Bands of a convolution's rows."""
    (KH, _), (SH, _), ((top, _), along) = conv.kernel, conv.stride, conv.pad
    parts = []
    for out in slices(conv.output_shape(image)[0], count):
        first, end = out.start * SH - top, (out.stop - 1) * SH + KH - top
        seen = slice(max(0, first), min(image[0], end))
        band = copy(conv)  # over the same parameters
        band.pad = (seen.start - first, end - seen.stop), along
        parts.append(Part(band, np.s_[:, seen], np.s_[:, out], slice(None)))
    return parts


def filters_of(layer: Layer, image: tuple, count: int) -> list[Part]:
    """Filters of a convolution, or units of a fully connected layer."""
    parts = []
    F = layer.output_shape(image)[-1]
    for some in slices(F, min(count, F)):
        part = copy(layer)
        part.params = {key: w[..., some] for key, w in layer.params.items()}
        part.filters = part.units = some.stop - some.start
        parts.append(Part(part, np.s_[:], np.s_[..., some], some))
    return parts


class Bands(Form):
    """The forms of a table share a layer's work; see for_one_image in __init__.py."""

    table: list = []

    @staticmethod
    def fits(layers, shapes, job):
        (layer,), ((N, *image),), (_, train) = layers, shapes, job
        *size, F = layer.output_shape(image)
        large = np.prod(size) * layer.params["w"].size >= LARGE
        if isinstance(layer, Conv) and (layer.groups > 1 or layer.dilation != (1, 1)):
            return False
        return N == 1 and large and not train

    def __init__(self, names, layers, shapes, job, room):
        (self.name,), (self.layer,), (self.shape,), self.job = names, layers, shapes, job
        self.room, self.crew = room, room.crew
        y = 1, *self.layer.output_shape(self.shape[1:])
        self.x, self.y, self.dy = map(self.get, ("x", "y", "dy"), (self.shape, y, y))
        self.dx = room.get("dx", self.shape, job[0])
        self.build()
        self.crew.add(self)

    def get(self, name, shape):
        """An array that all processes see."""
        key = name, shape, self.job[0]
        if key not in self.room.shared:
            self.room.shared[key] = shared(shape, self.job[0])
        return self.room.shared[key]

    def build(self):
        """The parts and their forms, over parameters that all processes see."""
        self.crew.move(self.layer)
        self.w = self.layer.params["w"]
        image, count = self.shape[1:], self.crew.count
        split = rows_of if self.many_rows() else filters_of
        self.parts = split(self.layer, image, count)
        self.forms, self.dxs, self.grads = [], [], []
        for place, part in enumerate(self.parts):
            below = [part.layer], [self.x[part.seen].shape], self.job
            form = next(f for f in self.table if f.takes == (type(self.layer),) and f.fits(*below))
            room = self.room.shared.setdefault(f"part {place}", Room())
            self.forms.append(form([self.name], *below, room))
            self.dxs.append(self.get(f"dx {place}", self.x[part.seen].shape))
            params = part.layer.params.items()
            grads = {f"{self.name}.{k}": self.get(f"d{k} {place}", w.shape) for k, w in params}
            self.grads.append(grads)

    def many_rows(self):
        """Whether each process can have a band of y, whose windows see rows of the image."""
        if not isinstance(self.layer, Conv):
            return False
        (KH, _), (pads, _) = self.layer.kernel, self.layer.pad
        return self.y.shape[1] >= FEWEST * self.crew.count and max(pads) < KH

    def forward(self, x):
        if self.layer.params["w"] is not self.w:  # the network was given others
            self.crew.stop()
            self.build()
        self.x[...] = x
        self.crew.each(self, "upwards")
        return self.y

    def upwards(self, place):
        part = self.parts[place]
        self.y[part.out] = self.forms[place].forward(self.x[part.seen])

    def backward(self, dy, grads, input_grad):
        self.dy[...] = dy
        self.crew.each(self, "downwards", grads is not None, input_grad)
        for key in self.layer.params if grads is not None else ():
            total = grads[f"{self.name}.{key}"]
            if isinstance(total, Factors):
                total.take(self.x.reshape(1, -1), self.dy)
                continue
            total[...] = 0
            for part, own in zip(self.parts, self.grads, strict=True):
                total[..., part.params] += own[f"{self.name}.{key}"]
        self.dx.fill(0)
        for part, dx in zip(self.parts, self.dxs, strict=True):
            self.dx[part.seen] += dx
        return self.dx if input_grad else None

    def downwards(self, place, with_grads, input_grad):
        grads = self.grads[place] if with_grads else None
        dx = self.forms[place].backward(self.dy[self.parts[place].out], grads, input_grad)
        if input_grad:
            self.dxs[place][...] = dx


class ConvBands(Bands):
    takes = (Conv,)


class LinearBands(Bands):
    takes = (Linear,)


class Crew:
    """`count` processes, this one among them, that go through the layers of an image together.

    They are forked when they are first asked, and anew after a new plan or other parameters.
    """

    def __init__(self, count=1):
        self.count, self.forms, self.workers, self.params = count, [], None, {}

    def add(self, form):
        self.stop()
        self.forms.append(form)

    def move(self, layer):
        """Move the layer's parameters to memory that all processes see, unless they are there."""
        for key, w in layer.params.items():
            if self.params.get((layer, key)) is not w:
                self.params[layer, key] = layer.params[key] = moved(w)

    def each(self, form, method, *arguments):
        """form.method(place, *arguments) for each part, by a process each."""
        if self.workers is None:
            self.workers = Workers(self, self.count - 1)
        number, others = self.forms.index(form), range(len(form.parts) - 1)
        try:
            for place in others:
                self.workers.ask(place, "work", number, method, place + 1, *arguments)
            self.work(number, method, 0, *arguments)
            for place in others:
                self.workers.answer(place)
        except BaseException:  # no answer must be left over for the next question
            self.stop()
            raise

    def work(self, number, method, *arguments):
        getattr(self.forms[number], method)(*arguments)

    def stop(self):
        workers, self.workers = self.workers, None
        if workers:
            workers.end()
