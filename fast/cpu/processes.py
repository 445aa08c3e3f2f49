"""Processes forked from this one, which do parts of its work over memory that they share."""

import math
import mmap
import os
import pickle
import select
import signal
import socket
import time
import traceback
import warnings
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

BUSY = 0.001  # seconds
LONGEST, SHORTENED = 2**16, 2**12  # bytes of a message, letters of an error too long for one
LOOK = 1.0  # seconds of waiting after which the other process is looked at
GRACE = 5.0  # seconds that a process has to end, before it is killed
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
        pid = self.pids[place]
        try:
            reply = receive(self.pipes[place], lambda: check_alive(pid))
        except (EOFError, ConnectionError):
            self.pids.remove(pid)
            why = how_it_ended(pid)
            raise ChildProcessError(f"a process that shared the work {why}") from None
        if isinstance(reply, Exception):
            raise reply
        return reply


def check_alive(pid):
    """ChildProcessError if the process was stopped by a signal, so that it will never answer."""
    _, _, state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    if state.split()[0] in "Tt":
        os.kill(pid, signal.SIGKILL)
        raise ChildProcessError("a process that shared the work was stopped by a signal")


def how_it_ended(pid):
    """How a child that has closed its pipe came to its end, in words."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # where dead children are not waited for
        return "has ended"
    if not os.WIFSIGNALED(status):
        return f"has ended with status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    hint = ": no memory left?" if number == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(number).name}{hint}"


def send(pipe, message):
    """Send a message: one packet, which arrives as a whole. ValueError if it is too long."""
    packet = pickle.dumps(message)
    if len(packet) > LONGEST:
        raise ValueError(f"a message of {len(packet)} bytes: at most {LONGEST} are read")
    pipe.sendall(packet)


def receive(pipe, look=lambda: None):
    """The next message; EOFError when the other end is closed.

    For a short while this asks again and again whether there is one: a process that sleeps takes
    tens of microseconds to wake, and in a training step the next message is rarely a millisecond
    away. Then it waits, and calls look() at times.
    """
    end = time.perf_counter() + BUSY
    while True:
        with suppress(BlockingIOError):
            packet = pipe.recv(LONGEST, socket.MSG_DONTWAIT)
            if not packet:
                raise EOFError
            return pickle.loads(packet)
        if time.perf_counter() > end and not select.select([pipe], [], [], LOOK)[0]:
            look()


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
    in_words = RuntimeError(f"{type(error).__name__}: {error}"[:SHORTENED])
    try:
        packet = pickle.dumps(error)
        pickle.loads(packet)
    except Exception:  # noqa: BLE001
        return in_words
    return error if len(packet) <= LONGEST else in_words


def end(pipes, pids, owner):
    """Let processes end, and wait until they have."""
    if os.getpid() != owner:
        return  # a forked process has no children
    for pipe in pipes:
        with suppress(OSError):  # it has ended before
            pipe.shutdown(socket.SHUT_RDWR)  # also if some other child has inherited the pipe
        pipe.close()
    end = time.perf_counter() + GRACE
    while pids:
        with suppress(ChildProcessError):  # where dead children are not waited for
            if os.waitpid(pids[-1], os.WNOHANG) == (0, 0):
                if time.perf_counter() > end:  # it was stopped, or hangs
                    os.kill(pids[-1], signal.SIGKILL)
                time.sleep(0.001)
                continue
        pids.pop()
