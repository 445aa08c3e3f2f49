"""When the memory is not enough: how much less would do."""

import traceback
from contextlib import contextmanager

from nn.graphs import Recorded


def fits(network, images, xp, dtype):
    """Whether so many images go through the net, forward and back."""
    network.release()
    Recorded.forget_all()
    if hasattr(xp, "get_default_memory_pool"):  # CuPy keeps what it has freed, in other sizes
        xp.get_default_memory_pool().free_all_blocks()
    try:
        y = network.forward(xp.zeros((images, *network.input_shape), dtype), train=True)
        network.backward(xp.zeros_like(y))
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)  # of their arrays
        return False
    return True


def most_that_fit(network, tried, each, xp, dtype):
    """Half of the number tried, or a quarter, ...: the most that fit; 0 if not one does.

    each: images for every 1 of it. A single image goes first: BLAS takes its own memory with
    it, and would end the program if there were none.
    """
    count = tried if tried > 1 and fits(network, 1, xp, dtype) else 0
    while count:
        count //= 2
        if count and fits(network, count * each, xp, dtype):
            break
    return count


@contextmanager
def less_would_do(network, option, value, each, xp, dtype="float32"):
    """To a MemoryError in this block add with what value of `option` there would be no such error.

    value: what it is now; each: images at a time for every 1 of it (units for each chain, 2 where
    unlabelled images come in as well). The net's parameters survive, all else that it holds is
    given up.
    """
    try:
        yield
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)
        count = most_that_fit(network, value, each, xp, dtype)
        told = f"about {option} {count}" if count else f"not even {option} 1"
        why = f"{error}; " if str(error) else ""
        raise MemoryError(f"{why}{told} would fit, instead of {value}") from None
