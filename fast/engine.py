"""A Network run by fast forms of its layers, over kept memory.

The textbook (nn/) says what is computed; an engine says how. For images of a shape it goes through
the layers once, from the bottom up, and takes for each the first form in its table that fits. A
form may do the work of several layers at once. The last form, Plain, fits everything: it calls the
textbook.
"""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np

from fast.room import Room
from nn.backend import Array
from nn.network import IMAGE, Network
from nn.sgd import SGD


class Form:
    """The work of one or more layers, for images of one shape.

    takes                           the layers' types, the lowest first; not their subclasses
    fits(layers, shapes, job)       whether it can do their work, and will be faster
    Form(names, layers, shapes, job, room)    makes the views of memory that the calls write to
    forward(x) -> y                 y is overwritten by the next call
    backward(dy, grads, input_grad) -> dx     fills grads["conv1.w"], ..., unless grads is None;
                                    without input_grad it may save itself dx and return None

    shapes: of each layer's input, (N, H, W, C); job: (dtype, train). x and dy are not changed.
    """

    takes: tuple = (object,)

    @staticmethod
    def fits(layers: list, shapes: list, job: tuple) -> bool:
        return True


class Plain(Form):
    """The textbook's own layer."""

    def __init__(self, names, layers, shapes, job, room):
        (self.name,), (self.layer,), (_, self.train) = names, layers, job

    def forward(self, x):
        return self.layer.forward(x, self.train)

    def backward(self, dy, grads, input_grad):
        if grads is not None:
            for key, dw in self.layer.gradients(dy).items():
                grads[f"{self.name}.{key}"][...] = dw
        return self.layer.backward(dy) if input_grad or self.layer.joins else None


class Step(NamedTuple):
    """One form of a plan, the layers whose work it does, and where their input comes from."""

    form: Form
    names: list
    sources: list
    joins: bool


class Device(NamedTuple):
    """What is special about a device.

    forms           the table of forms, in order of preference
    gradients(network, dtype) -> {"conv1.w": ...}    where `learn` lets the forms put gradients
    update(sgd, grads, lr)    the arithmetic of SGD.step on these
    crew            the processes that share the work on one image, if there are several
    """

    xp: ModuleType
    forms: list
    gradients: Callable
    update: Callable
    crew: object = None


class Engine:
    """bottom_up, top_down and learn as Network has them. A result is valid until the next call.

    The network's numbers and their dtype may change, but not its layers and their settings.
    """

    def __init__(self, network: Network, device: Device):
        self.network, self.device = network, device
        self.input_shape, self.shapes = network.input_shape, network.shapes
        self.with_params = [layer for layer in network.layers.values() if layer.params]
        self.steps: list[Step] = []  # of the last bottom_up
        self.forget()

    def forget(self) -> None:
        """Give up all plans and memory; they are made anew when needed."""
        params = self.network.params().values()
        self.dtype = np.result_type(*params) if params else np.dtype(np.float32)
        self.plans: dict = {}
        self.rooms: dict = {}
        self.grads = None

    def plan(self, x: Array, to: str | None, train: bool) -> list[Step]:
        """The forms for images like x, made at the first of them."""
        self.network.check_images(x)
        dtype = np.result_type(x.dtype, self.dtype)
        steps = self.lower(len(x), to or self.network.last, (dtype, train))
        if self.device.xp is np and any(room.grown for room in self.rooms.values()):
            self.plans = {}  # these would keep the smaller arrays beside the larger ones
            for room in self.rooms.values():
                room.grown = False
        self.plans[x.shape, x.dtype, to, train] = steps
        return steps

    def lower(self, N: int, to: str, job: tuple) -> list[Step]:
        network, steps = self.network, []
        names = network.needed_for(to)
        takers = Counter(source for name in names for source in network.sources[name])
        batches = {name: (N, *shape) for name, shape in network.shapes.items()}
        batches[IMAGE] = N, *network.input_shape
        while names:
            for form in self.device.forms:
                run = names[: len(form.takes)]
                layers = [network.layers[name] for name in run]
                shapes = [network.inputs(name, batches) for name in run]
                same = form.takes in ((object,), tuple(map(type, layers)))
                alone = all(network.sources[b] == [a] and takers[a] == 1 for a, b in pairwise(run))
                if same and alone and form.fits(layers, shapes, job):
                    break
            room = self.rooms.setdefault(run[0], Room(self.device.xp, self.device.crew))
            made = form(run, layers, shapes, job, room)
            steps.append(Step(made, run, network.sources[run[0]], layers[0].joins))
            names = names[len(run) :]
        return steps

    def bottom_up(self, x: Array, to: str | None = None, train: bool = False) -> Array:
        """Images x (N, H, W, C) -> the activations of layer `to` (by default the last: scores)."""
        self.steps = []  # unless all goes well
        if self.with_params and next(iter(self.with_params[0].params.values())).dtype != self.dtype:
            self.forget()
        steps = self.plans.get((x.shape, x.dtype, to, train)) or self.plan(x, to, train)
        if x.dtype != self.dtype:
            x = x.astype(np.result_type(x.dtype, self.dtype), copy=False)
        y = {IMAGE: x}
        for form, names, sources, joins in steps:
            inputs = [y[source] for source in sources] if joins else y[sources[0]]
            y[names[-1]] = top = form.forward(inputs)
        self.steps, self.top_shape = steps, top.shape
        return top

    def top_down(self, dy: Array, grads: dict[str, Array] | None = None) -> Array:
        """dy at the layer where the last bottom_up ended -> dx at the images.

        A dict `grads` is filled with the gradient of every parameter below. Arrays that are in it
        already are written to.
        """
        for name, w in self.params_below() if grads is not None else ():
            if name not in grads:
                grads[name] = self.device.xp.empty(w.shape, np.result_type(w, dy))
        return self.backward(dy, grads, input_grad=True)

    def backward(self, dy: Array, grads: dict | None, input_grad: bool) -> Array | None:
        """top_down; without input_grad the lowest layers save themselves dx."""
        if not self.steps:
            raise ValueError("top_down needs the bottom_up that it belongs to: there was none")
        if dy.shape != self.top_shape:
            raise ValueError(f"top_down got dy {dy.shape}, but bottom_up gave {self.top_shape}")
        d = {self.steps[-1].names[-1]: dy}
        for form, names, sources, joins in reversed(self.steps):
            dx = form.backward(d.pop(names[-1]), grads, input_grad or sources[0] != IMAGE)
            for source, part in zip(sources, dx if joins else [dx], strict=True):
                if part is not None:
                    d[source] = d[source] + part if source in d else part
        return d.get(IMAGE)

    def learn(self, dy: Array, sgd: SGD, lr: float) -> None:
        """top_down for the parameters' gradients, then a step of `sgd` at the rate lr."""
        if self.grads is None:
            self.grads = self.device.gradients(self.network, self.dtype)
        grads = {name: self.grads[name] for name, _ in self.params_below()}
        self.backward(dy, grads, input_grad=False)
        self.device.update(sgd, grads, lr)

    def gradients(self, dy: Array, total: dict[str, Array]) -> None:
        """The gradient of every parameter below, into arrays: the first half of `learn`."""
        self.backward(dy, total, input_grad=False)

    def update(self, sgd: SGD, total: dict[str, Array], lr: float) -> None:
        """A step of `sgd` by these gradients, which are used up: the second half."""
        self.device.update(sgd, total, lr)

    def params_below(self) -> list[tuple]:
        """(name, array) of the parameters of all layers that the last bottom_up went through."""
        return [
            (f"{name}.{key}", w)
            for step in self.steps
            for name in step.names
            for key, w in self.network.layers[name].params.items()
        ]

    def seed(self, *numbers: int) -> None:
        """Renew the generators of the dropout layers."""
        self.network.seed(*numbers)
