"""The networks, each a table of layers from the bottom up, as their authors defined them."""

from collections.abc import Callable
from dataclasses import dataclass

from nn.activations import SiLU
from nn.average_pool import AveragePool
from nn.conv import Conv
from nn.dropout import Dropout
from nn.fillers import FILLERS, constant, gaussian, xavier
from nn.linear import Linear
from nn.lrn import LRN
from nn.pool import MaxPool
from nn.relu import ReLU


def lenet(classes, filler=xavier):
    """LeNet as in Caffe's MNIST example: no ReLU after the convolutions. 431,080 parameters."""
    return [  #                                          for 28 x 28 x 1
        ("conv1", Conv(20, kernel=5, filler=filler)),  # 24 x 24 x 20
        ("pool1", MaxPool(kernel=2, stride=2)),  #       12 x 12 x 20
        ("conv2", Conv(50, kernel=5, filler=filler)),  # 8 x 8 x 50
        ("pool2", MaxPool(kernel=2, stride=2)),  #       4 x 4 x 50
        ("fc1", Linear(500, filler=filler)),
        ("relu1", ReLU()),
        ("fc2", Linear(classes, filler=filler)),
    ]


def caffe(layer, std, bias):
    """Weights from N(0, std^2) and a constant bias, which learns at twice the rate, undecayed."""
    layer.filler, layer.bias_filler = gaussian(std), constant(bias)
    layer.rates = {"w": (1.0, 1.0), "b": (2.0, 0.0)}
    return layer


def alexnet(classes):
    """Caffe's bvlc_alexnet (Krizhevsky et al., 2012): 60,965,224 parameters."""
    return [  #                                                              for 227 x 227 x 3
        ("conv1", caffe(Conv(96, kernel=11, stride=4), 0.01, bias=0)),  #        55 x 55 x 96
        ("relu1", ReLU()),
        ("norm1", LRN(size=5, alpha=1e-4, beta=0.75)),
        ("pool1", MaxPool(kernel=3, stride=2)),  #                               27 x 27 x 96
        ("conv2", caffe(Conv(256, kernel=5, pad=2, groups=2), 0.01, bias=0.1)),
        ("relu2", ReLU()),
        ("norm2", LRN(size=5, alpha=1e-4, beta=0.75)),
        ("pool2", MaxPool(kernel=3, stride=2)),  #                               13 x 13 x 256
        ("conv3", caffe(Conv(384, kernel=3, pad=1), 0.01, bias=0)),
        ("relu3", ReLU()),
        ("conv4", caffe(Conv(384, kernel=3, pad=1, groups=2), 0.01, bias=0.1)),
        ("relu4", ReLU()),
        ("conv5", caffe(Conv(256, kernel=3, pad=1, groups=2), 0.01, bias=0.1)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(kernel=3, stride=2)),  #                               6 x 6 x 256
        ("fc6", caffe(Linear(4096), 0.005, bias=0.1)),
        ("relu6", ReLU()),
        ("drop6", Dropout(0.5)),
        ("fc7", caffe(Linear(4096), 0.005, bias=0.1)),
        ("relu7", ReLU()),
        ("drop7", Dropout(0.5)),
        ("fc8", caffe(Linear(classes), 0.01, bias=0)),
    ]


def zeilerfergus(classes):
    """ZeilerFergusNet (fast) as in SPP-net's Zeiler_conv5: 62,357,608 parameters."""
    return [  #                                                                for 224 x 224 x 3
        ("conv1", caffe(Conv(96, kernel=7, stride=2, pad=1), 0.01, bias=0)),  #    110 x 110 x 96
        ("relu1", ReLU()),
        ("norm1", LRN(size=3, alpha=5e-5, beta=0.75, across=False)),
        ("pool1", MaxPool(kernel=3, stride=2)),  #                                 55 x 55 x 96
        ("conv2", caffe(Conv(256, kernel=5, stride=2), 0.01, bias=1)),  #          26 x 26 x 256
        ("relu2", ReLU()),
        ("norm2", LRN(size=3, alpha=5e-5, beta=0.75, across=False)),
        ("pool2", MaxPool(kernel=3, stride=2)),  #                                 13 x 13 x 256
        ("conv3", caffe(Conv(384, kernel=3, pad=1), 0.01, bias=0)),
        ("relu3", ReLU()),
        ("conv4", caffe(Conv(384, kernel=3, pad=1), 0.01, bias=1)),
        ("relu4", ReLU()),
        ("conv5", caffe(Conv(256, kernel=3, pad=1), 0.01, bias=1)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(kernel=3, stride=2)),  #                                 6 x 6 x 256
        ("fc6", caffe(Linear(4096), 0.01, bias=1)),
        ("relu6", ReLU()),
        ("drop6", Dropout(0.5)),
        ("fc7", caffe(Linear(4096), 0.01, bias=1)),
        ("relu7", ReLU()),
        ("drop7", Dropout(0.5)),
        ("fc8", caffe(Linear(classes), 0.01, bias=1)),
    ]


def alexnet_torchvision(classes, filler=xavier):
    """AlexNet as in torchvision (Krizhevsky, 2014): no groups, no LRN. 61,100,840 parameters."""
    return [  #                                                            for 224 x 224 x 3
        ("conv1", Conv(64, kernel=11, stride=4, pad=2, filler=filler)),  #     55 x 55 x 64
        ("relu1", ReLU()),
        ("pool1", MaxPool(kernel=3, stride=2, ceil=False)),  #                 27 x 27 x 64
        ("conv2", Conv(192, kernel=5, pad=2, filler=filler)),
        ("relu2", ReLU()),
        ("pool2", MaxPool(kernel=3, stride=2, ceil=False)),  #                 13 x 13 x 192
        ("conv3", Conv(384, kernel=3, pad=1, filler=filler)),
        ("relu3", ReLU()),
        ("conv4", Conv(256, kernel=3, pad=1, filler=filler)),
        ("relu4", ReLU()),
        ("conv5", Conv(256, kernel=3, pad=1, filler=filler)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(kernel=3, stride=2, ceil=False)),  #                 6 x 6 x 256
        ("drop6", Dropout(0.5)),
        ("fc6", Linear(4096, filler=filler)),
        ("relu6", ReLU()),
        ("drop7", Dropout(0.5)),
        ("fc7", Linear(4096, filler=filler)),
        ("relu7", ReLU()),
        ("fc8", Linear(classes, filler=filler)),
    ]


def cifar10_quick(classes):
    """Caffe's cifar10_quick: 145,578 parameters."""
    return [  #                                                        for 32 x 32 x 3
        ("conv1", Conv(32, kernel=5, pad=2, filler=gaussian(1e-4))),
        ("pool1", MaxPool(kernel=3, stride=2)),  #                       16 x 16 x 32
        ("relu1", ReLU()),
        ("conv2", Conv(32, kernel=5, pad=2, filler=gaussian(0.01))),
        ("relu2", ReLU()),
        ("pool2", AveragePool(kernel=3, stride=2)),  #                   8 x 8 x 32
        ("conv3", Conv(64, kernel=5, pad=2, filler=gaussian(0.01))),
        ("relu3", ReLU()),
        ("pool3", AveragePool(kernel=3, stride=2)),  #                   4 x 4 x 64
        ("fc1", Linear(64, filler=gaussian(0.1))),
        ("fc2", Linear(classes, filler=gaussian(0.1))),
    ]


def digits(classes, filler=xavier):
    """For --mode samples: smooth, as chains that meet kinks are often rejected, without pools."""
    return [  #                                                            for 28 x 28 x 1
        ("conv1", Conv(24, kernel=5, stride=2, pad=2, filler=filler)),  #  14 x 14 x 24
        ("silu1", SiLU()),
        ("conv2", Conv(48, kernel=3, stride=2, pad=1, filler=filler)),  #  7 x 7 x 48
        ("silu2", SiLU()),
        ("conv3", Conv(96, kernel=3, stride=2, pad=1, filler=filler)),  #  4 x 4 x 96
        ("silu3", SiLU()),
        ("fc", Linear(classes, filler=filler)),
    ]


@dataclass(frozen=True)
class Net:
    """A table(classes) of layers, and the images and the number of classes it was made for."""

    table: Callable
    input_shape: tuple
    classes: int
    takes_filler: bool = False  # table(classes, filler); else the table says how weights start


NETS = {
    "lenet": Net(lenet, (28, 28, 1), 10, takes_filler=True),
    "alexnet": Net(alexnet, (227, 227, 3), 1000),
    "zeilerfergus": Net(zeilerfergus, (224, 224, 3), 1000),
    "alexnet-torchvision": Net(alexnet_torchvision, (224, 224, 3), 1000, takes_filler=True),
    "digits": Net(digits, (28, 28, 1), 10, takes_filler=True),
    "cifar10-quick": Net(cifar10_quick, (32, 32, 3), 10),
}


def table(name, classes=None, filler="xavier"):
    """The layers [(name, layer), ...] of a net, without parameters yet."""
    if name not in NETS:
        raise ValueError(f"no net {name!r}: there are {', '.join(NETS)}")
    net = NETS[name]
    return net.table(classes or net.classes, *([FILLERS[filler]] if net.takes_filler else []))
