"""PyTorch's weights: torchvision's AlexNet under our names."""

import numpy as np
import pytest

from app.formats.net import open_network
from app.formats.torchvision import NAMES, from_torchvision, is_torchvision
from tests.gradcheck import relative_error

SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}


def state_dict(layers):
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in layers:
        shape = SHAPES[layer]
        arrays[f"{layer}.weight"] = rng.standard_normal(shape, np.float32) * 0.02
        arrays[f"{layer}.bias"] = rng.standard_normal(shape[0], np.float32)
    return arrays


def test_all_of_alexnet_has_our_names_and_shapes():
    arrays = {
        name: np.broadcast_to(
            np.float32(0), SHAPES[name.rpartition(".")[0]][: None if name.endswith("weight") else 1]
        )
        for name in NAMES
    }
    net = open_network("alexnet-torchvision")
    ours = from_torchvision(arrays)
    assert {n: a.shape for n, a in ours.items()} == {n: a.shape for n, a in net.params().items()}
    net.set_params(ours)


def test_a_part_convolves_as_pytorch_does():
    """One window of conv1 by hand: sum over c, i, j of w[f, c, i, j] x[c, i, j]."""
    arrays = state_dict(["features.0"])
    net = open_network("alexnet-torchvision", up_to="conv1")
    net.set_params(from_torchvision(arrays))
    x = np.random.default_rng(1).standard_normal((1, 224, 224, 3)).astype(np.float32)
    window = x[0, 4 * 7 - 2 : 4 * 7 + 9, 4 * 5 - 2 : 4 * 5 + 9]
    expected = np.einsum("fcij,ijc->f", arrays["features.0.weight"], window)
    expected += arrays["features.0.bias"]
    assert relative_error(net.bottom_up(x)[0, 7, 5], expected) < 1e-5


def test_fc6_counts_its_inputs_in_our_order():
    rng = np.random.default_rng(2)
    w, maps = rng.standard_normal((5, 9216)), rng.standard_normal((256, 6, 6))
    ours = from_torchvision({"classifier.1.weight": w})["fc6.w"]
    np.testing.assert_allclose(maps.transpose(1, 2, 0).ravel() @ ours, w @ maps.ravel(), rtol=1e-9)


def test_names_are_recognised_and_others_left_for_set_params():
    assert is_torchvision({"features.0.weight": 0, "other": 1})
    assert not is_torchvision({"conv1.w": 0, "features.0.w": 1})
    assert list(from_torchvision({"features.0.bias": 0, "features.2.weight": 1})) == [
        "conv1.b",
        "features.2.weight",
    ]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("features.3.weight", (4, 3), r"features.3.weight is .4, 3., expected .F, C, KH, KW."),
        ("classifier.4.weight", (4,), r"classifier.4.weight is .4,., expected .F, D."),
        ("classifier.1.weight", (4, 99), r"classifier.1.weight is .4, 99., expected .F, C . 6"),
    ],
)
def test_shapes_that_cannot_be_turned(name, shape, message):
    with pytest.raises(ValueError, match=message):
        from_torchvision({name: np.zeros(shape)})


def test_a_weight_under_both_names_is_refused():
    bias = np.zeros(64, np.float32)
    with pytest.raises(ValueError, match="features.0.bias and conv1.b are the same, and both are"):
        from_torchvision({"features.0.bias": bias, "conv1.b": bias})
