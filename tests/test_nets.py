"""The tables of nets.py: sizes, parameters and rates as their authors defined them."""

import numpy as np
import pytest

from app.formats.net import open_network
from nn.canvas import on_canvas, receptive_field
from nn.nets import NETS

SIZES = {
    "lenet": (431_080, {"conv1": (24, 24, 20), "pool2": (4, 4, 50), "fc2": (10,)}),
    "alexnet": (
        60_965_224,
        {
            "conv1": (55, 55, 96),
            "pool1": (27, 27, 96),
            "conv2": (27, 27, 256),
            "pool2": (13, 13, 256),
            "conv5": (13, 13, 256),
            "pool5": (6, 6, 256),
            "fc8": (1000,),
        },
    ),
    "zeilerfergus": (
        62_357_608,
        {
            "conv1": (110, 110, 96),
            "pool1": (55, 55, 96),
            "conv2": (26, 26, 256),
            "pool2": (13, 13, 256),
            "pool5": (6, 6, 256),
            "fc8": (1000,),
        },
    ),
    "alexnet-torchvision": (
        61_100_840,
        {"conv1": (55, 55, 64), "conv2": (27, 27, 192), "pool5": (6, 6, 256), "fc8": (1000,)},
    ),
    "digits": (67_978, {"conv1": (14, 14, 24), "conv2": (7, 7, 48), "conv3": (4, 4, 96)}),
    "cifar10-quick": (145_578, {"pool1": (16, 16, 32), "pool2": (8, 8, 32), "pool3": (4, 4, 64)}),
}


@pytest.mark.parametrize("name", NETS)
def test_sizes_and_parameters(name):
    count, shapes = SIZES[name]
    net = open_network(name)
    assert sum(w.size for w in net.params().values()) == count
    assert {layer: net.shapes[layer] for layer in shapes} == shapes


def test_caffes_fillers_biases_and_rates():
    net = open_network("alexnet", up_to="conv2")
    w, b = net.layers["conv2"].params["w"], net.layers["conv2"].params["b"]
    assert w.dtype == np.float32
    assert w.shape == (5, 5, 48, 256)  # two groups
    assert abs(w.std() - 0.01) < 4 * 0.01 / np.sqrt(2 * w.size)
    np.testing.assert_array_equal(b, np.float32(0.1))
    assert net.layers["conv2"].rates == {"w": (1, 1), "b": (2, 0)}
    assert receptive_field(net, "conv2") == (51, 51)


def test_receptive_fields_of_alexnet():
    net = open_network("alexnet-torchvision", up_to="conv5")
    fields = [receptive_field(net, f"conv{i}") for i in range(1, 6)]
    assert fields == [(n, n) for n in (11, 51, 99, 131, 163)]


def test_a_node_in_its_field_is_the_node_in_the_midst_of_an_image():
    """Padding of the layers below is at the border of the image, not of the field."""
    net = open_network("alexnet-torchvision", up_to="conv3")
    x = np.random.default_rng(0).random((1, 224, 224, 3), np.float32)
    whole = net.bottom_up(x)[0, 6, 6]
    field, _ = on_canvas(net, "conv3")
    assert field.shapes["conv3"] == (1, 1, 384)
    first = (
        4 * 2 * (2 * (6 - 1) - 2) - 2
    )  # up from conv3's window through pool2, conv2, pool1, conv1
    np.testing.assert_allclose(
        field.bottom_up(x[:, first : first + 99, first : first + 99])[0, 0, 0],
        whole,
        rtol=1e-3,
        atol=1e-4,
    )


def test_the_lower_part():
    assert list(open_network("lenet", up_to="pool1").layers) == ["conv1", "pool1"]
    with pytest.raises(ValueError, match="no layer 'conv9'; this net has conv1, "):
        open_network("lenet", up_to="conv9")
