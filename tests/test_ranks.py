"""A batch shared by ranks: what they say to one another, by threads in place of processes."""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import app.job
from app.data.images import Images
from app.runs.share import Share
from app.runs.training import check_weights, same_start
from fast import engine, ranks
from fast.cpu import CPU, threads
from fast.cpu.team import Team
from fast.engine import Engine
from fast.ranks import ALONE, RankEngine, Ranks
from losses.generative import generative_loss
from nn.sgd import SGD
from tests.cases import branched_net, check_learning_from_fc1, small_net
from tests.gradcheck import relative_error


class Comm:
    """One rank's end of a communicator, with the calls of mpi4py that fast/ranks.py makes."""

    def __init__(self, rank, board, barrier):
        self.rank, self.size, self.board, self.barrier = rank, len(board), board, barrier

    def allgather(self, value):
        self.board[self.rank] = value
        self.barrier.wait(20)
        found = list(self.board)
        self.barrier.wait(20)
        return found

    def bcast(self, value, root):
        return self.allgather(value)[root]

    def Allgatherv(self, own, out):  # noqa: N802  mpi4py's name
        array, numbers = out
        parts = self.allgather(own.copy())
        assert [part.size for part in parts] == list(numbers)
        array[...] = np.concatenate(parts)

    def Allreduce(self, own, array):  # noqa: N802
        assert own is None
        array[...] = sum(self.allgather(array.copy()))


def on_ranks(size, work):
    """[work(Ranks) of each rank], all at the same time. Raises what the first of them raised."""
    board, barrier, results = [None] * size, threading.Barrier(size), [None] * size

    def run(rank):
        try:
            results[rank] = work(Ranks(Comm(rank, board, barrier)))
        except Exception as error:  # noqa: BLE001  for the thread that waits
            barrier.abort()
            results[rank] = error

    workers = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    errors = [r for r in results if isinstance(r, Exception)]
    errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
    if errors:
        raise errors[0]
    return results


@given(st.integers(0, 100), st.integers(1, 9))
def test_every_thing_belongs_to_one_rank(count, size):
    parts = [ranks.Ranks.rows(SimpleNamespace(rank=r, size=size), count) for r in range(size)]
    assert [i for part in parts for i in range(count)[part]] == list(range(count))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)  # rank 0 is the last to be idle


NETS = {"small": (small_net, (12, 14, 2)), "branched": (branched_net, (8, 9, 2))}


@pytest.mark.parametrize("plain", [False, True], ids=["engine", "textbook"])
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("name", NETS)
def test_ranks_compute_and_learn_what_one_process_does(name, size, plain):
    make, shape = NETS[name]
    for count in (1, 3, 7, 40):  # also fewer images than ranks
        rng = np.random.default_rng(count)
        x, labels = rng.standard_normal((count, *shape)), rng.integers(0, 3, count)
        more = rng.standard_normal((count, 5)) / count  # GG alone leaves the bias as it is
        net = make().to(np, np.float64)
        sgd = SGD(net)
        scores = net.bottom_up(x, train=True)
        loss, dscores, _ = generative_loss(scores, labels)
        grads, dscores = {}, dscores + more
        dx = net.top_down(dscores, grads)
        net.learn(dscores, sgd, 0.1)
        net.bottom_up(x, train=True)
        net.learn(dscores, sgd, 0.1)

        def work(all_ranks):
            own = make().to(np, np.float64)
            shared = engine(own, np, 1, count, plain, all_ranks)  # noqa: B023
            mine = all_ranks.rows(count)  # noqa: B023
            key, w = next(iter(own.params().items()))
            own_sgd, own_grads = SGD(own), {key: np.full_like(w, np.nan)}
            filled = own_grads[key]
            own_scores = shared.bottom_up(x[mine], train=True)  # noqa: B023
            own_loss, own_dscores, _ = generative_loss(own_scores, labels)  # noqa: B023
            own_dscores += more  # noqa: B023
            own_dx = shared.top_down(own_dscores, own_grads)
            np.testing.assert_array_equal(shared.top_down(own_dscores), own_dx)
            assert own_grads[key] is filled
            shared.learn(own_dscores, own_sgd, 0.1)
            shared.bottom_up(x[mine], train=True)  # noqa: B023
            shared.learn(own_dscores, own_sgd, 0.1)
            return own_scores, own_loss, own_dx, own_grads, own.params(), own_sgd.velocity

        found = on_ranks(size, work)
        assert relative_error(np.concatenate([each[2] for each in found]), dx) < 1e-12
        for own_scores, own_loss, _, own_grads, params, velocity in found:
            assert relative_error(own_scores, scores) < 1e-12
            assert own_loss == pytest.approx(loss, rel=1e-12)
            assert own_grads.keys() == grads.keys()
            for key, grad in grads.items():
                assert relative_error(own_grads[key], grad) < 1e-12
                assert relative_error(params[key], net.params()[key]) < 1e-12
                assert relative_error(velocity[key], sgd.velocity[key]) < 1e-11
                np.testing.assert_array_equal(params[key], found[0][4][key])


def test_what_does_not_belong_to_the_last_bottom_up_is_refused():
    shared = RankEngine(Engine(small_net(), CPU), ALONE)
    dy, sgd = np.ones((4, 5), np.float32), SGD(shared.network)
    for call in (shared.top_down, lambda dy: shared.learn(dy, sgd, 0.1)):
        with pytest.raises(ValueError, match="there was none"):
            call(dy)
        shared.bottom_up(np.ones((4, 12, 14, 2), np.float32))
        with pytest.raises(ValueError, match="dy of 3 images, but bottom_up had 4"):
            call(dy[:3])
        shared.mine = None


@pytest.mark.parametrize("kind", ["engine", "textbook", "team"])
def test_learning_from_a_lower_layer_leaves_those_above_alone(kind):
    make = {"engine": lambda n: Engine(n, CPU), "textbook": lambda n: n}
    make["team"] = lambda n: Team(n, CPU, 2)
    check_learning_from_fc1(RankEngine(make[kind](small_net()), ALONE))


@pytest.mark.parametrize("name", NETS)
def test_the_processes_of_a_rank_learn_what_one_does(name):
    make, shape = NETS[name]
    net, own = (make().to(np, np.float64) for _ in "ab")
    team = Team(own, CPU, 3)
    team.smallest_part = 2
    shared, rng = RankEngine(team, ALONE), np.random.default_rng(3)
    for rate in (0.01, 0.003):  # each by an SGD of its own, as when GG gives way to DG
        sgds = SGD(net), SGD(own)
        for count in (40, 40, 1, 33, 0, 64):  # all processes, one, fewer, none, more images
            x, dy = rng.standard_normal((count, *shape)), rng.standard_normal((count, 5))
            if count:
                net.bottom_up(x, train=True)
                net.learn(dy / count, sgds[0], rate)
            else:  # as a rank without images, where the others had none either
                sgds[0].step({n: 0 * w for n, w in net.params().items()}, rate)
            shared.bottom_up(x, train=True)
            shared.learn(dy / max(1, count), sgds[1], rate)
            for key, w in net.params().items():
                assert relative_error(own.params()[key], w) < 1e-10
                np.testing.assert_allclose(
                    sgds[1].velocity[key], sgds[0].velocity[key], rtol=1e-7, atol=1e-12
                )
    net.to(np, np.float32)
    own.to(np, np.float32)
    x = rng.standard_normal((40, *shape)).astype(np.float32)
    dy = shared.bottom_up(x, train=True).copy()
    assert dy.dtype == np.float32
    np.testing.assert_allclose(net.bottom_up(x, train=True), dy, rtol=1e-3, atol=1e-3)
    for each, sgd in ((net, SGD(net)), (shared, SGD(own))):
        each.learn(dy / 40, sgd, 0.01)
    for key, w in net.params().items():
        np.testing.assert_allclose(own.params()[key], w, rtol=1e-3, atol=1e-4)


def test_what_ranks_gather():
    parts = [np.arange(6).reshape(3, 2), np.empty((0,), np.float32), np.arange(4).reshape(2, 2)]
    for found in on_ranks(3, lambda r: r.gather(parts[r.rank])):
        np.testing.assert_array_equal(found, np.concatenate([parts[0], parts[2]]))
    flags = [np.array([True, False]), np.array([True])]
    for found in on_ranks(2, lambda r: r.gather(flags[r.rank])):
        assert found.tolist() == [True, False, True]
    assert [len(found) for found in on_ranks(2, lambda r: r.gather(np.empty((0, 3))))] == [0, 0]
    with pytest.raises(ValueError, match="rows of different kinds"):
        on_ranks(2, lambda r: r.gather(np.ones((2, 1 + r.rank))))
    assert on_ranks(2, lambda r: r.agree(r.rank + 5)) == [5, 5]


def test_dropout_differs_between_ranks_and_is_renewed_by_numbers():
    x = np.random.default_rng(0).standard_normal((10, 12, 14, 2)).astype(np.float32)

    def work(all_ranks):
        shared = engine(small_net(dropout=0.5), np, 1, 20, False, all_ranks)
        found = []
        for numbers in ((1, 2), (1, 2), (1, 3)):
            shared.seed(*numbers)
            found.append(shared.bottom_up(x, train=True).copy())
        return found

    first, again, other = on_ranks(2, work)[0]
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[:10] != first[10:]).any()


def test_chains_have_the_same_random_numbers_on_any_number_of_ranks():
    calls = {
        "standard_normal": lambda r, n: r.standard_normal((n, 3, 2), np.float32),
        "uniform": lambda r, n: r.uniform(-1, 1, n),
        "random": lambda r, n: r.random(n),
    }
    expected = np.random.default_rng(1)
    expected = [call(expected, 5) for call in calls.values()]
    for size in (1, 2, 3, 7):

        def work(all_ranks):
            share = Share(5, all_ranks)
            rng = share.generator(np.random.default_rng(1))
            own = len(range(5)[share.rows])
            assert own >= 1
            return [share.gather(call(rng, own)) for call in calls.values()]

        for found in on_ranks(size, work) if size > 1 else [work(ALONE)]:
            for name, numbers, right in zip(calls, found, expected, strict=True):
                np.testing.assert_array_equal(numbers, right, name)


def test_a_rank_reads_its_own_images_as_they_would_be_among_all():
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (20, 9, 9, 1), np.uint8)
    for size in (None, (7, 6)):
        images = Images(stored, np.arange(20) % 3, 3, size=size)
        index = rng.permutation(20)[:11]
        x, labels = images.training_batch(index, np.random.default_rng(5))
        for part in (slice(0, 4), slice(4, 11), slice(11, 11)):
            own, known = images.training_batch(index, np.random.default_rng(5), part)
            np.testing.assert_array_equal(own, x[part])
            np.testing.assert_array_equal(known, labels)


def test_ranks_begin_alike_and_notice_when_they_differ():
    def work(odd, all_ranks):
        net = small_net(seed=all_ranks.rank)
        labels = np.arange(9) + all_ranks.rank * (odd == "labels")
        part = Images(np.zeros((9, 2, 2, 1), np.uint8), labels, 99, source="here")
        same_start(all_ranks, net, part, part)
        if odd == "weights" and all_ranks.rank == 1:
            net.params()["fc1.w"][3, 2] += 1e-6
        check_weights(all_ranks, net)
        return net.params()

    found = on_ranks(3, lambda r: work("", r))
    for name, w in small_net(seed=0).params().items():
        for params in found:
            np.testing.assert_array_equal(params[name], w)
    with pytest.raises(ValueError, match="here: the ranks have not found the same images"):
        on_ranks(2, lambda r: work("labels", r))
    with pytest.raises(ArithmeticError, match="the weights of rank 1 are not those of rank 0"):
        on_ranks(3, lambda r: work("weights", r))


@pytest.mark.parametrize("names", ["PMI", "OMPI_COMM_WORLD"])
def test_without_mpi4py_several_ranks_are_refused_in_one_line(monkeypatch, capsys, names):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv(f"{names}_SIZE", "1")
    monkeypatch.setenv(f"{names}_RANK", "0")
    with app.job.started_job() as alone:
        assert alone.ranks.size == 1
    monkeypatch.setenv(f"{names}_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv(f"{names}_RANK", str(rank))
        with pytest.raises(SystemExit, match="2"), app.job.started_job():
            pass
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "mpiexec started 3 processes, but mpi4py is not installed" in lines[0]


def test_an_mpiexec_of_another_mpi_is_noticed(monkeypatch):
    world = SimpleNamespace(size=1, rank=0)
    fake = SimpleNamespace(COMM_WORLD=world, get_vendor=lambda: ("MPICH", (5, 0, 2)))
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=fake))
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", fake)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    with pytest.raises(ValueError, match=r"each finds itself alone.*mpi4py has MPICH"):
        ranks.world()


def test_ranks_of_one_machine_share_its_cores(monkeypatch):
    for name in (*threads.BLAS_VARIABLES, *threads.RANKS_HERE):
        monkeypatch.delenv(name, raising=False)
    alone = threads.cores()
    monkeypatch.setenv("MPI_LOCALNRANKS", "2")
    assert threads.cores() == max(1, alone // 2)
    monkeypatch.setenv("MPI_LOCALNRANKS", str(2 * alone))
    assert threads.cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # the user's word, for each process
    assert threads.cores() == 3
