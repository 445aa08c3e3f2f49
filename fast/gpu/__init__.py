"""The forms of layers on a GPU, in order of preference."""

from fast.engine import Device, Plain
from fast.gpu import kernels
from fast.gpu.forms import (
    ConvReLU,
    KernelConv,
    KernelLinear,
    KernelLRN,
    KernelMaxPool,
    LinearReLU,
)

FORMS = [ConvReLU, KernelConv, LinearReLU, KernelLinear, KernelMaxPool, KernelLRN, Plain]


def sgd_step(sgd, grads, lr):
    """sgd.step(grads, lr), a launch for each parameter; lr may be a float64 array of shape ()."""
    for name, g in grads.items():
        w, V, lr_mult, decay = sgd.parts_of(name)
        kernels.sgd(w, V, g, lr, lr_mult, sgd.momentum, decay)


def device(xp):
    """The Device of CuPy."""

    def gradients(network, dtype):
        return {name: xp.empty(w.shape, dtype) for name, w in network.params().items()}

    return Device(xp, FORMS, gradients, sgd_step)
