"""The array library under test, and data for the command-line tests."""

import gzip
import os
import struct

import hypothesis
import numpy as np
import pytest

from fast.device import gpu_problem
from nn import backend

hypothesis.settings.register_profile("default", deadline=None, max_examples=100)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(params=["numpy", "cupy"], scope="session")
def xp(request):
    """NumPy, and CuPy where there is a GPU."""
    if request.param == "numpy":
        return np
    problem = gpu_problem()
    if problem:
        pytest.skip(f"not run on CuPy: {problem}")
    return backend.cupy


def idx_bytes(array):
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small_data(tmp_path):
    """A folder of four small IDX files in MNIST's format: 96 training and 32 test images."""
    folder = tmp_path / "small-data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", 96), ("t10k", 32)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28), np.uint8)
        for image, y in zip(images, labels, strict=True):
            image[2 * y : 2 * y + 4, 4:24] += 150  # a bar whose height tells the class
        for kind, array in (
            (f"{name}-images-idx3", images),
            (f"{name}-labels-idx1", labels),
        ):
            with gzip.open(folder / f"{kind}-ubyte.gz", "wb") as file:
                file.write(idx_bytes(array))
    return folder
