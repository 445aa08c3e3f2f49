"""When the memory is not enough: how much less would do."""

import traceback
from contextlib import contextmanager


def fits(network, images, xp, dtype):
    """Whether so many images go through the net, forward and back."""
    network.release()
    if hasattr(xp, "get_default_memory_pool"):  # CuPy keeps what it has freed, in other sizes
        xp.get_default_memory_pool().free_all_blocks()
    try:
        y = network.forward(xp.zeros((images, *network.input_shape), dtype), train=True)
        network.backward(xp.zeros_like(y))
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)  # of their arrays
        return False
    return True


def images_that_fit(network, tried, xp, dtype):
    """Half of the images tried, or a quarter, ...: the most that fit; 0 if not one does.

    One goes first: BLAS takes its own memory with it, and would end the program if there were none.
    """
    images = tried if tried > 1 and fits(network, 1, xp, dtype) else 0
    while images > 1:
        images //= 2
        if fits(network, images, xp, dtype):
            break
    return images


@contextmanager
def less_would_do(network, images, option, xp, dtype="float32"):
    """To a MemoryError in this block add how many of the `images` at a time would fit.

    option: what to lower. The net's parameters survive, all else that it holds is given up.
    """
    try:
        yield
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)
        fit = images_that_fit(network, images, xp, dtype)
        told = f"about {fit:,} at a time would fit" if fit else "not even one would fit"
        raise MemoryError(f"{error}; of {images:,} images {told}: lower {option}") from None
