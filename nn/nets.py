"""The networks, each a table of layers from the bottom up."""

import numpy as np

from nn.conv import Conv
from nn.fillers import FILLERS
from nn.linear import Linear
from nn.network import Network
from nn.pool import MaxPool
from nn.relu import ReLU


def lenet(filler, classes):
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


NETS = {"lenet": lenet}


def build(name, input_shape=(28, 28, 1), classes=10, filler="xavier", seed=0):
    """The net of this name, with parameters drawn from the seed."""
    layers = NETS[name](FILLERS[filler], classes)
    return Network(layers, input_shape, np.random.default_rng(seed))
