"""Whole nets: gradients, doors, learning and replicas."""

from unittest import mock

import numpy as np
import pytest

from app.formats.net import open_network
from losses.discriminative import discriminative_loss
from losses.generative import generative_loss
from nn.average_pool import AveragePool
from nn.backend import to_host
from nn.conv import Conv
from nn.network import Network
from nn.pool import MaxPool
from nn.relu import ReLU
from nn.sgd import SGD
from tests.cases import small_net


def test_lenet_is_caffes():
    net = open_network("lenet")
    assert sum(w.size for w in net.named().values()) == 431_080
    assert net.shapes == {
        "conv1": (24, 24, 20),
        "pool1": (12, 12, 20),
        "conv2": (8, 8, 50),
        "pool2": (4, 4, 50),
        "fc1": (500,),
        "relu1": (500,),
        "fc2": (10,),
    }


@pytest.mark.parametrize("loss", [discriminative_loss, generative_loss])
def test_gradient_of_the_whole_net(xp, loss):
    """Directional derivatives, in float64, of the loss by all parameters and by the images."""
    rng = np.random.default_rng(1)
    net = small_net().to(xp, np.float64)
    x, labels = rng.standard_normal((6, 12, 14, 2)), xp.asarray([0, 1, 2, 3, 4, 0])

    def value():
        return float(loss(net.bottom_up(xp.asarray(x)), labels)[0])

    dx = to_host(net.top_down(loss(net.bottom_up(xp.asarray(x)), labels)[1]))
    grads = {name: to_host(g).copy() for name, g in net.named("grads").items()}
    places = {"x": (x, dx)} | {name: (w, grads[name]) for name, w in net.named().items()}
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


def test_starting_at_any_layer(xp):
    """bottom_up to a layer and top_down from it is the derivative of that layer's node."""
    rng = np.random.default_rng(2)
    net = small_net().to(xp, np.float64)
    x = rng.standard_normal((2, 12, 14, 2))
    for name, shape in net.shapes.items():
        y = net.bottom_up(xp.asarray(x), to=name)
        assert y.shape == (2, *shape)
        dy = rng.standard_normal(y.shape)
        dx = to_host(net.top_down(xp.asarray(dy), param_grads=False))
        direction = rng.standard_normal(x.shape)
        eps = 1e-6
        above, below = (
            float((to_host(net.bottom_up(xp.asarray(x + e * direction), to=name)) * dy).sum())
            for e in (eps, -eps)
        )
        numeric, analytic = (above - below) / (2 * eps), (dx * direction).sum()
        assert abs(numeric - analytic) / max(abs(numeric), abs(analytic)) < 1e-6, name


def test_the_door_hands_out_copies():
    net = small_net()
    x = np.random.default_rng(0).standard_normal((2, 12, 14, 2)).astype(np.float32)
    scores = net.bottom_up(x)
    dx = net.top_down(np.ones_like(scores))
    kept = scores.copy(), dx.copy()
    net.bottom_up(2 * x)
    net.top_down(3 * np.ones_like(scores))
    np.testing.assert_array_equal(scores, kept[0])
    np.testing.assert_array_equal(dx, kept[1])


def test_param_grads_and_input_grad_can_be_saved():
    net = small_net()
    x = np.ones((2, 12, 14, 2), np.float32)
    dy = np.ones_like(net.bottom_up(x))
    dx = net.top_down(dy, param_grads=False)
    assert not net.named("grads")
    assert net.top_down(dy, input_grad=False) is None
    assert set(net.named("grads")) == set(net.named())
    np.testing.assert_array_equal(net.top_down(dy), dx)


def test_learning_is_a_backward_pass_and_an_update():
    rng = np.random.default_rng(0)
    plain, net = (small_net().to(np, np.float64) for _ in range(2))
    sgds = [SGD(each, 0.1, weight_decay=0.1) for each in (plain, net)]
    for count in (3, 1, 5):
        x, dy = rng.standard_normal((count, 12, 14, 2)), rng.standard_normal((count, 5))
        for each in (plain, net):
            each.bottom_up(x, train=True)
        plain.top_down(dy)
        sgds[0].update(0.1)
        with mock.patch("nn.sgd.PRODUCT", 60):  # some rows at a time
            net.learn(dy, sgds[1], 0.1)
        assert not net.named("grads")
        for name, w in plain.named().items():
            np.testing.assert_allclose(net.named()[name], w, rtol=1e-10, atol=1e-13)
            V = sgds[1].velocity[name]
            np.testing.assert_allclose(V, sgds[0].velocity[name], rtol=1e-9, atol=1e-13)


def test_a_layer_may_be_replaced():
    net = Network(
        [("conv", Conv(3, 3)), ("pool", MaxPool(2, 2))], (8, 8, 2), np.random.default_rng(0)
    )
    x = np.random.default_rng(1).standard_normal((2, 8, 8, 2)).astype(np.float32)
    largest = net.bottom_up(x)  # both layers joined
    net.layers["pool"] = AveragePool(2, 2)
    mean = net.bottom_up(x)
    maps = net.bottom_up(x, to="conv").reshape(2, 3, 2, 3, 2, 3)
    np.testing.assert_allclose(largest, maps.max(axis=(2, 4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, maps.mean(axis=(2, 4)), rtol=1e-5, atol=1e-6)


def test_replicas_do_not_share_what_they_keep():
    x = np.random.default_rng(1).standard_normal((3, 12, 14, 2)).astype(np.float32)
    net = small_net()
    dy = np.ones_like(net.bottom_up(x))
    net.top_down(dy)
    expected = {name: grad.copy() for name, grad in net.named("grads").items()}
    conv = net.layers["conv1"].replica()
    conv.backward(np.ones((3, 12, 14, 4), np.float32))  # its windows are not copied yet
    again = net.layers["conv1"]
    again.backward(np.ones((3, 12, 14, 4), np.float32))
    np.testing.assert_allclose(conv.grads["w"], again.grads["w"], rtol=1e-6)
    twin = net.replica()
    twin.bottom_up(x)
    twin.top_down(dy)
    for name, grad in twin.named("grads").items():
        np.testing.assert_allclose(grad, expected[name], rtol=1e-6)


def test_receptive_fields_and_the_part_below_a_layer():
    net = open_network("lenet")
    fields = {"conv1": (5, 5), "pool1": (6, 6), "conv2": (14, 14), "pool2": (16, 16)}
    for name, field in fields.items():
        assert net.receptive_field(name) == field
        part = net.up_to(name, field)
        assert part.shapes[name][:2] == (1, 1)
        assert part.last == name
        # What the unit sees in its own field is what it sees there in a whole image.
        x = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
        whole = net.bottom_up(x, to=name)
        np.testing.assert_allclose(
            part.bottom_up(x[:, : field[0], : field[1]])[:, 0, 0],
            whole[:, 0, 0],
            rtol=1e-4,
            atol=1e-5,
        )
    assert net.receptive_field("fc2") == (28, 28)
    assert net.up_to("fc1").shapes["fc1"] == (500,)
    with pytest.raises(ValueError, match="layer conv1 on an input of .* no room"):
        net.up_to("conv1", (4, 9))


def test_errors_of_a_network():
    net = small_net()
    with pytest.raises(ValueError, match=r"expected images of \(12, 14, 2\), got \(14, 12, 2\)"):
        net.bottom_up(np.zeros((1, 14, 12, 2)))
    with pytest.raises(ValueError, match="no layer 'conv3'; this net has conv1, relu1, pool1"):
        net.bottom_up(np.zeros((1, 12, 14, 2)), to="conv3")
    with pytest.raises(ValueError, match="layer conv2 on an input of .* no room for a kernel"):
        Network(
            [("conv1", Conv(2, 3)), ("conv2", Conv(2, 9))],
            (9, 9, 1),
            np.random.default_rng(0),
        )
    with pytest.raises(ValueError, match="unique"):
        Network([("a", ReLU()), ("a", ReLU())], (3,), np.random.default_rng(0))


def test_top_down_begins_where_bottom_up_ended():
    net = small_net()
    with pytest.raises(ValueError, match="bottom_up has not been called"):
        net.top_down(np.zeros((2, 5), np.float32))
    y = net.bottom_up(np.zeros((2, *net.input_shape), np.float32))
    for wrong in (np.zeros((1, *y.shape[1:])), np.zeros((2, *y.shape[1:], 1))):
        with pytest.raises(ValueError, match=f"but bottom_up gave .{len(y)}, "):
            net.top_down(wrong)
    for lose in (net.release, net.to):
        y = net.bottom_up(np.zeros((2, *net.input_shape), np.float32))
        lose()
        with pytest.raises(ValueError, match="bottom_up has not been called"):
            net.top_down(y)


def test_names_that_are_none():
    with pytest.raises(ValueError, match="no net 'foo': there are lenet, alexnet"):
        open_network("foo")
    with pytest.raises(ValueError, match="no policy 'foo': there are fixed, inv, step"):
        SGD(small_net(), 0.1, policy="foo")
