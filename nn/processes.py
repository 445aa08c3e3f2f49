"""Processes forked from this one, which do parts of its work over memory that they share."""

import math
import mmap
import os
import pickle
import signal
import socket
import time
import traceback
import warnings
import weakref
from contextlib import suppress

import numpy as np

BUSY = 0.001  # seconds
LONGEST, TOLD = 2**16, 2**12  # bytes of a message, letters of an error that has no room in one
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
        here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child ignores them
        with warnings.catch_warnings():
            # Python warns of forks beside threads, whose locks the child would wait for in vain.
            # Ours only computes: it waits for nothing but its pipe.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                pid = os.fork()
                if pid == 0:
                    serve(worker, there, [here, *self.pipes])
                self.pids.append(pid)
                self.pipes.append(here)
            except OSError:
                here.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                there.close()

    def ask(self, place, method, *arguments):
        """Let a process call worker.method(*arguments)."""
        with suppress(ConnectionError):  # then its answer says that it has ended
            send(self.pipes[place], (method, *arguments))

    def answer(self, place):
        """What that call returned. Raises what it raised; ChildProcessError without an answer."""
        try:
            reply = receive(self.pipes[place])
        except (EOFError, ConnectionError):
            told = "a process that shared the work was killed: no memory left?"
            raise ChildProcessError(told) from None
        if isinstance(reply, Exception):
            raise reply
        return reply


def send(pipe, message):
    """Send a message: one packet, which arrives as a whole. ValueError if it is too long."""
    packet = pickle.dumps(message)
    if len(packet) > LONGEST:
        raise ValueError(f"a message of {len(packet)} bytes: at most {LONGEST} are read")
    pipe.sendall(packet)


def receive(pipe):
    """The next message; EOFError when the other end is closed.

    Looks busily whether there is one, for a short while: a process that sleeps takes tens of
    microseconds to wake, and in a training step the next message is rarely a millisecond away.
    """
    end = time.perf_counter() + BUSY
    while True:
        wait = 0 if time.perf_counter() > end else socket.MSG_DONTWAIT
        with suppress(BlockingIOError):
            packet = pipe.recv(LONGEST, wait)
            if not packet:
                raise EOFError
            return pickle.loads(packet)


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
            method, *arguments = receive(pipe)
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
    told = RuntimeError(f"{type(error).__name__}: {error}"[:TOLD])
    try:
        packet = pickle.dumps(error)
        pickle.loads(packet)
    except Exception:  # noqa: BLE001
        return told
    return error if len(packet) <= LONGEST else told


def end(pipes, pids, owner):
    """Let processes end, and wait until they have."""
    if os.getpid() != owner:
        return  # a forked process has no children
    for pipe in pipes:
        with suppress(OSError):  # it has ended before
            pipe.shutdown(socket.SHUT_RDWR)  # also if some other child has inherited the pipe
        pipe.close()
    while pids:
        with suppress(ChildProcessError):  # where dead children are not waited for
            os.waitpid(pids[-1], 0)
        pids.pop()
