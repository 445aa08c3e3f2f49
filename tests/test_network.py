"""Whole nets, with branches or without: gradients, parts, receptive fields, errors."""

import numpy as np
import pytest

from app.formats.net import open_network
from losses.discriminative import discriminative_loss
from losses.generative import generative_loss
from nn.backend import to_host
from nn.canvas import on_canvas, receptive_field
from nn.conv import Conv
from nn.join import Add, Concat
from nn.lrn import LRN
from nn.network import Network
from nn.pool import MaxPool
from nn.relu import ReLU
from nn.sgd import SGD
from nn.zero_pad import ZeroPad
from tests.cases import branched_net, small_net


def test_lenet_is_caffes():
    net = open_network("lenet")
    assert sum(w.size for w in net.params().values()) == 431_080
    assert net.shapes == {
        "conv1": (24, 24, 20),
        "pool1": (12, 12, 20),
        "conv2": (8, 8, 50),
        "pool2": (4, 4, 50),
        "fc1": (500,),
        "relu1": (500,),
        "fc2": (10,),
    }


@pytest.mark.parametrize("make", [small_net, branched_net])
@pytest.mark.parametrize("loss", [discriminative_loss, generative_loss])
def test_gradient_of_the_whole_net(xp, loss, make):
    """Directional derivatives, in float64, of the loss by all parameters and by the images."""
    rng = np.random.default_rng(1)
    net = make().to(xp, np.float64)
    x, labels = rng.standard_normal((6, *net.input_shape)), xp.asarray([0, 1, 2, 3, 4, 0])

    def value():
        return float(loss(net.bottom_up(xp.asarray(x)), labels)[0])

    grads = {}
    dx = to_host(net.top_down(loss(net.bottom_up(xp.asarray(x)), labels)[1], grads))
    grads = {name: to_host(g) for name, g in grads.items()}
    places = {"x": (x, dx)} | {name: (w, grads[name]) for name, w in net.params().items()}
    for name, (array, gradient) in places.items():
        for _ in range(5):
            direction = rng.standard_normal(array.shape)
            step = direction if name == "x" else xp.asarray(direction)
            eps = 1e-6
            array += eps * step
            above = value()
            array -= 2 * eps * step
            below = value()
            array += eps * step
            numeric, analytic = (
                (above - below) / (2 * eps),
                float((gradient * direction).sum()),
            )
            scale = max(abs(numeric), abs(analytic), 1e-3)
            assert abs(numeric - analytic) / scale < 1e-6, name


@pytest.mark.parametrize("make", [small_net, branched_net])
def test_starting_at_any_layer(xp, make):
    """bottom_up to a layer and top_down from it is the derivative of that layer's node."""
    rng = np.random.default_rng(2)
    net = make().to(xp, np.float64)
    x = rng.standard_normal((2, *net.input_shape))
    for name, shape in net.shapes.items():
        y = net.bottom_up(xp.asarray(x), to=name)
        assert y.shape == (2, *shape)
        dy = rng.standard_normal(y.shape)
        dx = to_host(net.top_down(xp.asarray(dy)))
        direction = rng.standard_normal(x.shape)
        eps = 1e-6
        above, below = (
            float((to_host(net.bottom_up(xp.asarray(x + e * direction), to=name)) * dy).sum())
            for e in (eps, -eps)
        )
        numeric, analytic = (above - below) / (2 * eps), (dx * direction).sum()
        assert abs(numeric - analytic) / max(abs(numeric), abs(analytic)) < 1e-6, name


def test_learning_is_a_backward_pass_and_an_update():
    rng = np.random.default_rng(0)
    net, other = (small_net().to(np, np.float64) for _ in "ab")
    x, dy = rng.standard_normal((3, 12, 14, 2)), rng.standard_normal((3, 5))
    sgd, by_hand, grads = SGD(net), SGD(other), {}
    net.bottom_up(x)
    net.learn(dy, sgd, 0.1)
    other.bottom_up(x)
    other.top_down(dy, grads)
    by_hand.step(grads, 0.1)
    for name, w in net.params().items():
        np.testing.assert_array_equal(w, other.params()[name])


def test_receptive_fields_and_the_part_below_a_layer():
    net = open_network("lenet")
    fields = {"conv1": (5, 5), "pool1": (6, 6), "conv2": (14, 14), "pool2": (16, 16)}
    for name, field in fields.items():
        assert receptive_field(net, name) == field
        part, position = on_canvas(net, name)
        assert part.input_shape[:2] == field
        assert part.shapes[name][:2] == (1, 1)
        assert position is None
        assert part.last == name
        # What the unit sees in its own field is what it sees there in a whole image.
        x = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
        whole = net.bottom_up(x, to=name)[:, 0, 0]
        y = part.bottom_up(x[:, : field[0], : field[1]])[:, 0, 0]
        np.testing.assert_allclose(y, whole, rtol=1e-4, atol=1e-5)
    assert receptive_field(net, "fc2") == (28, 28)
    assert on_canvas(net, "fc2")[0].input_shape == (28, 28, 1)
    assert net.up_to("fc1").shapes["fc1"] == (500,)
    with pytest.raises(ValueError, match="layer conv1 on an input of .* no room"):
        net.up_to("conv1", (4, 9, 1))


@pytest.mark.parametrize("layer", ["start", "conv3", "sum", "squeeze", "both", "conv6"])
def test_a_unit_of_a_net_with_branches_on_its_canvas(layer):
    """Its value and slope are those in the midst of a large image; it sees nothing else."""
    rng = np.random.default_rng(0)
    net = branched_net().to(np, np.float64).up_to("conv6", (40, 41, 2))
    part, position = on_canvas(net, layer)
    assert part.input_shape[0] < 40
    height, width, _ = part.input_shape
    step = 2 if layer in ("squeeze", "both", "conv6") else 1
    row, column = position[0] + 4, position[1] + 5  # in the large image, 4 and 5 units further
    top, left = 4 * step, 5 * step
    x = rng.standard_normal((1, 40, 41, 2))
    whole = net.bottom_up(x, layer)
    cut = part.bottom_up(x[:, top : top + height, left : left + width])
    np.testing.assert_allclose(cut[(0, *position)], whole[0, row, column], rtol=1e-10)
    dy = np.zeros(whole.shape)
    dy[0, row, column] = 1
    net.bottom_up(x, layer)
    dx = net.top_down(dy)
    seen = [np.flatnonzero(dx.any(axis=axes)) for axes in ((0, 2, 3), (0, 1, 3))]
    assert tuple(s[-1] - s[0] + 1 for s in seen) == receptive_field(net, layer)
    assert seen[0][0] >= top
    assert seen[0][-1] == top + height - 1
    assert seen[1][0] >= left
    assert seen[1][-1] == left + width - 1


def test_what_a_unit_of_a_dilated_convolution_sees():
    rng = np.random.default_rng(0)
    layers = [("pad", ZeroPad(1)), ("a", Conv(2, 3, dilation=2)), ("b", Conv(2, 2, 2, dilation=3))]
    net = Network(layers, (20, 20, 1), rng).to(np, np.float64)
    part, position = on_canvas(net, "b")
    assert position is None
    assert part.shapes["b"] == (1, 1, 2)
    assert part.input_shape == receptive_field(net, "b") + (1,) == (8, 8, 1)
    x = rng.standard_normal((1, 20, 20, 1))
    cut = part.bottom_up(x[:, 3:11, 5:13])
    np.testing.assert_allclose(cut[0, 0, 0], net.bottom_up(x, "b")[0, 2, 3], rtol=1e-10)


def test_what_a_unit_above_a_normalisation_within_channels_sees():
    """LRN looks at neighbouring pixels, with zeros beyond the border: on the canvas as in the midst
    of a large image."""
    rng = np.random.default_rng(0)
    layers = [("conv1", Conv(3, 7, 2, 1)), ("norm1", LRN(3, alpha=1.0, across=False))]
    layers += [("pool1", MaxPool(3, 2)), ("conv2", Conv(2, 5, 2))]
    net = Network(layers, (90, 90, 1), rng).to(np, np.float64)
    part, (row, column) = on_canvas(net, "conv2")
    x = rng.standard_normal((1, 90, 90, 1))
    whole = net.bottom_up(x)
    dy = np.zeros(whole.shape)
    dy[0, row + 3, column + 2] = 1
    dx = net.top_down(dy)
    rows, columns = (np.flatnonzero(dx.any(axis=axes)) for axes in ((0, 2, 3), (0, 1, 3)))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == receptive_field(net, "conv2") == (31, 31)
    top, left = 3 * 8, 2 * 8  # a unit of conv2 is 8 pixels from the next
    height, width, _ = part.input_shape
    cut = part.bottom_up(x[:, top : top + height, left : left + width])
    np.testing.assert_allclose(cut[0, row, column], whole[0, row + 3, column + 2], rtol=1e-10)


def test_a_part_of_a_net_leaves_out_what_it_does_not_need():
    net = branched_net()
    part = net.up_to("wide")
    assert list(part.layers)[-2:] == ["relu4", "wide"]
    assert "wider" not in part.layers
    assert part.params()["wide.w"] is net.params()["wide.w"]
    part.to(np, np.float64)
    assert net.params()["wide.w"].dtype == np.float32


def test_a_net_as_a_table():
    lines = str(branched_net()).split("\n")
    assert lines[0].split() == ["layer", "takes", "output", "parameters"]
    assert lines[3].split() == ["start", "Add", "left,", "right", "8", "x", "9", "x", "4", "0"]
    total = sum(w.size for w in branched_net().params().values())
    assert lines[-1].strip() == f"{total:,}"


def test_errors_of_a_network():
    net, rng = small_net(), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"expected images of \(12, 14, 2\), got \(14, 12, 2\)"):
        net.bottom_up(np.zeros((1, 14, 12, 2)))
    with pytest.raises(ValueError, match="floating-point numbers, got uint8: pixels 0..255 become"):
        net.bottom_up(np.zeros((1, 12, 14, 2), np.uint8))
    with pytest.raises(ValueError, match="no layer 'conv3'; this net has conv1, relu1, pool1"):
        net.bottom_up(np.zeros((1, 12, 14, 2)), to="conv3")
    conv = Conv(2, 3)
    for layers, message in [
        ([("a", conv), ("b", Conv(2, 9))], "layer b on an input of .* no room for a kernel"),
        ([("a", ReLU()), ("a", ReLU())], "two layers are called 'a'"),
        ([("image", ReLU())], "two layers are called 'image'"),
        ([("a", ReLU(), "b"), ("b", ReLU())], "layer a takes 'b', which is not below it"),
        ([("a", ReLU()), ("b", conv, "a", "image")], "layer b takes one input, got a, image"),
        ([("a", conv), ("b", Add(), "a", "image")], "layer b on .* only maps of one shape"),
        ([("a", conv), ("b", Concat(), "a", "image")], "layer b on .* must be of one size"),
        ([], "at least one layer"),
    ]:
        with pytest.raises(ValueError, match=message):
            Network(layers, (9, 9, 1), rng)


def test_top_down_begins_where_bottom_up_ended():
    net = small_net()
    with pytest.raises(ValueError, match="needs the bottom_up that it belongs to: there was none"):
        net.top_down(np.zeros((2, 5), np.float32))
    y = net.bottom_up(np.zeros((2, *net.input_shape), np.float32))
    for wrong in (np.zeros((1, *y.shape[1:])), np.zeros((2, *y.shape[1:], 1))):
        with pytest.raises(ValueError, match=f"but bottom_up gave .{len(y)}, "):
            net.top_down(wrong)


def test_names_that_are_none():
    with pytest.raises(ValueError, match="no net 'foo': there are lenet, alexnet"):
        open_network("foo")
