"""The forms of layers on a CPU, in order of preference."""

import numpy as np

from fast.cpu.average_pool import SeparableAveragePool
from fast.cpu.bands import ConvBands, Crew, LinearBands
from fast.cpu.block_conv import BlockConv
from fast.cpu.conv import WindowConv
from fast.cpu.conv_pool import ConvPool
from fast.cpu.depthwise import DepthwiseConv
from fast.cpu.linear import Factors, KeptLinear
from fast.cpu.pointwise import KeptLRN, KeptReLU, KeptSiLU
from fast.cpu.pool import SeparableMaxPool
from fast.cpu.toom_cook import ToomCookConv
from fast.cpu.update import sgd_step
from fast.engine import Device, Plain
from nn.linear import Linear

FORMS = [
    DepthwiseConv,
    ConvPool,
    ToomCookConv,
    BlockConv,
    WindowConv,
    SeparableMaxPool,
    SeparableAveragePool,
    KeptReLU,
    KeptSiLU,
    KeptLRN,
    KeptLinear,
    Plain,
]


def gradients(network, dtype):
    """Where `learn` puts gradients: Factors for the matrices of fully connected layers."""
    return {
        f"{name}.{key}": Factors()
        if isinstance(layer, Linear) and key == "w"
        else np.empty(w.shape, dtype)
        for name, layer in network.layers.items()
        for key, w in layer.params.items()
    }


CPU = Device(np, FORMS, gradients, sgd_step)


def for_one_image(device, processes):
    """The Device for a single image, whose large layers so many processes share."""
    for form in ConvBands, LinearBands:
        form.table = device.forms
    return device._replace(forms=[ConvBands, LinearBands, *device.forms], crew=Crew(processes))
