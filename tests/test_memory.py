"""When memory runs out: the message says how much less would fit."""

import resource

import numpy as np
import pytest

from nn.flatten import Flatten
from nn.linear import Linear
from nn.memory import less_would_do, most_that_fit
from nn.network import Network
from nn.parallel import ParallelNetwork
from nn.threads import CAN_FORK
from tests.scripts import assert_one_line, run


class Small(Flatten):
    """A layer whose memory is enough for so many images."""

    room = 40

    def forward(self, x, train=False):
        if len(x) > self.room:
            raise MemoryError(f"no room for {len(x)}")
        self.x = x
        return super().forward(x, train)


@pytest.fixture
def net():
    rng = np.random.default_rng(0)
    return Network([("small", Small()), ("fc", Linear(2))], (2, 2, 1), rng)


def test_the_most_images_of_halves(net):
    assert most_that_fit(net, 1000, 1, np, np.float32) == 31  # 1000, 500, 250, 125, 62, 31
    assert most_that_fit(net, 80, 1, np, np.float32) == 40
    assert most_that_fit(net, 80, 10, np, np.float32) == 2  # 80, 40, 20, 10, 5 and 2 times 10
    assert most_that_fit(net, 8, 100, np, np.float32) == 0


@pytest.mark.skipif(not CAN_FORK, reason="processes are forked on Linux only")
def test_the_most_images_of_two_processes(net):
    both = ParallelNetwork(net, 2, 1000)
    both.smallest_part = 1
    told = "about --x 25 would fit, instead of 100"
    with pytest.raises(MemoryError, match=told), less_would_do(both, "--x", 100, 2, np):
        both.forward(np.zeros((200, 2, 2, 1), np.float32))
    assert both.forward(np.zeros((50, 2, 2, 1), np.float32)).shape == (50, 2)  # still of use


def test_not_even_one(net, monkeypatch):
    monkeypatch.setattr(Small, "room", 0)
    told = "not even --x 1 would fit, instead of 9"
    with pytest.raises(MemoryError, match=told), less_would_do(net, "--x", 9, 1, np):
        net.forward(np.zeros((9, 2, 2, 1)))


def test_release_keeps_the_parameters_alone(net):
    x = np.ones((3, 2, 2, 1), np.float32)
    before = net.bottom_up(x)
    net.top_down(before)
    net.release()
    assert net.layers["small"].x is None
    assert net.named("grads") == {}
    np.testing.assert_array_equal(net.bottom_up(x), before)


def test_training_says_which_batch_would_fit(tmp_path):
    limit = 2**31
    result = run(
        "train.py",
        "--batch-size",
        60_000,
        "--mode",
        "dg",
        "--threads",
        1,
        "--out",
        tmp_path / "r",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert_one_line(
        result, 1, "out of memory", "; about --batch-size ", "would fit, instead of 60000"
    )
