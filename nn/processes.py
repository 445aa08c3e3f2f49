"""Processes forked from this one, which do parts of its work over memory that they share."""

import math
import mmap
import os
import signal
import warnings
from contextlib import suppress
from multiprocessing import Pipe

import numpy as np


def shared(shape, dtype):
    """A zeroed array that processes forked from now on share. Pages never touched cost nothing."""
    size = math.prod(shape)
    memory = mmap.mmap(-1, max(1, size * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, size).reshape(shape)


def fork(worker):
    """(pipe, number) of a new process that calls methods of worker; see `serve`."""
    here, there = Pipe()
    with warnings.catch_warnings():
        # Python warns of forks beside threads, whose locks the child would wait for in vain. Ours
        # only computes: it waits for nothing but its pipe.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        serve(worker, there)
    there.close()
    return here, pid


def serve(worker, connection):
    """What a forked process does until the pipe is closed: for each ("method", *arguments) in it,
    worker.method(*arguments), whose result or exception goes back. Never returns."""
    keep = connection.fileno()
    os.closerange(3, keep)  # locks and others' pipes: they should end with their owners
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    for number in (signal.SIGINT, signal.SIGTERM):  # are for who gives the orders
        signal.signal(number, signal.SIG_IGN)
    np.seterr(over="ignore", invalid="ignore")  # of losses and energies, which are looked at
    try:
        while True:
            method, *arguments = connection.recv()
            try:
                reply = getattr(worker, method)(*arguments)
            except Exception as error:  # noqa: BLE001  raised again where the order came from
                reply = error
            connection.send(reply)
    finally:  # nobody is left who could give orders
        os._exit(0)


def ask(connection, method, *arguments):
    """Let a process do something; its `answer` says if it was ended."""
    with suppress(ConnectionError):
        connection.send((method, *arguments))


def answer(connection):
    """What a process says when its part is done, or an exception."""
    try:
        return connection.recv()
    except (EOFError, ConnectionError):
        return ChildProcessError("a process that shared the work was ended: out of memory?")


def end(connections, pids):
    """Let processes end, and wait until they have."""
    while connections:
        connections.pop().close()
    while pids:
        os.waitpid(pids.pop(), 0)
