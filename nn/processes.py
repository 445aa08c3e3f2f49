"""Processes forked from this one, which do parts of its work over memory that they share."""

import math
import mmap
import os
import pickle
import select
import signal
import time
import traceback
import warnings
import weakref
from contextlib import suppress
from multiprocessing import Pipe

import numpy as np

BUSY = 0.001  # seconds
SIGNALS = {signal.SIGINT, signal.SIGTERM}


def shared(shape, dtype):
    """A zeroed array that processes forked from now on share. Pages never touched cost nothing."""
    size = math.prod(shape)
    try:
        memory = mmap.mmap(-1, max(1, size * np.dtype(dtype).itemsize))
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no room for {shape} {np.dtype(dtype)} to share: {error}") from None
    return np.frombuffer(memory, dtype, size).reshape(shape)


class Workers:
    """`count` processes that call methods of `worker`, an object as it is at the fork.

    OSError if the system allows no more processes. They end with this object, or with the process
    that made it.
    """

    def __init__(self, worker, count):
        self.pipes, self.pids = [], []
        self.end = weakref.finalize(self, end, self.pipes, self.pids, os.getpid())
        try:
            for _ in range(count):
                self.fork(worker)
        except OSError as error:
            self.end()
            raise OSError(error.errno, f"no process to share the work: {error.strerror}") from None

    def fork(self, worker):
        """Add a process."""
        here, there = Pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child ignores them
        with warnings.catch_warnings():
            # Python warns of forks beside threads, whose locks the child would wait for in vain.
            # Ours only computes: it waits for nothing but its pipe.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            serve(worker, there, [here, *self.pipes])
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        self.pipes.append(here)
        self.pids.append(pid)

    def ask(self, place, method, *arguments):
        """Let a process call worker.method(*arguments)."""
        with suppress(ConnectionError):  # then its answer says that it has ended
            send(self.pipes[place], (method, *arguments))

    def answer(self, place):
        """What that call returned. Raises what it raised; ChildProcessError without an answer."""
        try:
            await_message(self.pipes[place])
            reply = self.pipes[place].recv()
        except (EOFError, ConnectionError):
            told = "a process that shared the work was killed: no memory left?"
            raise ChildProcessError(told) from None
        if isinstance(reply, Exception):
            raise reply
        return reply


def send(pipe, message):
    """pipe.send(message) in a third of the time: its own pickler is made for more than is sent."""
    pipe.send_bytes(pickle.dumps(message))


def await_message(pipe):
    """Look busily whether there is one, for a short while: a process that sleeps takes tens of
    microseconds to wake, and in a training step the next message is rarely a millisecond away."""
    poll = select.poll()
    poll.register(pipe.fileno(), select.POLLIN)
    end = time.perf_counter() + BUSY
    while not poll.poll(0) and time.perf_counter() < end:
        pass


def serve(worker, pipe, others):
    """What a forked process does until its pipe is closed: calls, and their answers. Never returns.

    others: the pipes that it has inherited and must not keep open.
    """
    try:
        for number in SIGNALS:  # are for the process that asks
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for other in others:
            other.close()
        keep = max(2, pipe.fileno())
        os.closerange(3, keep)  # open files, and their locks, are not for us
        os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
        np.seterr(over="ignore", invalid="ignore")  # of losses and energies, which are looked at
        while True:
            await_message(pipe)
            method, *arguments = pipe.recv()
            try:
                reply = getattr(worker, method)(*arguments)
            except Exception as error:  # noqa: BLE001  raised again where the answer is read
                if os.environ.get("TRACEBACK"):  # for whoever mends this program
                    traceback.print_exc()
                reply = sendable(error)
            send(pipe, reply)
    finally:  # nobody is left who could ask
        os._exit(0)


def sendable(error):
    """error, or what it says if it cannot go through a pipe."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001
        return RuntimeError(f"{type(error).__name__}: {error}")


def end(pipes, pids, owner):
    """Let processes end, and wait until they have."""
    if os.getpid() != owner:
        return  # a forked process has no children
    while pipes:
        pipes.pop().close()
    while pids:
        with suppress(ChildProcessError):  # where dead children are not waited for
            os.waitpid(pids.pop(), 0)
