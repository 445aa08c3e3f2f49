"""A batch shared by several processes: the same numbers, errors, ends."""

import _thread
import errno
import gc
import os
import signal
import threading
import time

import numpy as np
import pytest

from fast import engine
from fast.cpu import CPU, processes
from fast.cpu.team import Team
from fast.engine import Engine
from nn.linear import Linear
from nn.nets import table
from nn.network import Network
from nn.relu import ReLU
from nn.sgd import SGD
from tests.cases import branched_net, check_learning_from_fc1, small_net
from tests.gradcheck import relative_error


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("count", [1, 17, 40])
def test_processes_compute_what_one_does(processes, count):
    rng = np.random.default_rng(3)
    net = small_net().to(np, np.float64)
    together = Team(small_net().to(np, np.float64), CPU, processes)
    x, dy = rng.standard_normal((count, 12, 14, 2)), rng.standard_normal((count, 5))
    for _ in range(2):
        np.testing.assert_allclose(together.bottom_up(x), net.bottom_up(x), rtol=1e-12)
        grads, own = {}, {"conv1.w": np.full_like(net.params()["conv1.w"], np.nan)}
        array, dx = own["conv1.w"], net.top_down(dy, grads)
        np.testing.assert_allclose(together.top_down(dy), dx, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(together.top_down(dy, own), dx, rtol=1e-10, atol=1e-13)
        assert own["conv1.w"] is array
        assert own.keys() == grads.keys()
        for name, grad in grads.items():
            assert relative_error(own[name], grad) < 1e-12
    assert isinstance(engine(net), Engine)
    assert engine(net, plain=True) is net


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_learn_what_one_does(processes):
    rng = np.random.default_rng(3)
    net, shared = (small_net().to(np, np.float64) for _ in range(2))
    together = Team(shared, CPU, processes)
    for rate in (0.1, 0.01):  # each by an SGD of its own, as when GG gives way to DG
        alone, both = (SGD(each) for each in (net, shared))
        for count in (40, 40, 2, 33, 64):  # all processes, one, fewer, more images than before
            x, dy = rng.standard_normal((count, 12, 14, 2)), rng.standard_normal((count, 5))
            for each, sgd in ((net, alone), (together, both)):
                each.bottom_up(x, train=True)
                each.learn(dy / count, sgd, rate)
            for name, w in net.params().items():
                np.testing.assert_allclose(shared.params()[name], w, rtol=1e-9, atol=1e-12)
                np.testing.assert_allclose(
                    both.velocity[name], alone.velocity[name], rtol=1e-7, atol=1e-12
                )


def test_no_process_to_be_had(monkeypatch):
    def no_fork():
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    before, files = signal.pthread_sigmask(signal.SIG_BLOCK, []), len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no process to share the work: Resource temporarily"):
        Team(small_net(), CPU, 2).bottom_up(np.ones((40, 12, 14, 2), np.float32))
    gc.collect()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before  # Ctrl-C still comes through
    assert len(os.listdir("/proc/self/fd")) == files


def test_what_does_not_belong_to_the_last_bottom_up_is_refused():
    together = Team(small_net(), CPU, 2)
    dy, sgd = np.ones((40, 5), np.float32), SGD(together.network)
    x = np.ones((40, 12, 14, 2), np.float32)
    for call in (together.top_down, lambda dy: together.learn(dy, sgd, 0.1)):
        with pytest.raises(ValueError, match="there was none"):
            call(dy)
        together.bottom_up(x)
        with pytest.raises(ValueError, match="dy of 30 images, but bottom_up had 40"):
            call(dy[:30])
        together.stop()
    together.bottom_up(x)
    together.learn(dy, sgd, 0.1)
    with pytest.raises(ValueError, match="its processes have ended"):  # to know sgd
        together.learn(dy, sgd, 0.1)


def test_learning_from_a_lower_layer_leaves_those_above_alone():
    check_learning_from_fc1(Team(small_net(), CPU, 2))


def test_processes_follow_the_parameters_the_batch_and_the_dtype():
    rng = np.random.default_rng(3)
    net, together = small_net(), Team(small_net(), CPU, 2)
    for count in (20, 30):
        x = rng.standard_normal((count, 12, 14, 2)).astype(np.float32)
        np.testing.assert_allclose(together.bottom_up(x), net.bottom_up(x), rtol=1e-5, atol=1e-6)
    for each in (net, together.network):
        for w in each.params().values():
            w *= 1.5  # in place, as training does
    np.testing.assert_allclose(together.bottom_up(x), net.bottom_up(x), rtol=1e-5, atol=1e-5)
    net.to(np, np.float64)
    together.network.to(np, np.float64)
    y = together.bottom_up(x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, net.bottom_up(x), rtol=1e-12)
    middle = together.bottom_up(x, to="pool2")
    np.testing.assert_allclose(middle, net.bottom_up(x, to="pool2"), rtol=1e-12)
    dy = rng.standard_normal(middle.shape)
    np.testing.assert_allclose(together.top_down(dy), net.top_down(dy), rtol=1e-10, atol=1e-13)


class Odd(ReLU):
    """A layer that fails in a way of its own, or takes its time."""

    class OddError(Exception):
        def __init__(self, what, where):  # which cannot be unpickled
            super().__init__(f"{what} in {where}")

    def forward(self, x, train=False):
        if x.max() > 200:
            raise ValueError("much " * 100_000)
        if x.max() > 100:
            raise self.OddError("too much", "x")
        if x.max() > 50:
            time.sleep(0.3)
        return super().forward(x, train)


def test_errors_and_ends_of_the_other_processes():
    net = Network([("odd", Odd()), ("fc", Linear(3))], (28, 28, 1), np.random.default_rng(0))
    together = Team(net, CPU, 2)
    x = np.ones((40, 28, 28, 1), np.float32)
    expected = together.bottom_up(x)
    pid = together.workers.pids[0]
    os.kill(pid, signal.SIGTERM)  # sent to a whole group: not for this one
    np.testing.assert_array_equal(together.bottom_up(x), expected)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match="was ended by SIGKILL: no memory left"):
        together.bottom_up(x)
    with pytest.raises(ValueError, match="top_down needs the bottom_up that it belongs to"):
        together.top_down(expected)
    np.testing.assert_array_equal(together.bottom_up(x), expected)  # by another one
    with pytest.raises(ValueError, match="no layer 'nothing'"):
        together.bottom_up(x, to="nothing")
    x[-1] = 101  # in the part of the other process
    with pytest.raises(RuntimeError, match="OddError: too much in x"):
        together.bottom_up(x)
    x[-1] = 201
    with pytest.raises(RuntimeError, match="^ValueError: much much"):  # too long for a message
        together.bottom_up(x)
    x[-1] = 51
    with pytest.raises(KeyboardInterrupt):
        interrupted(lambda: together.bottom_up(x), after=0.1)
    x[-1] = 1
    np.testing.assert_array_equal(together.bottom_up(x), expected)


def interrupted(work, after):
    """Call work() and interrupt it, also where a shell in the background has that ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(after, _thread.interrupt_main)
    timer.start()
    try:
        work()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_processes_end_with_their_network():
    net = Network([("fc", Linear(3))], (28, 28, 1), np.random.default_rng(0))
    x = np.ones((40, 28, 28, 1), np.float32)
    pids = []
    for _ in range(3):
        together = Team(net, CPU, 3)
        together.bottom_up(x)
        pids += together.workers.pids
    assert len(set(pids)) == 6
    del together
    gc.collect()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_dropout_is_renewed_by_numbers_and_differs_between_processes():
    x = np.random.default_rng(0).standard_normal((40, 12, 14, 2)).astype(np.float32)
    together = Team(small_net(dropout=0.5), CPU, 2)

    def run(*numbers):
        together.seed(*numbers)
        return together.bottom_up(x, train=True).copy()

    np.testing.assert_array_equal(run(1, 2, 3), run(1, 2, 3))
    assert (run(1, 2, 3) != run(1, 2, 4)).any()
    same = np.concatenate([x[:20], x[:20]])
    together.seed(5)
    y = together.bottom_up(same, train=True)
    assert (y[:20] != y[20:]).any()


def test_a_process_that_is_stopped_is_noticed(monkeypatch):
    monkeypatch.setattr(processes, "LOOK", 0.1)
    net = Network([("fc", Linear(3))], (28, 28, 1), np.random.default_rng(0))
    together = Team(net, CPU, 2)
    x = np.ones((40, 28, 28, 1), np.float32)
    expected = together.bottom_up(x).copy()
    os.kill(together.workers.pids[0], signal.SIGSTOP)
    with pytest.raises(ChildProcessError, match="was stopped by a signal"):
        together.bottom_up(x)
    np.testing.assert_array_equal(together.bottom_up(x), expected)  # by another one


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGHUP", "SIGQUIT", "SIGUSR1"])
def test_the_signal_that_ended_a_process_is_named(name):
    net = Network([("fc", Linear(3))], (28, 28, 1), np.random.default_rng(0))
    together = Team(net, CPU, 2)
    x = np.ones((40, 28, 28, 1), np.float32)
    together.bottom_up(x)
    os.kill(together.workers.pids[0], getattr(signal, name))
    with pytest.raises(ChildProcessError, match=f"was ended by {name}$"):
        together.bottom_up(x)


def test_a_net_with_branches_by_processes():
    rng = np.random.default_rng(0)
    net, shared = (branched_net().to(np, np.float64) for _ in "ab")
    together = Team(shared, CPU, 2)
    together.smallest_part = 1
    sgds = SGD(net), SGD(shared)
    for count in (4, 7):
        x, dy = rng.standard_normal((count, 8, 9, 2)), rng.standard_normal((count, 5))
        for train in (False, True):
            assert relative_error(together.bottom_up(x, None, train), net.bottom_up(x)) < 1e-12
            grads, expected = {}, {}
            dx = net.top_down(dy, expected)
            assert relative_error(together.top_down(dy, grads), dx) < 1e-12
            for name, grad in expected.items():
                assert relative_error(grads[name], grad) < 1e-11
        together.learn(dy, sgds[1], 0.1)
        net.learn(dy, sgds[0], 0.1)
        for name, w in net.params().items():
            assert relative_error(shared.params()[name], w) < 1e-11


def test_a_new_sgd_goes_on_bit_for_bit():
    """As in a resumed run: its first step is not shared, but rounds as if it were."""
    rng = np.random.default_rng(0)
    nets = [Network(table("lenet"), (28, 28, 1), np.random.default_rng(0)) for _ in "ab"]
    teams = [Team(net, CPU, 2, 64) for net in nets]
    sgds = [SGD(net) for net in nets]
    for count in (64, 37, 64, 16):
        x = rng.random((count, 28, 28, 1), np.float32)
        dy = rng.standard_normal((count, 10)).astype(np.float32) / count
        for team, sgd in zip(teams, sgds, strict=True):
            team.bottom_up(x, train=True)
            team.learn(dy, sgd, 0.01)
        for name, w in nets[0].params().items():
            np.testing.assert_array_equal(w, nets[1].params()[name])
        sgds[1], velocity = SGD(nets[1]), sgds[1].velocity
        for name, V in velocity.items():
            sgds[1].velocity[name][...] = V
